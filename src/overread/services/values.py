"""What goes in and out of the use cases besides the domain's words: rows, filters, outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from overread.domain.analysis import AnalysisOutcome, AnalysisStatus
from overread.domain.evidence import ModelIdentity
from overread.domain.features import Feature, NotAnalysed
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.segment import Segment
from overread.domain.study import ReceiveOutcome, Sender, TenantId
from overread.domain.volume import Volume


@dataclass(frozen=True, kw_only=True)
class SrRequest:
    """What an SR is made of."""

    analysis_id: UUID
    outcome: AnalysisOutcome
    #: One file per image of the study that the report refers to (patient and study attributes are copied from it).
    evidence: Sequence[bytes]
    sop_instance_uid: str
    series_instance_uid: str
    completed_at: datetime
    #: Each finding's tracking UID (112040, DCM), by finding id: stable over revisions.
    tracking_uids: Mapping[UUID, str]
    #: The SEG of the analysis, if one was written: measurements of its segments then refer to it.
    segmentation: SegReference | None = None


@dataclass(frozen=True, kw_only=True)
class SegReference:
    """A SEG as the SR refers to it."""

    sop_instance_uid: str
    series_instance_uid: str
    #: The series that was segmented.
    source_series_uid: str
    #: The segment (from 1) that outlines a finding, by finding id.
    findings: Mapping[UUID, int]
    #: The segment of an organ, by `Segment.key`.
    organs: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class SegRequest:
    """What a SEG is made of."""

    analysis_id: UUID
    #: Numbered from 1 in this order.
    segments: Sequence[Segment]
    #: The volume as `dicom.series` read it (slices along axis 0): the SEG has the slices of the files.
    stored: Volume
    #: One image file of the volume: patient, study and SOP class are taken from it.
    evidence: bytes
    #: Who outlined.
    model: ModelIdentity
    sop_instance_uid: str
    series_instance_uid: str
    #: DimensionOrganizationUID (0020,9164).
    dimension_uid: str
    completed_at: datetime
    #: Tracking UID of each finding that a segment outlines; the SR says the same.
    tracking_uids: Mapping[UUID, str]


@dataclass(frozen=True, kw_only=True)
class DisplayWindow:
    """What of the units (HU) is shown: black at center - width / 2, white at center + width / 2."""

    center: float
    width: float


@dataclass(frozen=True, kw_only=True)
class SlicePlace:
    """A slice of the series, where it lies in the files and in the sorted series."""

    sop_instance_uid: str
    #: Frame in the instance, from 1.
    frame_number: int
    #: From 0, as the slices of the volume are sorted.
    slice_index: int


@dataclass(frozen=True, kw_only=True)
class OutlinedSegment:
    """A segment whose outlines are kept, and where to look at it."""

    number: int
    key: str
    name: str
    finding_id: UUID | None
    #: On how many slices it is outlined.
    slice_count: int
    first: SlicePlace
    last: SlicePlace
    #: Where its outline encloses most.
    largest: SlicePlace


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """A study as the index has it."""

    id: UUID
    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    accession_number: str
    study_description: str
    study_datetime: datetime | None
    #: The wire's modality, from the study's image series.
    modality: Modality | None
    #: DICOM modalities in the study.
    dicom_modalities: tuple[str, ...]
    body_part: str | None
    #: Counts images that can be analysed, from 1; grows with each late instance.
    revision: int
    instance_count: int
    image_count: int
    received_first: datetime
    received_last: datetime
    queue_priority: Level
    #: More than one patient in one study: analysed per image, shown with a warning.
    patient_conflict: bool
    #: Why the AI did not read the present images, on purpose; None if it did, or will.
    not_analysed: NotAnalysed | None = None


@dataclass(frozen=True, kw_only=True)
class AnalysisRow:
    """An analysis as the database has it; `outcome` only once completed."""

    id: UUID
    study: StudyRow
    revision: int
    status: AnalysisStatus
    modality: Modality | None
    #: The higher of queue priority and urgency: what the wire calls `priority`.
    priority: Level
    queue_priority: Level
    urgency: Level | None
    #: Why the study stands where it stands, one line.
    reason: str
    requested_by: str
    requested_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    processing_ms: int | None
    model_version: str
    error_code: str | None
    error_message: str | None
    attempts: int
    superseded: bool
    sr_object_key: str | None
    seg_object_key: str | None = None
    #: Segments 1 to this are in the SEG; those of further volumes of the study are outlined only.
    seg_segment_count: int = 0
    #: When retention took the SEG away.
    seg_removed_at: datetime | None = None
    #: Proof of the present claim while processing; whoever was claimed away cannot save.
    claim: UUID | None = None
    outcome: AnalysisOutcome | None = None
    #: Tracking UID (112040, DCM) of each finding.
    tracking_uids: Mapping[UUID, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WorklistRow:
    """A line of the worklist: a study with its analysis, or one that has none and says why."""

    study: StudyRow
    #: None for a study that was never analysed; then `study.not_analysed` says why.
    analysis: AnalysisRow | None


@dataclass(frozen=True, kw_only=True)
class FeatureChange:
    """A line of the log of switches."""

    id: int
    feature: Feature
    #: The wire's modality; None: all that have no switch of their own.
    modality: str | None
    #: "enabled", "disabled", or "inherited": follows the general switch again.
    action: str
    performed_by: str
    reason: str
    performed_at: datetime


@dataclass(frozen=True, kw_only=True)
class OptOut:
    """A patient's objection to AI. Who it is, is not in here: only a pseudonym."""

    id: UUID
    #: The first 12 hexadecimal digits of the blind index.
    pseudonym: str
    #: It was given without an issuer, and holds for the number under any.
    any_issuer: bool
    reason: str
    added_by: str
    added_at: datetime
    removed_by: str | None = None
    removed_at: datetime | None = None
    removal_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class PatientEvents:
    """Rows of the audit trail that say the same of one patient: one actor, action, study and day."""

    action: str
    actor: str
    role: str
    study_id: UUID | None
    outcome: str
    first: datetime
    last: datetime
    times: int


