"""What the use cases need from outside. `store`, `dicom` and `inference` implement it; `bootstrap` wires it.

Every method that touches data works for one tenant: a `UnitOfWork` is one transaction of one tenant's own login.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from overread.domain.analysis import AnalysisOutcome, AnalysisStatus
from overread.domain.features import NotAnalysed
from overread.domain.image import ImageInstance
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.series import StackedSeries
from overread.domain.study import InstanceRecord, Sender, StoredInstance, TenantId
from overread.render.outlines import SliceOutline
from overread.services.custody_ports import CustodyRepository
from overread.services.feature_ports import (
    FeatureRepository,
    OptOutRepository,
    PatientTrail,
    SettingsRepository,
    WorklistRepository,
)
from overread.services.identity_ports import ApiKeyRepository, ProviderRepository, SessionRepository, UserRepository
from overread.services.key_ports import PatientIndex
from overread.services.trail_ports import AuditLog, AuditTrail
from overread.services.values import (
    AnalysisFilter,
    AnalysisRow,
    Created,
    DisplayWindow,
    Event,
    Filed,
    OutlinedSegment,
    Rejection,
    SegRequest,
    SrRequest,
    StudyRow,
    WaitingStudy,
)


class DicomParser(Protocol):
    """`overread.dicom.read`."""

    def index(self, data: bytes | memoryview, *, name: str) -> InstanceRecord:
        """What the index keeps. `name` is the file's, for messages. Raises `InvalidDicom`."""
        ...

    def image(self, data: bytes, *, name: str, frame: int = 1, window: DisplayWindow | None = None) -> ImageInstance:
        """Header and a decoded frame (from 1), shown with `window`, in units of the modality, or as the file says.

        Raises `InvalidDicom` and its subclasses; `FrameNotFound` if there is no such frame.
        """
        ...


class VolumeReader(Protocol):
    """`overread.dicom.stacked`."""

    def stack(self, files: Sequence[tuple[str, Callable[[], bytes]]]) -> StackedSeries:
        """The volumes of a series' files, (name for messages, what reads it), in any order.

        Never raises for what is in a file; transient errors of the readers go through.
        """
        ...


class SrWriter(Protocol):
    """`overread.dicom.sr`."""

    def write(self, report: SrRequest) -> bytes:
        """A TID 1500 Comprehensive 3D SR as a DICOM file."""
        ...


class SegWriter(Protocol):
    """`overread.dicom.seg`."""

    def write(self, request: SegRequest) -> bytes:
        """A binary SEG as a DICOM file. Raises `NoSegmentation` where none can be made that is right."""
        ...


class StudyRepository(Protocol):
    """Studies, series and instances of the unit of work's tenant."""

    def file_instance(
        self, record: InstanceRecord, object_key: str, sender: Sender, now: datetime, keep: Callable[[], None]
    ) -> Filed:
        """Index one instance, idempotently; see `ReceiveOutcome`. Never overwrites.

        `keep` makes the object durable. It is called while the database already works, and before the transaction can
        commit: there is never an index entry without its object. Once, and once more for an instance whose object went
        to the PACS meanwhile. What it raises goes through.
        """
        ...

    def get(self, study_id: UUID) -> StudyRow | None: ...

    def find(self, study_id_or_uid: str) -> StudyRow | None:
        """By our id or by StudyInstanceUID (0020,000D)."""
        ...

    def instances(self, study_id: UUID) -> tuple[StoredInstance, ...]:
        """All current instances, sorted by series number, instance number, UID."""
        ...

    def waiting_for_assembly(self, limit: int) -> tuple[WaitingStudy, ...]:
        """Studies with instances that no revision covers yet, longest waiting first."""
        ...

    def assemble(self, study_id: UUID) -> StudyRow:
        """Close the present set of instances as a new revision if an image came; lock the study until commit."""
        ...

    def raise_queue_priority(self, study_id: UUID, level: Level) -> None:
        """Never lowers."""
        ...

    def set_not_analysed(self, study_id: UUID, why: NotAnalysed | None) -> None:
        """Say why the AI does not read the study; None once it does."""
        ...

    def of_patient(self, patient_id: str, issuer: str) -> tuple[StudyRow, ...]:
        """Studies of a patient, newest first. Without an issuer: of the number under any."""
        ...

    def record_rejection(self, rejection: Rejection) -> None:
        """Keep what was refused and why, where an admin can see it; the same file twice is one entry."""
        ...

    def rejections(self, limit: int) -> tuple[Rejection, ...]:
        """Newest first."""
        ...


