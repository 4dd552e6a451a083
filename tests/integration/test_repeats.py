"""The repeat list on the real store: who stands on it, in which order, and who no longer does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from overread import bootstrap
from overread.bootstrap import Overread
from overread.domain.analysis import QualityAssessment, QualityIssue, QualityLevel
from overread.domain.priority import Level
from overread.domain.study import TenantId
from overread.services.values import AnalysisFilter
from tests.app_on_fakes import make_dicom, make_outcome
from tests.integration.records import SENDER

BAD = QualityAssessment(
    level=QualityLevel.INADEQUATE,
    score=0.2,
    issues=(QualityIssue(type="motion_artifact", severity="severe", description="Edges are smeared."),),
    recommendations="Take the image again and ask the patient to hold the breath.",
    flagged_for_repeat=True,
)
GOOD = QualityAssessment(level=QualityLevel.ADEQUATE, score=0.97)


def _read(overread: Overread, tenant: TenantId, quality: QualityAssessment, minutes: int, **attributes: object) -> UUID:
    filed = overread.receive.receive(tenant, make_dicom(**attributes), SENDER, name="x.dcm")
    assert filed.study_id is not None
    with overread.database.unit(tenant) as unit:
        row = unit.analyses.latest_for_study(filed.study_id)
        assert row is not None
        claimed = unit.analyses.claim(row.id, bootstrap.now())
        assert claimed is not None and claimed.claim is not None
        outcome = replace(make_outcome((), Level.ROUTINE, "x"), quality=quality)
        at = bootstrap.now() + timedelta(minutes=minutes)
        assert unit.analyses.complete(row.id, claimed.claim, outcome, at, 10)
    return row.id


def test_only_flagged_present_results_newest_first(overread: Overread, tenant: TenantId) -> None:
    older = _read(overread, tenant, BAD, 1, PatientID="A", StudyInstanceUID="1.2.3")
    _read(overread, tenant, GOOD, 2, PatientID="B")
    newer = _read(overread, tenant, BAD, 3, PatientID="C")
    flt = AnalysisFilter(repeat_only=True, with_superseded=False)
    with overread.database.unit(tenant) as unit:
        rows, total = unit.analyses.search(flt)
        assert ([row.id for row in rows], total) == ([newer, older], 2)
        assert rows[0].outcome is not None and rows[0].outcome.quality == BAD
        assert unit.analyses.search(AnalysisFilter(repeat_only=True, patient_id="B")) == ((), 0)
    # The image was taken again and sent: what was said of the old one is superseded.
    overread.receive.receive(
        tenant, make_dicom(PatientID="A", StudyInstanceUID="1.2.3", InstanceNumber=2), SENDER, name="y.dcm"
    )
    with overread.database.unit(tenant) as unit:
        assert [row.id for row in unit.analyses.search(flt)[0]] == [newer]