@dataclass(frozen=True, kw_only=True)
class AnalysisFilter:
    """Filters of GET /api/image-analysis; None means any."""

    patient_id: str | None = None
    modality: Modality | None = None
    status: AnalysisStatus | None = None
    priority: Level | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    #: Free text over patient name, id, accession number, description.
    text: str | None = None
    #: Whether analyses of an older revision of a study are listed too.
    with_superseded: bool = True
    #: Only those whose images should be taken again, the newest result first: the patient may still be near.
    repeat_only: bool = False
    #: Only studies that the AI did not read on purpose (of the worklist, not of analyses).
    not_analysed_only: bool = False
    page: int = 1
    limit: int = 50


@dataclass(frozen=True, kw_only=True)
class UserRow:
    """Who may log in."""

    id: UUID
    tenant: TenantId
    name: str
    display_name: str
    role: str
    #: Empty for somebody who logs in with the hospital's identity provider.
    password_hash: str
    disabled: bool
    #: Grows when all tokens of the user end.
    epoch: int = 0
    must_change_password: bool = False
    #: TOTP secret, sealed (`services.access.sealed`); offered: not yet confirmed by a code.
    totp_secret: str | None = None
    totp_offered: str | None = None
    #: Who they are at the identity provider.
    issuer: str | None = None
    subject: str | None = None
    last_login_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TenantKeys:
    """A tenant's keys, unwrapped, 32 bytes each. Two states of a tenant's keys are two objects."""

    tenant: TenantId
    #: The version that encrypts what is new.
    active: int
    #: All versions that can still be read, by number.
    data: Mapping[int, bytes] = field(repr=False)
    #: What blind indexes and object names are made with; never rotated.
    index: bytes = field(repr=False)
    #: Whether objects from before encryption may still be read as they are.
    plain_readable: bool


@dataclass(frozen=True, kw_only=True)
class StoredSetting:
    """A setting of a tenant (`services.tenant_settings`), with who set it, when and why."""

    key: str
    #: Plain JSON; None: the default.
    value: Any
    changed_by: str
    changed_at: datetime
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """An object that was refused or quarantined."""

    code: str
    message: str
    sender: Sender
    received_at: datetime
    object_key: str | None = None
    file_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class WaitingStudy:
    """A study with instances that no revision covers yet."""

    study_id: UUID
    last_received: datetime
    #: The longest-waiting modality of the new images (CT before CR); None if none is an image of a known one.
    modality: Modality | None


@dataclass(frozen=True, kw_only=True)
class Filed:
    """What became of an instance."""

    outcome: ReceiveOutcome
    study_id: UUID | None
    #: Whether a new image came, so that the study needs a new revision.
    new_image: bool
    modality: Modality | None
    #: For quarantined ones: what was wrong, one sentence.
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Created:
    """What `AnalysisRepository.create` did."""

    analysis_id: UUID
    #: False: a live analysis was there already and covers the study's present revision.
    created: bool


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something changed: ids only, never a patient's data."""

    #: "analysis" or "study".
    kind: str
    ids: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A job that failed for good: opaque ids only."""

    job: int
    task: str
    tenant: str
    #: The ids that the job carried, for example {"analysis": "..."}.
    ids: Mapping[str, str]
    attempts: int
    at: datetime | None
