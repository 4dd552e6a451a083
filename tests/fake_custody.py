"""`services.custody_ports.CustodyRepository` in memory, as strict as the database is."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from overread.domain.analysis import AnalysisStatus
from overread.domain.study import InCustody, StoredInstance
from overread.services.custody_ports import (
    CustodyItem,
    CustodyReport,
    CustodyRepository,
    CustodyRequest,
    InstanceFacts,
    ObjectFacts,
    Pacs,
    RequestState,
    SegFacts,
)

if TYPE_CHECKING:
    from tests.fakes import TenantState


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What the table `instances` says of one of them."""

    id: UUID
    study_id: UUID
    sop_instance_uid: str
    sop_class_uid: str
    object_key: str | None
    kept_since: datetime
    asked_at: datetime | None = None
    ae: str | None = None
    confirmed_at: datetime | None = None
    removed_at: datetime | None = None
    contested: bool = False


@dataclass
class CustodyState:
    """Of one tenant."""

    pacs: Pacs | None = None
    kept: dict[UUID, Kept] = field(default_factory=dict)
    requests: dict[str, CustodyRequest] = field(default_factory=dict)
    items: dict[str, tuple[CustodyItem, ...]] = field(default_factory=dict)
    #: When somebody looked at a study.
    viewed: dict[UUID, datetime] = field(default_factory=dict)

    def __copy__(self) -> CustodyState:
        return CustodyState(**{name: copy.copy(value) for name, value in vars(self).items()})

    def add(self, stored: StoredInstance, now: datetime) -> None:
        self.kept[stored.id] = Kept(
            id=stored.id,
            study_id=stored.study_id,
            sop_instance_uid=stored.record.sop_instance_uid,
            sop_class_uid=stored.record.sop_class_uid,
            object_key=stored.object_key,
            kept_since=now,
        )

    def returned(self, instance_id: UUID, object_key: str, now: datetime) -> bool:
        """Whether it had gone."""
        if instance_id not in self.kept or self.kept[instance_id].removed_at is None:
            return False
        self.change(instance_id, removed_at=None, object_key=object_key, kept_since=now)
        return True

    def contest(self, instance_id: UUID) -> None:
        if instance_id in self.kept:
            self.change(instance_id, contested=True)

    def change(self, instance_id: UUID, **changes: object) -> None:
        self.kept[instance_id] = replace(self.kept[instance_id], **changes)  # type: ignore[arg-type]

    def seen(self, stored: StoredInstance) -> StoredInstance:
        kept = self.kept.get(stored.id)
        if kept is None or kept.removed_at is None or kept.ae is None or kept.confirmed_at is None:
            return stored
        return replace(stored, object_key="", in_pacs=InCustody(ae_title=kept.ae, since=kept.confirmed_at))