class AnalysisRepository(Protocol):
    """Analyses, findings and what belongs to them."""

    def create(
        self, study: StudyRow, *, requested_by: str, queue_priority: Level, now: datetime, analysis_id: UUID
    ) -> Created:
        """A pending analysis of the study's present revision, or the live one that will cover it anyway.

        A pending analysis of an older revision is moved to the present one (its job has not started); a running one is
        marked superseded, and so are finished ones. What urgency they had is kept: nothing automatic lowers it.
        """
        ...

    def get(self, analysis_id: UUID) -> AnalysisRow | None: ...

    def latest_for_study(self, study_id: UUID) -> AnalysisRow | None: ...

    def search(self, flt: AnalysisFilter) -> tuple[tuple[AnalysisRow, ...], int]:
        """One page, and the total. Critical first, then urgent, then older first, as the worklist stands.

        With `repeat_only` the newest result first.
        """
        ...

    def claim(self, analysis_id: UUID, now: datetime) -> AnalysisRow | None:
        """pending or (stalled) processing -> processing. None if it is final or superseded."""
        ...

    def save_triage(self, analysis_id: UUID, urgency: Level, reason: str) -> None:
        """Urgency upwards only, before the rest of the result is there."""
        ...

    def complete(
        self, analysis_id: UUID, claim: UUID, outcome: AnalysisOutcome, now: datetime, processing_ms: int
    ) -> bool:
        """processing -> completed with its findings. False if it was cancelled, or claimed by another, meanwhile."""
        ...

    def fail(self, analysis_id: UUID, code: str, message: str, now: datetime) -> bool: ...

    def back_to_pending(self, analysis_id: UUID, code: str, message: str, *, counted: bool = True) -> None:
        """After a transient error: it waits for its next attempt, and says why. Not `counted`: it was no attempt."""
        ...

    def cancel(self, analysis_id: UUID, now: datetime) -> AnalysisStatus | None:
        """The status after it; None if there is no such analysis. Raises `Conflict` if completed or failed."""
        ...

    def withdraw(self, analysis_id: UUID, code: str, message: str, now: datetime) -> bool:
        """pending or processing -> cancelled, with the reason: it may not be analysed. False in any other state."""
        ...

    def reopen(self, analysis_id: UUID, now: datetime) -> bool:
        """failed or cancelled -> pending (Retry). False in any other state."""
        ...

    def attach_sr(self, analysis_id: UUID, object_key: str) -> None: ...

    def attach_seg(self, analysis_id: UUID, object_key: str, segment_count: int) -> None:
        """Where the SEG of this analysis lies, and how many segments are in it.

        Call it in the transaction of `complete`, after the object is put.
        """
        ...

    def unfinished(self) -> tuple[AnalysisRow, ...]:
        """Pending and processing ones, oldest first, without results."""
        ...

    def typical_seconds(self, modality: Modality | None, default: float) -> float:
        """Median processing time of the last analyses of this modality, in seconds; `default` if none."""
        ...

    def waiting_before(self, queue_priority: Level) -> int:
        """How many pending or running analyses would run before a new one of this priority."""
        ...


class OutlineRepository(Protocol):
    """Where the segments of an analysis lie on the slices: what the study page draws."""

    def save(self, analysis_id: UUID, outlines: Iterable[SliceOutline]) -> None:
        """Keep them; once for an analysis, in the transaction of `complete`."""
        ...

    def for_instance(self, analysis_id: UUID, sop_instance_uid: str, frame: int) -> tuple[SliceOutline, ...]:
        """Those on one slice, by segment number. `frame` is from 1."""
        ...

    def summary(self, analysis_id: UUID) -> tuple[OutlinedSegment, ...]:
        """Every segment once, by number; without polygons."""
        ...


class JobQueue(Protocol):
    """Enqueues inside the transaction. Jobs carry opaque ids only."""

    def enqueue(
        self, task: str, args: Mapping[str, str], *, priority: int, lock: str | None = None, delay_s: float = 0.0
    ) -> None: ...


class EventSink(Protocol):
    """Announces changes to listening pages when the transaction commits (ids only)."""

    def publish(self, kind: str, ids: Mapping[str, str]) -> None: ...


class UnitOfWork(Protocol):
    """One transaction of one tenant. Commits when the block ends well, else rolls back."""

    @property
    def tenant(self) -> TenantId: ...

    @property
    def studies(self) -> StudyRepository: ...

    @property
    def analyses(self) -> AnalysisRepository: ...

    @property
    def outlines(self) -> OutlineRepository: ...

    @property
    def worklist(self) -> WorklistRepository: ...

    @property
    def features(self) -> FeatureRepository: ...

    @property
    def opt_outs(self) -> OptOutRepository: ...

    @property
    def settings(self) -> SettingsRepository: ...

    @property
    def patient_trail(self) -> PatientTrail: ...

    @property
    def custody(self) -> CustodyRepository: ...

    @property
    def jobs(self) -> JobQueue: ...

    @property
    def events(self) -> EventSink: ...

    @property
    def audit(self) -> AuditTrail: ...

    @property
    def audit_log(self) -> AuditLog: ...

    @property
    def users(self) -> UserRepository: ...

    @property
    def sessions(self) -> SessionRepository: ...

    @property
    def api_keys(self) -> ApiKeyRepository: ...

    @property
    def provider(self) -> ProviderRepository: ...

    @property
    def patient_index(self) -> PatientIndex: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Database(Protocol):
    """Opens units of work."""

    def unit(self, tenant: TenantId) -> UnitOfWork:
        """Raises `StoreUnavailable` on entry if the database cannot be reached."""
        ...


class SenderDirectory(Protocol):
    """Which tenant a DICOM peer speaks for."""

    def tenant_of(self, *, called_ae: str, calling_ae: str, address: str, certificate_sha256: str | None) -> TenantId:
        """Raises `UnknownSender`: a called AE title alone is no identity."""
        ...


class EventSource(Protocol):
    """Hands committed events to listening pages."""

    def subscribe(self, tenant: TenantId) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Events of one tenant from now on; an event may be lost when the database restarts, so pages reload then."""
        ...


class Clock(Protocol):
    def __call__(self) -> datetime: ...
