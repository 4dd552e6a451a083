"""From received bytes to a stored result, on the real store; the models are fakes that can fail on command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from overread.bootstrap import Overread
from overread.dicom.create import ImageIdentity, RadiographAttributes, create_dx, encode, stable_uid
from overread.dicom.seg import HighdicomSegWriter
from overread.dicom.sr import HighdicomSrWriter
from overread.dicom.stacked import DicomVolumes
from overread.domain.analysis import AnalysisStatus
from overread.domain.errors import (
    AnalysisNotFound,
    Conflict,
    InferenceError,
    InvalidDicom,
    ModelOutOfMemory,
    ObjectStoreUnavailable,
    OverreadError,
    StudyNotFound,
    UnsupportedModality,
)
from overread.domain.evidence import InputSpec, Interval, ModelIdentity, OutputEvidence
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.study import ReceiveOutcome, TenantId
from overread.pipeline.analysers.contract import VolumeAnalyser
from overread.pipeline.ports import Model, Prediction
from overread.pipeline.triage import TriageTable
from overread.services.analyse import AnalyseService
from overread.services.assemble import ANALYSE_TASK, SR_TASK
from overread.services.segmentation import SegmentationService
from overread.services.structured_report import StructuredReportService
from overread.services.values import AnalysisFilter, AnalysisRow
from overread.store import roles
from tests.integration.records import SENDER

GOOD = Interval(value=0.95, low=0.93, high=0.97)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class ChestModel:
    """Says pneumothorax with confidence 0.9 of everything, or raises what it is told to."""

    errors: list[OverreadError] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    figures: Interval = GOOD
    identity: ModelIdentity = ModelIdentity(name="chest_xray", version="9.9.9", sha256="00")
    input: InputSpec = InputSpec(name="image", rows=32, columns=32, channels=1, mean=(0.0,), std=(1.0,))

    @property
    def outputs(self) -> tuple[OutputEvidence, ...]:
        return (
            OutputEvidence(
                finding="pneumothorax",
                threshold_show=0.3,
                threshold_raise=0.5,
                slope=1.0,
                intercept=0.0,
                sensitivity=self.figures,
                specificity=self.figures,
                auc=self.figures,
                cues_auc=0.5,
                patients=10,
                images=20,
                positives=5,
            ),
        )

    def predict(self, tensor: NDArray[np.float32]) -> Prediction:
        self.before()
        if self.errors:
            raise self.errors.pop(0)
        maps = np.full((1, 8, 8), -4.0, dtype=np.float32)
        maps[0, 2:4, 2:4] = 4.0
        return Prediction(logits=np.array([np.log(9.0)], dtype=np.float32), maps=maps)


@dataclass
class Shelf:
    chest: ChestModel

    def find(self, task: str) -> Model | None:
        return self.chest if task == "chest_xray" else None

    def pinned(self, task: str, version: str) -> Model | None:
        return self.chest if (task, version) == ("chest_xray", self.chest.identity.version) else None


@dataclass
class Bench:
    """One tenant, the services around it, and shortcuts."""

    overread: Overread
    tenant: TenantId
    model: ChestModel
    analysers: Sequence[VolumeAnalyser] = ()

    @property
    def service(self) -> AnalyseService:
        return AnalyseService(
            database=self.overread.database,
            objects=self.overread.objects,
            parser=self.overread.parser,
            volumes=DicomVolumes(),
            segmentation=SegmentationService(objects=self.overread.objects, writer=HighdicomSegWriter()),
            shelf=Shelf(self.model),
            analysers=self.analysers,
            clock=now,
            table=TriageTable.from_catalogue(),
        )

    def receive(self, number: int = 1, *, study: str = "s", series: str = "a", **changes: str) -> UUID:
        filed = self.overread.receive.receive(
            self.tenant, radiograph(number, study, series, **changes), SENDER, name="x"
        )
        assert filed.study_id is not None
        return filed.study_id

    def latest(self, study: UUID) -> AnalysisRow:
        with self.overread.database.unit(self.tenant) as unit:
            row = unit.analyses.latest_for_study(study)
        assert row is not None
        return row

    def all(self) -> tuple[AnalysisRow, ...]:
        with self.overread.database.unit(self.tenant) as unit:
            return unit.analyses.search(AnalysisFilter())[0]

    def jobs(self, task: str) -> list[tuple[str, int]]:
        """(analysis id, priority) of the waiting jobs of a task, as the worker would take them."""
        with psycopg.connect(self.overread.login(roles.WORKER, direct=True)) as connection:
            rows = connection.execute(
                "SELECT args->>'analysis', priority FROM procrastinate_jobs WHERE task_name = %s"
                " AND status = 'todo' AND args->>'tenant' = %s ORDER BY priority DESC, id",
                (task, self.tenant.slug),
            ).fetchall()
        return [(row[0], row[1]) for row in rows]


def radiograph(number: int, study: str, series: str, *, view: str = "PA", **changes: str) -> bytes:
    rng = np.random.default_rng(number)
    identity = ImageIdentity(
        study_uid=stable_uid("test", study),
        series_uid=stable_uid("test", study, series),
        sop_uid=stable_uid("test", study, series, str(number)),
        patient_id=changes.get("patient_id", "P1"),
        patient_name="PHANTOM^TEST",
        acquired=datetime(2026, 1, 1, tzinfo=UTC),
        instance_number=number,
    )
    attributes = RadiographAttributes(view=view, pixel_mm=0.4, bits=12)
    return encode(create_dx(rng.integers(0, 4096, (96, 96), dtype=np.uint16), identity, attributes))


@pytest.fixture
def bench(overread: Overread, tenant: TenantId) -> Bench:
    return Bench(overread=overread, tenant=tenant, model=ChestModel())


def test_a_radiograph_is_queued_at_once_and_comes_out_read(bench: Bench) -> None:
    study = bench.receive()
    pending = bench.latest(study)
    assert pending.status is AnalysisStatus.PENDING
    assert bench.jobs(ANALYSE_TASK) == [(str(pending.id), 0)]

    bench.service.run(bench.tenant, pending.id)
    done = bench.latest(study)
    assert done.status is AnalysisStatus.COMPLETED
    assert done.outcome is not None
    (finding,) = done.outcome.findings
    assert finding.finding_type == "pneumothorax"
    assert finding.confidence == pytest.approx(0.9, abs=1e-3)
    assert finding.bounding_box is not None
    assert not finding.exploratory
    assert done.priority is Level.CRITICAL
    assert "pneumothorax" in done.reason.lower()
    assert done.model_version == "chest_xray 9.9.9"
    assert any(n.finding_type == "rib_fracture" for n in done.outcome.not_assessed)
    assert [job[0] for job in bench.jobs(SR_TASK)] == [str(done.id)]


def test_a_finding_without_evidence_changes_no_order(bench: Bench) -> None:
    bench.model.figures = Interval(value=0.8, low=0.6, high=0.9)
    study = bench.receive()
    bench.service.run(bench.tenant, bench.latest(study).id)
    done = bench.latest(study)
    assert done.outcome is not None
    assert done.outcome.findings[0].exploratory
    assert done.priority is Level.ROUTINE
    assert "exploratory" in done.reason


def test_running_a_job_twice_gives_one_result(bench: Bench) -> None:
    study = bench.receive()
    analysis = bench.latest(study).id
    bench.service.run(bench.tenant, analysis)
    first = bench.latest(study)
    bench.service.run(bench.tenant, analysis)
    assert bench.latest(study) == first
    assert len(bench.all()) == 1


def test_only_the_last_claim_can_save(bench: Bench) -> None:
    """The worker that was believed dead comes back with its result: it is dropped, the other one's stands."""
    study = bench.receive()
    analysis = bench.latest(study).id
    service = bench.service

    def second_worker() -> None:
        bench.model.before = lambda: None
        service.run(bench.tenant, analysis)

    bench.model.before = second_worker
    service.run(bench.tenant, analysis)
    done = bench.latest(study)
    assert done.status is AnalysisStatus.COMPLETED
    assert done.attempts == 2
    assert done.outcome is not None
    assert len(done.outcome.findings) == 1


