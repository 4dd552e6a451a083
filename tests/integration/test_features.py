"""Switches, objections and the worklist on the real store: what is off is neither run nor saved."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from pydicom import dcmread

from overread.bootstrap import Overread
from overread.dicom.sr import HighdicomSrWriter
from overread.domain.analysis import AnalysisStatus
from overread.domain.audit import AuditAction
from overread.domain.errors import FeatureDisabled, PatientObjected
from overread.domain.features import Feature, Switch, WhyNot
from overread.domain.ids import uuid7
from overread.domain.image import ImageHeader
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.study import TenantId
from overread.domain.volume import Volume
from overread.pipeline.analysers.contract import ReadingContext, VolumeReading
from overread.services.access import Identity, Role
from overread.services.assemble import ANALYSE_TASK
from overread.services.features import FeatureService
from overread.services.optout import OptOutService
from overread.services.patient_report import Kind, PatientReportService
from overread.services.structured_report import StructuredReportService
from overread.services.values import AnalysisFilter, AnalysisRow, WorklistRow
from overread.store import roles
from tests.integration.test_analyses import Bench, ChestModel, now
from tests.integration.test_ct_analyses import Dense, ct_files, receive


@pytest.fixture
def bench(overread: Overread, tenant: TenantId) -> Bench:
    return Bench(overread=overread, tenant=tenant, model=ChestModel())


def turn(bench: Bench, feature: Feature, enabled: bool | None, modality: Modality | None = None) -> str:
    who = Identity(
        user_id=uuid7(),
        name="admin",
        display_name="admin",
        role=Role.ADMIN,
        tenant=bench.tenant,
        session="s",
        expires_at=now() + timedelta(hours=1),
    )
    service = FeatureService(database=bench.overread.database, clock=now, cache=bench.overread.assemble.features)
    return service.set(who, feature.value, modality=modality, enabled=enabled, reason="Under review")


def objections(bench: Bench) -> OptOutService:
    return OptOutService(database=bench.overread.database, clock=now)


def worklist(bench: Bench, **filters: object) -> tuple[tuple[WorklistRow, ...], int]:
    with bench.overread.database.unit(bench.tenant) as unit:
        return unit.worklist.search(AnalysisFilter(with_superseded=False, **filters))  # type: ignore[arg-type]


def why(bench: Bench, study: UUID) -> WhyNot | None:
    with bench.overread.database.unit(bench.tenant) as unit:
        row = unit.studies.get(study)
    assert row is not None
    return row.not_analysed.why if row.not_analysed else None


# --- the tables --------------------------------------------------------------------------------------------


def test_a_new_hospital_starts_with_what_there_is(bench: Bench) -> None:
    with bench.overread.database.unit(bench.tenant) as unit:
        features = unit.features.switches()
        history = unit.features.history(None, None, None, 100)
    absent = {Feature.PRIOR_COMPARISON, Feature.REPORT_GENERATION}
    assert {f for f in Feature if features.on(f, None)} == set(Feature) - absent
    assert {(c.feature, c.action) for c in history} == {(f, "disabled" if f in absent else "enabled") for f in Feature}


def test_switches_and_their_log(bench: Bench) -> None:
    moments = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    with bench.overread.database.unit(bench.tenant) as unit:
        for moment, modality, enabled in zip(
            moments, (None, Modality.CT, Modality.CT, None), (False, True, None, False), strict=True
        ):
            unit.features.set(
                Switch(
                    feature=Feature.PRIORITY_FLAGGING,
                    modality=modality,
                    enabled=enabled,
                    changed_by="admin",
                    changed_at=moment,
                    reason=f"day {moment.day}",
                )
            )
        features = unit.features.switches()
        log = unit.features.history(Feature.PRIORITY_FLAGGING, moments[0], moments[2], 10)
    assert [(c.reason, c.modality, c.action) for c in log] == [
        ("day 3", "CT", "inherited"),
        ("day 2", "CT", "enabled"),
        ("day 1", None, "disabled"),
    ]
    assert not features.on(Feature.PRIORITY_FLAGGING, Modality.CT)
    assert features.switches[(Feature.PRIORITY_FLAGGING, None)].reason == "day 4"
    with psycopg.connect(bench.overread.login(roles.tenant_role(bench.tenant))) as connection:
        row = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE t.modality IS NULL) FROM tenant_ai_features t"
            " JOIN ai_features f ON f.id = t.feature_id WHERE f.feature_key = 'priority_flagging'"
        ).fetchone()
    assert row == (2, 1)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ai_feature_audit_log SET performed_by = 'nobody'",
        "DELETE FROM ai_feature_audit_log",
        "DELETE FROM tenant_ai_features",
        "INSERT INTO ai_features (feature_key, feature_name, description, category) VALUES ('x', 'x', 'x', 'x')",
        "UPDATE ai_features SET feature_key = 'x'",
        "DELETE FROM patient_opt_outs",
    ],
)
def test_a_tenants_log_in_cannot(bench: Bench, statement: str) -> None:
    with (
        psycopg.connect(bench.overread.login(roles.tenant_role(bench.tenant))) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def test_a_second_general_row_is_refused(bench: Bench) -> None:
    with (
        psycopg.connect(bench.overread.login(roles.tenant_role(bench.tenant))) as connection,
        pytest.raises(psycopg.errors.UniqueViolation),
    ):
        connection.execute(
            "INSERT INTO tenant_ai_features (feature_id, enabled, reason, changed_by)"
            " SELECT feature_id, true, 'x', 'x' FROM tenant_ai_features WHERE modality IS NULL LIMIT 1"
        )


# --- detection ---------------------------------------------------------------------------------------------


def test_off_at_arrival_stored_and_listed_then_asked_for(bench: Bench) -> None:
    turn(bench, Feature.ABNORMALITY_DETECTION, False, Modality.XRAY)
    study = bench.receive()
    assert bench.jobs(ANALYSE_TASK) == [] and why(bench, study) is WhyNot.FEATURE_DISABLED
    (row,), total = worklist(bench)
    assert (row.study.id, row.analysis, total) == (study, None, 1)
    with bench.overread.database.unit(bench.tenant) as unit:
        assert unit.worklist.not_analysed() == 1
        assert len(unit.studies.instances(study)) == 1
    with pytest.raises(FeatureDisabled):
        bench.overread.requests.create(
            bench.tenant, study=str(study), modality=None, priority=None, requested_by="radiologist"
        )
    turn(bench, Feature.ABNORMALITY_DETECTION, True, Modality.XRAY)
    assert bench.jobs(ANALYSE_TASK) == []
    made = bench.overread.requests.create(
        bench.tenant, study=str(study), modality=None, priority=None, requested_by="radiologist"
    )
    bench.service.run(bench.tenant, made.analysis_id)
    assert bench.latest(study).status is AnalysisStatus.COMPLETED
    assert why(bench, study) is None
    assert worklist(bench, not_analysed_only=True) == ((), 0)


def test_off_before_the_job_runs(bench: Bench) -> None:
    study = bench.receive()
    turn(bench, Feature.ABNORMALITY_DETECTION, False)
    asked: list[int] = []
    bench.model.before = lambda: asked.append(1)
    bench.service.run(bench.tenant, bench.latest(study).id)
    row = bench.latest(study)
    assert asked == []
    assert (row.status, row.error_code, row.outcome) == (AnalysisStatus.CANCELLED, "FEATURE_DISABLED", None)
    assert why(bench, study) is WhyNot.FEATURE_DISABLED
    (listed,), _ = worklist(bench)
    assert listed.analysis is not None and listed.study.not_analysed is not None


def test_off_while_the_job_runs_nothing_is_saved(bench: Bench) -> None:
    study = bench.receive()
    bench.model.before = lambda: turn(bench, Feature.ABNORMALITY_DETECTION, False) and None
    bench.service.run(bench.tenant, bench.latest(study).id)
    row = bench.latest(study)
    assert (row.status, row.outcome) == (AnalysisStatus.CANCELLED, None)
    assert why(bench, study) is WhyNot.FEATURE_DISABLED
    with psycopg.connect(bench.overread.login(roles.tenant_role(bench.tenant))) as connection:
        assert connection.execute("SELECT count(*) FROM analysis_findings").fetchone() == (0,)


@pytest.mark.parametrize("when", ["before", "during"])
def test_quality_and_flagging_off_before_or_during_a_job(bench: Bench, when: str) -> None:
    def off() -> None:
        turn(bench, Feature.QUALITY_ASSESSMENT, False, Modality.XRAY)
        turn(bench, Feature.PRIORITY_FLAGGING, False)

    study = bench.receive(1, patient_id="P7")
    if when == "before":
        off()
    else:
        bench.model.before = off
    bench.service.run(bench.tenant, bench.latest(study).id)
    row = bench.latest(study)
    assert row.status is AnalysisStatus.COMPLETED and row.outcome is not None
    assert [f.finding_type for f in row.outcome.findings] == ["pneumothorax"]
    assert row.outcome.quality.level is None and "switched off" in row.outcome.quality.recommendations
    assert (
        row.outcome.triage.urgency is Level.ROUTINE and "priority flagging is switched off" in row.outcome.triage.reason
    )


def _numbers_in_sr(bench: Bench, row: AnalysisRow) -> int:
    """NUM items of the written DICOM SR."""
    StructuredReportService(
        database=bench.overread.database, objects=bench.overread.objects, writer=HighdicomSrWriter(), clock=now
    ).run(bench.tenant, row.id)
    key = bench.latest(row.study.id).sr_object_key
    assert key is not None
    report = dcmread(io.BytesIO(bench.overread.objects.get(bench.tenant, key)))
    kinds = [str(e.value) for e in report.iterall() if e.keyword == "ValueType"]
    assert "IMAGE" in kinds
    return kinds.count("NUM")


@pytest.mark.parametrize("when", ["never", "before", "during"])
def test_measurements_off_none_in_result_and_report(bench: Bench, when: str) -> None:
    class Measures(Dense):
        def read(self, volume: Volume, header: ImageHeader, context: ReadingContext) -> VolumeReading:
            if when == "during":
                turn(bench, Feature.AUTOMATED_MEASUREMENTS, False, Modality.CT)
            reading = super().read(volume, header, context)
            said = replace(reading.findings[0], description="Solid nodule of 6.1 x 5.2 mm in the air. A phantom.")
            return replace(reading, findings=(said,))

    ct = replace(bench, analysers=(Measures(),))
    row = receive(ct, ct_files())
    if when == "before":
        turn(bench, Feature.AUTOMATED_MEASUREMENTS, False)
    ct.service.run(ct.tenant, row.id)
    done = ct.latest(row.study.id)
    assert done.outcome is not None, done.error_message
    (finding,) = done.outcome.findings
    if when == "never":
        assert len(done.outcome.measurements) == 1 and "6.1" in finding.description
        assert _numbers_in_sr(ct, done) > 1
    else:
        assert done.outcome.measurements == () and finding.description == "A phantom."
        # The finding's confidence is a number too, and no measurement.
        assert _numbers_in_sr(ct, done) == 1


# --- objections --------------------------------------------------------------------------------------------


def test_an_objection_before_during_and_after(bench: Bench) -> None:
    done = bench.receive(1, study="before")
    bench.service.run(bench.tenant, bench.latest(done).id)
    waiting = bench.receive(2, study="waiting")
    running = bench.receive(3, study="running")
    made = []

    def object_now() -> None:
        bench.model.before = lambda: None
        made.append(
            objections(bench).add(bench.tenant, patient_id="P1", issuer="", reason="told the ward", by="technician")
        )

    bench.model.before = object_now
    bench.service.run(bench.tenant, bench.latest(running).id)
    after = bench.receive(4, study="after")
    assert (made[0].studies, made[0].cancelled) == (3, 2)
    assert [why(bench, s) for s in (done, waiting, running, after)] == [None, *[WhyNot.PATIENT_OBJECTED] * 3]
    assert bench.latest(done).outcome is not None
    assert {bench.latest(s).status for s in (waiting, running)} == {AnalysisStatus.CANCELLED}
    with pytest.raises(PatientObjected):
        bench.overread.requests.retry(bench.tenant, bench.latest(waiting).id, "radiologist")
    rows, total = worklist(bench, not_analysed_only=True)
    assert total == 3 and {r.study.id for r in rows} == {waiting, running, after}

    objections(bench).remove(bench.tenant, made[0].opt_out.id, reason="changed their mind", by="admin")
    bench.overread.requests.retry(bench.tenant, bench.latest(waiting).id, "radiologist")
    bench.service.run(bench.tenant, bench.latest(waiting).id)
    assert bench.latest(waiting).status is AnalysisStatus.COMPLETED and why(bench, waiting) is None


def test_nobody_can_read_the_list_in_the_database(bench: Bench) -> None:
    objections(bench).add(bench.tenant, patient_id="SECRET-77", issuer="HOSP", reason="x", by="admin")
    with psycopg.connect(bench.overread.login(roles.tenant_role(bench.tenant))) as connection:
        for table in ("patient_opt_outs", "audit_events"):
            rows = connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()
            assert rows and not [r for r in rows if "SECRET-77" in r[0]]
    assert objections(bench).find(bench.tenant, patient_id="SECRET-77", issuer="hosp") is not None


def test_the_report_for_a_patient(bench: Bench) -> None:
    study = bench.receive(1, study="mine")
    bench.service.run(bench.tenant, bench.latest(study).id)
    bench.receive(2, study="other", patient_id="P2")
    with bench.overread.database.unit(bench.tenant) as unit:
        for count in ({}, {"count": 41}):
            unit.audit.record(AuditAction.IMAGE_VIEW, actor="radiologist", study_id=study, **count)
    report = PatientReportService(database=bench.overread.database, clock=now).report(
        bench.tenant, patient_id="P1", issuer="", by="admin"
    )
    assert [s.id for s in report.studies] == [study]
    assert Kind.ANALYSED in {line.kind for line in report.lines}
    assert [(line.who, line.times) for line in report.lines if line.kind is Kind.LOOKED] == [("radiologist", 42)]
    assert {line.study for line in report.lines} == {report.studies[0].study_instance_uid}


# --- the worklist ------------------------------------------------------------------------------------------


def test_both_kinds_in_one_order_page_by_page(bench: Bench) -> None:
    studies: list[UUID] = []
    for number in range(1, 9):
        turn(bench, Feature.ABNORMALITY_DETECTION, number % 2 == 0)
        studies.append(bench.receive(number, study=f"s{number}"))
    with bench.overread.database.unit(bench.tenant) as unit:
        unit.studies.raise_queue_priority(studies[6], Level.CRITICAL)
    pages = [worklist(bench, page=page, limit=3) for page in (1, 2, 3, 4)]
    assert {total for _, total in pages} == {8}
    listed = [row.study.id for rows, _ in pages for row in rows]
    assert listed == [studies[6], *(s for s in studies if s != studies[6])]
    assert [r.analysis is None for r in worklist(bench)[0]] == [True, True, False, True, False, True, False, False]
    assert worklist(bench, status=AnalysisStatus.PENDING)[1] == 4
    assert worklist(bench, priority=Level.CRITICAL)[1] == 1
    assert worklist(bench, modality=Modality.CT) == ((), 0)
    assert worklist(bench, text="PHANTOM")[1] == 8
    assert worklist(bench, not_analysed_only=True)[1] == 4


def test_a_late_image_that_is_not_read_leaves_the_older_result(bench: Bench) -> None:
    study = bench.receive(1)
    bench.service.run(bench.tenant, bench.latest(study).id)
    turn(bench, Feature.ABNORMALITY_DETECTION, False)
    bench.receive(2)
    (row,), total = worklist(bench)
    assert total == 1 and row.analysis is not None and row.analysis.outcome is not None
    assert row.study.not_analysed is not None and row.analysis.revision < row.study.revision
