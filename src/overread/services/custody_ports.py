"""Who keeps the images, and what may go: what the use cases `custody` and `retention` need from outside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Pacs:
    """A hospital's archive, as a DICOM peer."""

    ae_title: str
    host: str
    port: int
    #: TLS 1.3, both sides with certificates (`OVERREAD_DICOM_TLS_*`).
    tls: bool = False
    #: Our AE title as the PACS knows it; it answers to that.
    own_ae_title: str = "OVERREAD"
    #: It is asked about instances that were received so many hours ago: what goes to both of us is there by then.
    ask_after_hours: int = 24


@dataclass(frozen=True, kw_only=True)
class CustodyItem:
    """An instance that the PACS is asked about."""

    instance_id: UUID
    sop_class_uid: str
    sop_instance_uid: str


class RequestState(StrEnum):
    """Of a storage commitment request."""

    ASKED = "asked"
    ANSWERED = "answered"
    #: It could not be sent, or was refused.
    FAILED = "failed"
    #: No answer in time; one that comes now is refused.
    EXPIRED = "expired"


@dataclass(frozen=True, kw_only=True)
class CustodyRequest:
    """One N-ACTION, by its Transaction UID (0008,1195)."""

    transaction_uid: str
    ae_title: str
    asked_at: datetime
    state: RequestState


@dataclass(frozen=True, kw_only=True)
class CustodyReport:
    """What an N-EVENT-REPORT says (PS3.4 J.3.3)."""

    transaction_uid: str
    #: SOPInstanceUIDs of ReferencedSOPSequence (0008,1199).
    confirmed: frozenset[str]
    #: Of FailedSOPSequence (0008,1198), with FailureReason (0008,1197).
    refused: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class InstanceFacts:
    """All that decides whether a received instance may go."""

    instance_id: UUID
    study_id: UUID
    object_key: str
    #: When it was received, or came again after it had gone.
    kept_since: datetime
    custody_ae: str | None
    custody_confirmed_at: datetime | None
    #: A revision of the study covers it.
    assembled: bool
    #: Another object came under the same UID, or the same with another header: which one the PACS has is not known.
    contested: bool
    #: An analysis of the study waits, runs, or has its SR yet to be written.
    needed: bool
    #: When somebody last looked at the study or something of it.
    last_viewed: datetime | None


@dataclass(frozen=True, kw_only=True)
class SegFacts:
    """All that decides whether a segmentation that we wrote may go."""

    analysis_id: UUID
    study_id: UUID
    object_key: str
    #: The analysis was overtaken by a newer one, cancelled or failed: no present result cites it.
    obsolete: bool
    ended_at: datetime | None
    needed: bool
    last_viewed: datetime | None


@dataclass(frozen=True, kw_only=True)
class ObjectFacts:
    """What names an object: at most one of the first two, or `other` says what it is ("SR", "header revision", ...)."""

    instance: InstanceFacts | None = None
    seg: SegFacts | None = None
    other: str = ""


class CustodyRepository(Protocol):
    """PACS, storage commitment and what became of objects, of one tenant."""

    def pacs(self) -> Pacs | None: ...

    def set_pacs(self, pacs: Pacs | None, *, by: str, now: datetime) -> None:
        """None: there is none any more, so nothing goes."""
        ...

    def take_unconfirmed(
        self, ae_title: str, *, received_before: datetime, asked_before: datetime, now: datetime, limit: int
    ) -> tuple[CustodyItem, ...]:
        """Instances that `ae_title` has not confirmed and was not asked about lately, oldest first; now it was."""
        ...

    def begin(self, request: CustodyRequest, items: Sequence[CustodyItem]) -> None: ...

    def request(self, transaction_uid: str) -> CustodyRequest | None:
        """Locked until commit."""
        ...

    def end(self, transaction_uid: str, state: RequestState, now: datetime, reason: str = "") -> None: ...

    def expire(self, asked_before: datetime, now: datetime) -> int:
        """How many requests got no answer in time."""
        ...

    def settle(self, request: CustodyRequest, report: CustodyReport, now: datetime) -> tuple[int, int]:
        """Note who was confirmed and refused, of those that this request named and no others: (confirmed, refused)."""
        ...

    def custody_counts(self) -> Mapping[str, int]:
        """Instances "in custody", "removed", "waiting"."""
        ...

    def confirmed(self, after: UUID | None, kept_before: datetime, limit: int) -> tuple[InstanceFacts, ...]:
        """Instances in custody whose object is here, by id."""
        ...

    def lock_instance(self, instance_id: UUID) -> InstanceFacts | None:
        """Nobody changes or restores it until commit. None: its object went already."""
        ...

    def mark_removed(self, instance_id: UUID, now: datetime) -> None:
        """The object is gone. The database refuses that without custody."""
        ...

    def obsolete_segs(self, after: UUID | None, ended_before: datetime, limit: int) -> tuple[SegFacts, ...]: ...

    def lock_seg(self, analysis_id: UUID) -> SegFacts | None: ...

    def mark_seg_removed(self, analysis_id: UUID, now: datetime) -> None: ...

    def facts(self, keys: Collection[str]) -> Mapping[str, ObjectFacts]:
        """Of the keys that any row names; the others are orphans."""
        ...

    def object_keys(self) -> Iterator[str]:
        """Of every object that should be here."""
        ...


class CommitmentPeer(Protocol):
    """`overread.dicom.commitment`: N-ACTION to the PACS."""

    def ask(
        self, pacs: Pacs, transaction_uid: str, items: Sequence[CustodyItem], take: Callable[[CustodyReport], None]
    ) -> None:
        """Returns once the PACS has taken the request. An answer that comes meanwhile is given to `take`.

        Raises `PacsUnavailable`.
        """
        ...