def test_cancelled_while_it_runs_stays_cancelled(bench: Bench) -> None:
    study = bench.receive()
    analysis = bench.latest(study).id
    bench.model.before = lambda: bench.overread.requests.cancel(bench.tenant, analysis, "me") and None
    bench.service.run(bench.tenant, analysis)
    assert bench.latest(study).status is AnalysisStatus.CANCELLED


def test_a_transient_error_waits_for_its_next_attempt_and_says_why(bench: Bench) -> None:
    study = bench.receive()
    analysis = bench.latest(study).id
    bench.model.errors = [ModelOutOfMemory("No memory."), ModelOutOfMemory("No memory.")]
    bench.service.run(bench.tenant, analysis)
    waiting = bench.latest(study)
    assert (waiting.status, waiting.error_code) == (AnalysisStatus.PENDING, "MODEL_OUT_OF_MEMORY")
    assert len(bench.jobs(ANALYSE_TASK)) == 2, "the first job, which a worker would have taken, and the next attempt"
    bench.service.run(bench.tenant, analysis)
    bench.service.run(bench.tenant, analysis)
    done = bench.latest(study)
    assert (done.status, done.attempts, done.error_code) == (AnalysisStatus.COMPLETED, 3, None)


def test_a_store_that_is_away_is_no_attempt_and_no_study_is_lost(bench: Bench) -> None:
    study = bench.receive()
    bench.model.errors = [ObjectStoreUnavailable("away") for _ in range(7)]
    for _ in range(7):
        bench.service.run(bench.tenant, bench.latest(study).id)
        waiting = bench.latest(study)
        assert (waiting.status, waiting.error_code) == (AnalysisStatus.PENDING, "OBJECT_STORE_UNAVAILABLE")
        assert waiting.attempts == 0
    bench.service.run(bench.tenant, bench.latest(study).id)
    done = bench.latest(study)
    assert (done.status, done.attempts, done.error_code) == (AnalysisStatus.COMPLETED, 1, None)


