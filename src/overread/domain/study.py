"""Study, Series, Instance as the product keeps them, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class TenantId:
    """The slug of a tenant: lower-case letters, digits and underscores, at most 40. Never empty.

    A value of its own, so that no function that touches data can be called without saying whose.
    """

    slug: str

    def __post_init__(self) -> None:
        s = self.slug
        if not (
            0 < len(s) <= 40 and s[0].isascii() and s[0].isalpha() and s.replace("_", "a").isalnum() and s.isascii()
        ):
            raise ValueError(f"not a tenant: {s!r}")
        if s != s.lower():
            raise ValueError(f"a tenant is lower case: {s!r}")

    def __str__(self) -> str:
        return self.slug


@dataclass(frozen=True, kw_only=True)
class InstanceRecord:
    """What the index keeps of an instance: the attributes that find, group and sort it. Text is cleaned unicode."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_instance_uid: str
    study_instance_uid: str
    #: PatientID (0010,0020), "" when missing.
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_birth_date: date | None
    patient_sex: str
    #: Modality (0008,0060); None when missing.
    modality: str | None
    body_part: str | None
    view_position: str | None
    study_description: str
    series_description: str
    accession_number: str
    study_datetime: datetime | None
    series_number: int | None
    instance_number: int | None
    rows: int | None
    columns: int | None
    number_of_frames: int
    #: sha256 of the whole file as it came, and of the pixels (PixelData and what decides how they read), hex.
    file_sha256: str
    pixel_sha256: str
    size_bytes: int
    #: Whether it is filed only: SR, presentation state, localizer, derived image, our own output.
    filed_only_reason: str | None = None
    #: ImagePositionPatient (0020,0032): x, y, z of the first pixel's centre, mm, LPS+; ImageOrientationPatient
    #: (0020,0037): unit vectors along a row and a column. None where missing or unusable, and in enhanced images.
    position_mm: tuple[float, float, float] | None = None
    orientation: tuple[float, ...] | None = None
    #: What was put right on the way in, one sentence each: a missing or unusable UID and what stands in for it.
    warnings: tuple[str, ...] = ()


class ReceiveOutcome(StrEnum):
    """What became of a received instance."""

    #: New and indexed.
    STORED = "stored"
    #: The very same instance was already there: accepted once.
    DUPLICATE = "duplicate"
    #: Same UID and pixels, another header: kept as a header revision.
    HEADER_REVISION = "header_revision"
    #: Same UID, other pixels: kept apart, never overwritten.
    QUARANTINED = "quarantined"


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Where an instance came from, for the log and the audit."""

    #: "dicom" or "http".
    channel: str
    #: AE title of the calling peer, or the user's name.
    name: str
    address: str


@dataclass(frozen=True, kw_only=True)
class InCustody:
    """An instance that is no longer here, because the PACS confirmed that it keeps it."""

    ae_title: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class StoredInstance:
    """An indexed instance and where its bytes lie."""

    id: UUID
    study_id: UUID
    record: InstanceRecord
    #: "" if they went to the PACS.
    object_key: str
    in_pacs: InCustody | None = None
