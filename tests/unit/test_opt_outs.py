"""Patients who object to AI, and the report of who saw a patient's studies."""

from __future__ import annotations

import pytest
from tests.app_on_fakes import ALPHA, BETA, World, make_finding, make_outcome, make_world

from overread.domain.analysis import AnalysisStatus
from overread.domain.errors import Conflict, InvalidRequest, NotFound, PatientObjected
from overread.domain.features import WhyNot
from overread.domain.priority import Level
from overread.services.patient_report import Kind
from overread.services.values import AnalysisFilter


@pytest.fixture
def world() -> World:
    return make_world()


def object_to(world: World, patient_id: str = "P-1", issuer: str = "") -> object:
    return world.services.opt_outs.add(
        ALPHA, patient_id=patient_id, issuer=issuer, reason="Told the ward on Monday", by="technician"
    )


def reason_of(world: World, study_id: object) -> WhyNot | None:
    with world.db.unit(ALPHA) as unit:
        study = unit.studies.get(study_id)  # type: ignore[arg-type]
    assert study is not None
    return study.not_analysed.why if study.not_analysed else None


def test_who_objects_is_not_analysed_and_everybody_sees_why(world: World) -> None:
    object_to(world)
    study_id, analysis, _ = world.receive_only()
    other, other_analysis, _ = world.receive_only(PatientID="P-2")
    assert analysis is None and other_analysis is not None
    assert (reason_of(world, study_id), reason_of(world, other)) == (WhyNot.PATIENT_OBJECTED, None)
    with pytest.raises(PatientObjected):
        world.services.requests.create(
            ALPHA, study=str(study_id), modality=None, priority=Level.CRITICAL, requested_by="radiologist"
        )
    with world.db.unit(ALPHA) as unit:
        rows, total = unit.worklist.search(AnalysisFilter(not_analysed_only=True))
    assert total == 1 and rows[0].study.not_analysed is not None
    assert rows[0].study.not_analysed.sentence.startswith("Not analysed: the patient objected (recorded by technician")
    denied = [facts for action, _, _, facts in world.db.state(ALPHA).audit if action == "feature.denied"]
    assert len(denied) == 2
    assert {e.code for e in world.db.state(ALPHA).trail if e.action == "feature.denied"} == {"PATIENT_OBJECTED"}


def test_what_waits_is_cancelled_and_results_stay(world: World) -> None:
    study_id, done, uid = world.receive(StudyInstanceUID="1.2.1")
    world.complete(done, make_outcome((make_finding("pneumothorax", uid),), Level.ROUTINE, "Routine: x"))
    waiting_study, waiting, _ = world.receive(StudyInstanceUID="1.2.2")
    made = object_to(world)
    assert (made.studies, made.cancelled) == (2, 1)  # type: ignore[attr-defined]
    with world.db.unit(ALPHA) as unit:
        before, row = unit.analyses.get(done), unit.analyses.get(waiting)
    assert before is not None and before.status is AnalysisStatus.COMPLETED and before.outcome is not None
    assert row is not None and (row.status, row.error_code) == (AnalysisStatus.CANCELLED, "PATIENT_OBJECTED")
    assert (reason_of(world, study_id), reason_of(world, waiting_study)) == (None, WhyNot.PATIENT_OBJECTED)


def test_taken_back_it_can_be_asked_for(world: World) -> None:
    made = object_to(world)
    study_id, _, _ = world.receive_only()
    world.services.opt_outs.remove(ALPHA, made.opt_out.id, reason="Changed their mind", by="admin")  # type: ignore[attr-defined]
    assert not [job for job in world.db.state(ALPHA).jobs if job[0] == "overread.analyse"]
    world.services.requests.create(ALPHA, study=str(study_id), modality=None, priority=None, requested_by="admin")
    assert reason_of(world, study_id) is None
    kept = world.services.opt_outs.all(ALPHA, by="admin", with_removed=True)
    assert [(o.removed_by, o.removal_reason) for o in kept] == [("admin", "Changed their mind")]
    assert world.services.opt_outs.all(ALPHA, by="admin") == ()
    with pytest.raises(NotFound):
        world.services.opt_outs.remove(ALPHA, kept[0].id, reason="again", by="admin")