def test_three_attempts_then_failed_and_retry_is_offered(bench: Bench) -> None:
    study = bench.receive()
    analysis = bench.latest(study).id
    bench.model.errors = [ModelOutOfMemory("No memory.")] * 3
    for _ in range(3):
        bench.service.run(bench.tenant, analysis)
    failed = bench.latest(study)
    assert (failed.status, failed.error_code) == (AnalysisStatus.FAILED, "MODEL_OUT_OF_MEMORY")
    assert bench.overread.requests.retry(bench.tenant, analysis, "me") is AnalysisStatus.PENDING
    bench.service.run(bench.tenant, analysis)
    assert bench.latest(study).status is AnalysisStatus.COMPLETED
    with pytest.raises(Conflict):
        bench.overread.requests.retry(bench.tenant, analysis, "me")


def test_a_permanent_error_fails_at_once(bench: Bench) -> None:
    study = bench.receive()
    bench.model.errors = [InferenceError("The model cannot run this.")]
    bench.service.run(bench.tenant, bench.latest(study).id)
    failed = bench.latest(study)
    assert (failed.status, failed.attempts) == (AnalysisStatus.FAILED, 1)
    assert failed.error_message is not None
    assert "cannot run" in failed.error_message


def test_a_study_that_kills_its_worker_is_given_up(bench: Bench) -> None:
    study = bench.receive()
    analysis = bench.latest(study).id
    for _ in range(5):  # five workers claimed it and were never heard of again
        with bench.overread.database.unit(bench.tenant) as unit:
            assert unit.analyses.claim(analysis, now()) is not None
    bench.service.run(bench.tenant, analysis)
    assert (bench.latest(study).status, bench.latest(study).error_code) == (AnalysisStatus.FAILED, "WORKER_DIED")


def test_a_late_image_moves_a_pending_analysis_and_supersedes_a_finished_one(bench: Bench) -> None:
    study = bench.receive(1)
    first = bench.latest(study).id
    bench.receive(2)
    assert bench.latest(study).id == first
    assert bench.latest(study).revision == 2
    bench.service.run(bench.tenant, first)
    bench.receive(3)
    second = bench.latest(study)
    assert second.id != first
    assert (second.revision, second.status) == (3, AnalysisStatus.PENDING)
    assert second.priority is Level.CRITICAL, "what was found before is not forgotten while it is read again"
    with bench.overread.database.unit(bench.tenant) as unit:
        older = unit.analyses.get(first)
    assert older is not None
    assert older.superseded
    assert older.outcome is not None


def test_a_late_image_while_it_runs_is_analysed_afterwards(bench: Bench) -> None:
    study = bench.receive(1)
    first = bench.latest(study).id

    def late() -> None:
        bench.model.before = lambda: None
        bench.receive(2)

    bench.model.before = late
    bench.service.run(bench.tenant, first)
    second = bench.latest(study)
    assert second.id != first
    assert second.status is AnalysisStatus.PENDING
    bench.service.run(bench.tenant, second.id)
    assert bench.latest(study).status is AnalysisStatus.COMPLETED