class FakeCustody:
    def __init__(self, state: TenantState) -> None:
        self._state, self._custody = state, state.custody

    def pacs(self) -> Pacs | None:
        return self._custody.pacs

    def set_pacs(self, pacs: Pacs | None, *, by: str, now: datetime) -> None:
        self._custody.pacs = pacs

    def take_unconfirmed(
        self, ae_title: str, *, received_before: datetime, asked_before: datetime, now: datetime, limit: int
    ) -> tuple[CustodyItem, ...]:
        due = [
            k
            for k in self._custody.kept.values()
            if k.removed_at is None
            and k.ae != ae_title
            and k.kept_since <= received_before
            and (k.asked_at is None or k.asked_at < asked_before)
        ][:limit]
        for kept in due:
            self._custody.change(kept.id, asked_at=now)
        return tuple(
            CustodyItem(instance_id=k.id, sop_class_uid=k.sop_class_uid, sop_instance_uid=k.sop_instance_uid)
            for k in due
        )

    def begin(self, request: CustodyRequest, items: Sequence[CustodyItem]) -> None:
        self._custody.requests[request.transaction_uid] = request
        self._custody.items[request.transaction_uid] = tuple(items)

    def request(self, transaction_uid: str) -> CustodyRequest | None:
        return self._custody.requests.get(transaction_uid)

    def end(self, transaction_uid: str, state: RequestState, now: datetime, reason: str = "") -> None:
        request = self._custody.requests[transaction_uid]
        if request.state is RequestState.ASKED:
            self._custody.requests[transaction_uid] = replace(request, state=state)
        if state is RequestState.FAILED:
            for item in self._custody.items[transaction_uid]:
                self._custody.change(item.instance_id, asked_at=None)

    def expire(self, asked_before: datetime, now: datetime) -> int:
        over = [
            r for r in self._custody.requests.values() if r.state is RequestState.ASKED and r.asked_at < asked_before
        ]
        for request in over:
            self._custody.requests[request.transaction_uid] = replace(request, state=RequestState.EXPIRED)
        return len(over)

    def settle(self, request: CustodyRequest, report: CustodyReport, now: datetime) -> tuple[int, int]:
        items = self._custody.items[request.transaction_uid]
        yes = [
            i
            for i in items
            if i.sop_instance_uid in report.confirmed
            and i.sop_instance_uid not in report.refused
            and self._custody.kept[i.instance_id].removed_at is None
        ]
        for item in yes:
            self._custody.change(item.instance_id, ae=request.ae_title, confirmed_at=now)
        return len(yes), sum(i.sop_instance_uid in report.refused for i in items)

    def custody_counts(self) -> Mapping[str, int]:
        kept = self._custody.kept.values()
        return {
            "removed": sum(k.removed_at is not None for k in kept),
            "in custody": sum(k.removed_at is None and k.confirmed_at is not None for k in kept),
            "waiting": sum(k.confirmed_at is None for k in kept),
        }

    def confirmed(self, after: UUID | None, kept_before: datetime, limit: int) -> tuple[InstanceFacts, ...]:
        found = [
            k
            for k in sorted(self._custody.kept.values(), key=lambda k: k.id)
            if k.confirmed_at is not None
            and k.removed_at is None
            and (after is None or k.id > after)
            and k.kept_since <= kept_before
        ]
        return tuple(self._facts(k) for k in found[:limit])

    def lock_instance(self, instance_id: UUID) -> InstanceFacts | None:
        kept = self._custody.kept.get(instance_id)
        return None if kept is None or kept.removed_at is not None else self._facts(kept)

    def mark_removed(self, instance_id: UUID, now: datetime) -> None:
        if self._custody.kept[instance_id].confirmed_at is None:
            raise AssertionError("the constraint instances_removed_in_custody")
        self._custody.change(instance_id, removed_at=now, object_key=None)

    def _facts(self, kept: Kept) -> InstanceFacts:
        assert kept.object_key is not None
        return InstanceFacts(
            instance_id=kept.id,
            study_id=kept.study_id,
            object_key=kept.object_key,
            kept_since=kept.kept_since,
            custody_ae=kept.ae,
            custody_confirmed_at=kept.confirmed_at,
            assembled=kept.sop_instance_uid not in self._state.waiting,
            contested=kept.contested,
            needed=self._needed(kept.study_id),
            last_viewed=self._custody.viewed.get(kept.study_id),
        )

    def _needed(self, study_id: UUID) -> bool:
        live = (AnalysisStatus.PENDING, AnalysisStatus.PROCESSING)
        return any(a.study.id == study_id and a.status in live for a in self._state.analyses.values())

    def obsolete_segs(self, after: UUID | None, ended_before: datetime, limit: int) -> tuple[SegFacts, ...]:
        found = [f for a in sorted(self._state.analyses) if (f := self.lock_seg(a)) is not None and f.obsolete]
        return tuple(
            f
            for f in found
            if (after is None or f.analysis_id > after) and f.ended_at is not None and f.ended_at <= ended_before
        )[:limit]

    def lock_seg(self, analysis_id: UUID) -> SegFacts | None:
        row = self._state.analyses.get(analysis_id)
        if row is None or row.seg_object_key is None:
            return None
        return SegFacts(
            analysis_id=row.id,
            study_id=row.study.id,
            object_key=row.seg_object_key,
            obsolete=row.superseded or row.status in (AnalysisStatus.CANCELLED, AnalysisStatus.FAILED),
            ended_at=row.completed_at,
            needed=self._needed(row.study.id),
            last_viewed=self._custody.viewed.get(row.study.id),
        )

    def mark_seg_removed(self, analysis_id: UUID, now: datetime) -> None:
        self._state.analyses[analysis_id] = replace(
            self._state.analyses[analysis_id], seg_object_key=None, seg_removed_at=now
        )

    def facts(self, keys: Collection[str]) -> Mapping[str, ObjectFacts]:
        found = {
            k.object_key: ObjectFacts(instance=self._facts(k))
            for k in self._custody.kept.values()
            if k.object_key is not None and k.object_key in keys
        }
        for row in self._state.analyses.values():
            if row.seg_object_key in keys and (seg := self.lock_seg(row.id)) is not None:
                found[seg.object_key] = ObjectFacts(seg=seg)
            if row.sr_object_key is not None and row.sr_object_key in keys:
                found[row.sr_object_key] = ObjectFacts(other="SR")
        for rejection in self._state.rejections:
            if rejection.object_key is not None and rejection.object_key in keys:
                found[rejection.object_key] = ObjectFacts(other="refused")
        return found

    def object_keys(self) -> Iterator[str]:
        yield from [k.object_key for k in self._custody.kept.values() if k.object_key is not None]


def _proof(state: TenantState) -> CustodyRepository:
    """A type checker proves here that the fake has the shape of what it stands for."""
    return FakeCustody(state)