@pytest.mark.parametrize(
    ("listed", "image", "found"),
    [
        ("", "", True),
        ("", "HOSP", True),
        ("HOSP", "HOSP", True),
        ("HOSP", "hosp", True),
        # An image that says no issuer may be anybody's with the number: the patient's word counts.
        ("HOSP", "", True),
        ("HOSP", "OTHER", False),
    ],
)
def test_issuers(world: World, listed: str, image: str, found: bool) -> None:
    object_to(world, issuer=listed)
    _, analysis, _ = world.receive_only(IssuerOfPatientID=image or None)
    assert (analysis is None) is found
    asked = world.services.opt_outs.find(ALPHA, patient_id=" P-1 ", issuer=image)
    assert (asked is not None) is found
    assert world.services.opt_outs.find(BETA, patient_id="P-1", issuer=image) is None


@pytest.mark.parametrize("number", ["", "  ", "UNKNOWN", "anonymous", "000000", "x" * 65, "a\nb"])
def test_a_number_that_names_nobody_is_refused(world: World, number: str) -> None:
    with pytest.raises(InvalidRequest):
        object_to(world, number)
    assert world.db.state(ALPHA).opt_outs == {}


def test_a_reason_is_required_and_once_is_enough(world: World) -> None:
    with pytest.raises(InvalidRequest):
        world.services.opt_outs.add(ALPHA, patient_id="P-1", issuer="", reason=" ", by="admin")
    object_to(world)
    with pytest.raises(Conflict):
        object_to(world)


def test_nobody_can_read_the_list(world: World) -> None:
    object_to(world, "SECRET-77")
    texts = [repr(world.services.opt_outs.all(ALPHA, by="admin")), repr(world.db.state(ALPHA).audit)]
    assert all("SECRET-77" not in text for text in texts)


def test_a_study_of_two_patients_is_not_read_if_one_objects(world: World) -> None:
    object_to(world, "P-2")
    _, first, _ = world.receive_only(StudyInstanceUID="1.2.9", PatientID="P-1")
    study_id, second, _ = world.receive_only(StudyInstanceUID="1.2.9", PatientID="P-2")
    assert first is not None and second == first
    assert reason_of(world, study_id) is WhyNot.PATIENT_OBJECTED


def test_the_report_of_who_saw_a_patients_studies(world: World) -> None:
    client = world.client()
    study_id, analysis, uid = world.receive()
    world.complete(analysis, make_outcome((make_finding("pneumothorax", uid),), Level.ROUTINE, "Routine: x"))
    other, *_ = world.receive(PatientID="P-2")
    for _ in range(3):
        assert client.get(f"/api/studies/{study_id}", headers=world.bearer()).status_code == 200
    client.get(f"/api/studies/{other}", headers=world.bearer())
    world.app.state.tally.flush(everything=True)
    report = world.services.patient_reports.report(ALPHA, patient_id="P-1", issuer="", by="admin")
    assert [s.id for s in report.studies] == [study_id]
    looked = [line for line in report.lines if line.kind is Kind.LOOKED]
    assert [(line.who, line.what, line.times) for line in looked] == [("radiologist", "opened the study", 3)]
    assert Kind.ANALYSED in {line.kind for line in report.lines}
    assert {line.study for line in report.lines} <= {report.studies[0].study_instance_uid, None}
    again = world.services.patient_reports.report(ALPHA, patient_id="P-1", issuer="", by="admin")
    assert [line.what for line in again.lines if line.kind is Kind.EXPORTED] == ["made such a report"]
    assert world.services.patient_reports.report(BETA, patient_id="P-1", issuer="", by="admin").lines == ()