def test_one_bad_image_leaves_the_others_read(bench: Bench) -> None:
    study = bench.receive(1)
    with bench.overread.database.unit(bench.tenant) as unit:
        (stored,) = unit.studies.instances(study)
    bench.receive(2)
    path = bench.overread.stored.path(bench.tenant, stored.object_key)  # type: ignore[attr-defined]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-2000])
    bench.service.run(bench.tenant, bench.latest(study).id)
    done = bench.latest(study)
    assert done.outcome is not None
    assert len(done.outcome.findings) == 1
    (problem,) = done.outcome.problems
    assert problem.instance == stored.record.sop_instance_uid


def test_refused_files_are_recorded_with_their_reason(bench: Bench) -> None:
    for data in (b"", b"this is no DICOM file", radiograph(1, "s", "a")[:200]):
        with pytest.raises(InvalidDicom):
            bench.overread.receive.receive(bench.tenant, data, SENDER, name="bad.dcm")
    with bench.overread.database.unit(bench.tenant) as unit:
        refused = unit.studies.rejections(10)
    assert len(refused) == 3
    assert all("bad.dcm" in r.message for r in refused)
    bench.receive(1)
    assert len(bench.all()) == 1, "the next study is unharmed"


def test_same_object_again_after_a_crash_before_the_acknowledgement(bench: Bench) -> None:
    data = radiograph(1, "s", "a")
    first = bench.overread.receive.receive(bench.tenant, data, SENDER, name="x")
    again = bench.overread.receive.receive(bench.tenant, data, SENDER, name="x")
    assert (first.outcome, again.outcome) == (ReceiveOutcome.STORED, ReceiveOutcome.DUPLICATE)
    assert len(bench.all()) == 1
    assert len(bench.jobs(ANALYSE_TASK)) == 1


def test_the_sr_is_written_once_and_kept(bench: Bench) -> None:
    study = bench.receive()
    analysis = bench.latest(study).id
    bench.service.run(bench.tenant, analysis)
    writer = StructuredReportService(
        database=bench.overread.database, objects=bench.overread.objects, writer=HighdicomSrWriter(), clock=now
    )
    writer.run(bench.tenant, analysis)
    key = bench.latest(study).sr_object_key
    assert key is not None
    document = bench.overread.objects.get(bench.tenant, key)
    record = bench.overread.parser.index(document, name="sr")
    assert record.modality == "SR"
    assert record.study_instance_uid == stable_uid("test", "s")
    writer.run(bench.tenant, analysis)
    assert bench.overread.objects.get(bench.tenant, key) == document


def test_our_own_sr_sent_back_to_us_is_filed_and_not_analysed(bench: Bench) -> None:
    test_the_sr_is_written_once_and_kept(bench)
    (row,) = bench.all()
    assert row.sr_object_key is not None
    document = bench.overread.objects.get(bench.tenant, row.sr_object_key)
    filed = bench.overread.receive.receive(bench.tenant, document, SENDER, name="sr")
    assert filed.outcome is ReceiveOutcome.STORED
    assert not filed.new_image
    replace(bench.overread.assemble, quiet_factor=0.0).sweep(bench.tenant)
    assert len(bench.all()) == 1


def test_requests(bench: Bench) -> None:
    study = bench.receive()
    requests = bench.overread.requests
    with pytest.raises(StudyNotFound) as missing:
        requests.create(bench.tenant, study="1.2.3.4", modality=None, priority=None, requested_by="me")
    assert missing.value.details["lookedIn"]
    with pytest.raises(UnsupportedModality):
        requests.create(bench.tenant, study=str(study), modality=Modality.CT, priority=None, requested_by="me")
    live = requests.create(
        bench.tenant, study=stable_uid("test", "s"), modality=Modality.XRAY, priority=Level.URGENT, requested_by="me"
    )
    assert live.analysis_id == bench.latest(study).id, "the live analysis covers the request"
    assert bench.latest(study).priority is Level.URGENT
    assert bench.jobs(ANALYSE_TASK)[0] == (str(live.analysis_id), 100)
    bench.service.run(bench.tenant, live.analysis_id)
    again = requests.create(bench.tenant, study=str(study), modality=None, priority=None, requested_by="me")
    assert again.analysis_id != live.analysis_id
    assert again.estimated_seconds > 0
    with pytest.raises(AnalysisNotFound):
        requests.cancel(bench.tenant, study, "me")
    requests.cancel(bench.tenant, again.analysis_id, "me")
    assert requests.cancel(bench.tenant, again.analysis_id, "me") is AnalysisStatus.CANCELLED
    with pytest.raises(Conflict):
        requests.cancel(bench.tenant, live.analysis_id, "me")
