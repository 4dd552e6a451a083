"""In-memory fakes of `services.ports`, honest ones: a unit of work that fails leaves nothing behind, tenants are apart,
ids are opaque, and whatever the real store refuses the fake refuses too.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from overread.domain.analysis import AnalysisOutcome, AnalysisStatus
from overread.domain.audit import Actor, AuditAction, AuditEvent, AuditFilter, AuditOutcome, PatientRef
from overread.domain.errors import Conflict, ObjectMissing, StoreUnavailable
from overread.domain.features import CATALOGUE, Feature, Features, NotAnalysed, Switch
from overread.domain.ids import uuid7
from overread.domain.modality import Modality, modality_of
from overread.domain.priority import Level, higher
from overread.domain.study import InstanceRecord, ReceiveOutcome, Sender, StoredInstance, TenantId
from overread.render.outlines import SliceOutline
from overread.services import acting
from overread.services.feature_ports import COUNTED_AT_MOST
from overread.services.identity_values import ApiKeyRow, ProviderRow
from overread.services.object_ports import KeptObject, KeptObjects
from overread.services.ports import Database, EventSource
from overread.services.values import (
    AnalysisFilter,
    AnalysisRow,
    Created,
    Event,
    FeatureChange,
    Filed,
    OptOut,
    OutlinedSegment,
    PatientEvents,
    Rejection,
    SlicePlace,
    StoredSetting,
    StudyRow,
    UserRow,
    WaitingStudy,
    WorklistRow,
)
from overread.store.cipher import words_of
from tests.fake_custody import CustodyState, FakeCustody
from tests.fake_identity import FakeApiKeys, FakeProvider, FakeSessions, FakeUsers


class FakeClock:
    """Stands still until told."""

    def __init__(self, now: datetime = datetime(2026, 1, 15, 3, 0, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)


_AT_FIRST = {
    (e.key, None): Switch(
        feature=e.key,
        modality=None,
        enabled=e.exists,
        changed_by="installation",
        changed_at=datetime(2026, 1, 1, tzinfo=UTC),
        reason="On from the start." if e.exists else "Not in this version yet.",
    )
    for e in CATALOGUE
}


@dataclass
class TenantState:
    """All that one tenant has."""

    studies: dict[UUID, StudyRow] = field(default_factory=dict)
    instances: dict[str, StoredInstance] = field(default_factory=dict)
    analyses: dict[UUID, AnalysisRow] = field(default_factory=dict)
    outlines: dict[UUID, tuple[SliceOutline, ...]] = field(default_factory=dict)
    users: dict[str, UserRow] = field(default_factory=dict)
    recovery_codes: dict[tuple[UUID, str], bool] = field(default_factory=dict)
    revoked: dict[str, UUID] = field(default_factory=dict)
    failures: dict[tuple[str, str], tuple[int, datetime]] = field(default_factory=dict)
    api_keys: dict[str, ApiKeyRow] = field(default_factory=dict)
    provider: list[ProviderRow] = field(default_factory=list)
    audit: list[tuple[str, str, UUID | None, dict[str, Any]]] = field(default_factory=list)
    #: The same rows in full.
    trail: list[AuditEvent] = field(default_factory=list)
    jobs: list[tuple[str, dict[str, str], int]] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    #: As the migration leaves them: what exists is on.
    switches: dict[tuple[Feature, Modality | None], Switch] = field(default_factory=lambda: dict(_AT_FIRST))
    feature_log: list[FeatureChange] = field(default_factory=list)
    #: Objections, and the blind indexes of patient and number of each.
    opt_outs: dict[UUID, OptOut] = field(default_factory=dict)
    opt_out_keys: dict[UUID, tuple[bytes, bytes]] = field(default_factory=dict)
    settings: dict[str, StoredSetting] = field(default_factory=dict)
    #: What decides about received instances (`tests.fake_custody`).
    custody: CustodyState = field(default_factory=CustodyState)
    #: SOPInstanceUIDs that no revision covers yet.
    waiting: dict[str, datetime] = field(default_factory=dict)


class FakeEvents:
    """Both ends: what units publish on commit reaches those who listen."""

    def __init__(self) -> None:
        self._queues: dict[str, list[asyncio.Queue[Event]]] = {}
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}

    def announce(self, tenant: TenantId, event: Event) -> None:
        for queue in self._queues.get(tenant.slug, []):
            self._loops[id(queue)].call_soon_threadsafe(queue.put_nowait, event)

    @asynccontextmanager
    async def _subscription(self, tenant: TenantId) -> AsyncIterator[AsyncIterator[Event]]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._queues.setdefault(tenant.slug, []).append(queue)
        self._loops[id(queue)] = asyncio.get_running_loop()

        async def events() -> AsyncIterator[Event]:
            while True:
                yield await queue.get()

        try:
            yield events()
        finally:
            self._queues[tenant.slug].remove(queue)
            del self._loops[id(queue)]

    def subscribe(self, tenant: TenantId) -> Any:
        return self._subscription(tenant)

    def listeners(self, tenant: TenantId) -> int:
        return len(self._queues.get(tenant.slug, []))


class FakeObjects:
    """Bytes in a dict."""

    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        self._bytes: dict[tuple[str, str], bytes] = {}
        self._times: dict[tuple[str, str], datetime] = {}
        self._clock = clock or FakeClock()

    def put(self, tenant: TenantId, key: str, data: bytes | memoryview) -> None:
        self._bytes[(tenant.slug, key)] = bytes(data)
        self._times[(tenant.slug, key)] = self._clock()

    def get(self, tenant: TenantId, key: str) -> bytes:
        try:
            return self._bytes[(tenant.slug, key)]
        except KeyError:
            raise ObjectMissing("The object is not in the store.") from None

    def exists(self, tenant: TenantId, key: str) -> bool:
        return (tenant.slug, key) in self._bytes

    def list(self, tenant: TenantId, prefix: str = "") -> Iterator[KeptObject]:
        for (slug, key), data in list(self._bytes.items()):
            if slug == tenant.slug and key.startswith(prefix):
                yield KeptObject(
                    key=key, size=len(data), modified=self._times[slug, key], tag=hashlib.sha256(data).hexdigest()
                )

    def delete(self, tenant: TenantId, key: str) -> None:
        self._bytes.pop((tenant.slug, key), None)

    def move(self, tenant: TenantId, source: str, target: str) -> None:
        self.put(tenant, target, self.get(tenant, source))
        self.delete(tenant, source)


class FakeStudies:
    def __init__(self, state: TenantState) -> None:
        self._state = state

    def file_instance(
        self, record: InstanceRecord, object_key: str, sender: Sender, now: datetime, keep: Callable[[], None]
    ) -> Filed:
        keep()
        state = self._state
        study = self.find(record.study_instance_uid)
        known = state.instances.get(record.sop_instance_uid)
        if known is not None:
            outcome = ReceiveOutcome.DUPLICATE
            if known.record.file_sha256 == record.file_sha256:
                if state.custody.returned(known.id, object_key, now):
                    keep()
            else:
                state.custody.contest(known.id)
            if known.record.pixel_sha256 != record.pixel_sha256:
                outcome = ReceiveOutcome.QUARANTINED
                self.record_rejection(
                    Rejection(
                        code="DUPLICATE_UID",
                        message="An instance with this SOPInstanceUID and other pixels is here already.",
                        sender=sender,
                        received_at=now,
                        object_key=object_key,
                        file_sha256=record.file_sha256,
                    )
                )
            elif known.record.file_sha256 != record.file_sha256:
                outcome = ReceiveOutcome.HEADER_REVISION
            row = state.studies[known.study_id]
            return Filed(outcome=outcome, study_id=row.id, new_image=False, modality=row.modality)
        is_image = record.filed_only_reason is None
        modality = modality_of(record.modality) if is_image else None
        if study is None:
            study = StudyRow(
                id=uuid7(),
                study_instance_uid=record.study_instance_uid,
                patient_id=record.patient_id,
                issuer_of_patient_id=record.issuer_of_patient_id,
                patient_name=record.patient_name,
                patient_birth_date=record.patient_birth_date.isoformat() if record.patient_birth_date else "",
                patient_sex=record.patient_sex,
                accession_number=record.accession_number,
                study_description=record.study_description,
                study_datetime=record.study_datetime,
                modality=modality,
                dicom_modalities=(),
                body_part=record.body_part,
                revision=0,
                instance_count=0,
                image_count=0,
                received_first=now,
                received_last=now,
                queue_priority=Level.ROUTINE,
                patient_conflict=False,
            )
        study = replace(
            study,
            modality=study.modality or modality,
            dicom_modalities=tuple(sorted({*study.dicom_modalities, record.modality or ""} - {""})),
            instance_count=study.instance_count + 1,
            image_count=study.image_count + is_image,
            received_last=now,
            patient_conflict=study.patient_conflict or study.patient_id != record.patient_id,
        )
        state.studies[study.id] = study
        state.instances[record.sop_instance_uid] = StoredInstance(
            id=uuid7(), study_id=study.id, record=record, object_key=object_key
        )
        state.custody.add(state.instances[record.sop_instance_uid], now)
        if is_image:
            state.waiting[record.sop_instance_uid] = now
        return Filed(
            outcome=ReceiveOutcome.STORED, study_id=study.id, new_image=is_image, modality=modality_of(record.modality)
        )

    def get(self, study_id: UUID) -> StudyRow | None:
        return self._state.studies.get(study_id)

    def find(self, study_id_or_uid: str) -> StudyRow | None:
        return next(
            (s for s in self._state.studies.values() if study_id_or_uid in (str(s.id), s.study_instance_uid)), None
        )

    def instances(self, study_id: UUID) -> tuple[StoredInstance, ...]:
        mine = [self._state.custody.seen(i) for i in self._state.instances.values() if i.study_id == study_id]
        return tuple(
            sorted(
                mine,
                key=lambda i: (i.record.series_number or 0, i.record.instance_number or 0, i.record.sop_instance_uid),
            )
        )

    def waiting_for_assembly(self, limit: int) -> tuple[WaitingStudy, ...]:
        last: dict[UUID, datetime] = {}
        for uid, moment in self._state.waiting.items():
            study_id = self._state.instances[uid].study_id
            last[study_id] = max(moment, last.get(study_id, moment))
        waiting = [
            WaitingStudy(study_id=i, last_received=t, modality=self._state.studies[i].modality) for i, t in last.items()
        ]
        return tuple(sorted(waiting, key=lambda w: w.last_received)[:limit])

    def assemble(self, study_id: UUID) -> StudyRow:
        mine = [uid for uid in self._state.waiting if self._state.instances[uid].study_id == study_id]
        for uid in mine:
            del self._state.waiting[uid]
        study = self._state.studies[study_id]
        self._state.studies[study_id] = replace(study, revision=study.revision + bool(mine))
        return self._state.studies[study_id]

    def raise_queue_priority(self, study_id: UUID, level: Level) -> None:
        study = self._state.studies[study_id]
        self._state.studies[study_id] = replace(study, queue_priority=higher(study.queue_priority, level))

    def set_not_analysed(self, study_id: UUID, why: NotAnalysed | None) -> None:
        self._state.studies[study_id] = replace(self._state.studies[study_id], not_analysed=why)

    def of_patient(self, patient_id: str, issuer: str) -> tuple[StudyRow, ...]:
        mine = [s for s in self._state.studies.values() if s.patient_id == patient_id]
        mine = [s for s in mine if not issuer or s.issuer_of_patient_id == issuer]
        return tuple(sorted(mine, key=lambda s: s.received_first, reverse=True))

    def record_rejection(self, rejection: Rejection) -> None:
        self._state.rejections.append(rejection)

    def rejections(self, limit: int) -> tuple[Rejection, ...]:
        return tuple(reversed(self._state.rejections))[:limit]


class FakeAnalyses:
    def __init__(self, state: TenantState) -> None:
        self._state = state

    def _change(self, analysis_id: UUID, **changes: Any) -> None:
        self._state.analyses[analysis_id] = replace(self._state.analyses[analysis_id], **changes)

    def _with_study(self, row: AnalysisRow) -> AnalysisRow:
        return replace(row, study=self._state.studies[row.study.id])

    def create(
        self, study: StudyRow, *, requested_by: str, queue_priority: Level, now: datetime, analysis_id: UUID
    ) -> Created:
        urgency: Level | None = None
        for row in list(self._state.analyses.values()):
            if row.study.id != study.id or row.superseded:
                continue
            if row.status is AnalysisStatus.PENDING or (not row.status.is_final and row.revision == study.revision):
                level = higher(row.queue_priority, queue_priority)
                self._change(row.id, revision=study.revision, queue_priority=level, priority=higher(level, row.urgency))
                return Created(analysis_id=row.id, created=False)
            urgency = higher(urgency, row.urgency) if row.urgency else urgency
            self._change(row.id, superseded=True)
        self._state.analyses[analysis_id] = AnalysisRow(
            id=analysis_id,
            study=study,
            revision=study.revision,
            status=AnalysisStatus.PENDING,
            modality=study.modality,
            priority=higher(queue_priority, urgency),
            queue_priority=queue_priority,
            urgency=urgency,
            reason="",
            requested_by=requested_by,
            requested_at=now,
            started_at=None,
            completed_at=None,
            processing_ms=None,
            model_version="",
            error_code=None,
            error_message=None,
            attempts=0,
            superseded=False,
            sr_object_key=None,
        )
        return Created(analysis_id=analysis_id, created=True)

    def get(self, analysis_id: UUID) -> AnalysisRow | None:
        row = self._state.analyses.get(analysis_id)
        return self._with_study(row) if row else None

    def latest_for_study(self, study_id: UUID) -> AnalysisRow | None:
        mine = [self._with_study(a) for a in self._state.analyses.values() if a.study.id == study_id]
        return max(mine, key=lambda a: (a.requested_at, a.id), default=None)

    def search(self, flt: AnalysisFilter) -> tuple[tuple[AnalysisRow, ...], int]:
        rows = [self._with_study(a) for a in self._state.analyses.values() if _matches(self._with_study(a), flt)]
        rows.sort(key=lambda a: (-a.priority.rank, a.requested_at, a.id))
        if flt.repeat_only:
            rows.sort(key=lambda a: a.completed_at or a.requested_at, reverse=True)
        start = (flt.page - 1) * flt.limit
        return tuple(rows[start : start + flt.limit]), len(rows)

    def claim(self, analysis_id: UUID, now: datetime) -> AnalysisRow | None:
        row = self._state.analyses.get(analysis_id)
        if row is None or row.status.is_final or row.superseded:
            return None
        self._change(
            analysis_id,
            status=AnalysisStatus.PROCESSING,
            started_at=now,
            attempts=row.attempts + 1,
            claim=uuid7(),
        )
        return self.get(analysis_id)

    def save_triage(self, analysis_id: UUID, urgency: Level, reason: str) -> None:
        row = self._state.analyses[analysis_id]
        if higher(row.urgency, urgency) is urgency:
            self._change(analysis_id, urgency=urgency, reason=reason, priority=higher(row.queue_priority, urgency))

    def complete(
        self, analysis_id: UUID, claim: UUID, outcome: AnalysisOutcome, now: datetime, processing_ms: int
    ) -> bool:
        row = self._state.analyses.get(analysis_id)
        if row is None or row.status is not AnalysisStatus.PROCESSING or row.claim != claim:
            return False
        self.save_triage(analysis_id, outcome.triage.urgency, outcome.triage.reason)
        self._change(
            analysis_id,
            status=AnalysisStatus.COMPLETED,
            outcome=outcome,
            completed_at=now,
            processing_ms=processing_ms,
            model_version=", ".join(str(m) for m in outcome.models),
            error_code=None,
            error_message=None,
        )
        return True

    def fail(self, analysis_id: UUID, code: str, message: str, now: datetime) -> bool:
        row = self._state.analyses.get(analysis_id)
        if row is None or row.status.is_final:
            return False
        self._change(
            analysis_id, status=AnalysisStatus.FAILED, error_code=code, error_message=message, completed_at=now
        )
        return True

    def back_to_pending(self, analysis_id: UUID, code: str, message: str, *, counted: bool = True) -> None:
        attempts = self._state.analyses[analysis_id].attempts - (0 if counted else 1)
        self._change(
            analysis_id, status=AnalysisStatus.PENDING, error_code=code, error_message=message, attempts=attempts
        )

    def cancel(self, analysis_id: UUID, now: datetime) -> AnalysisStatus | None:
        row = self._state.analyses.get(analysis_id)
        if row is None:
            return None
        if row.status in (AnalysisStatus.COMPLETED, AnalysisStatus.FAILED):
            raise Conflict(f"The analysis is already {row.status.value}.")
        self._change(analysis_id, status=AnalysisStatus.CANCELLED, completed_at=now)
        return AnalysisStatus.CANCELLED

    def withdraw(self, analysis_id: UUID, code: str, message: str, now: datetime) -> bool:
        row = self._state.analyses.get(analysis_id)
        if row is None or row.status.is_final:
            return False
        self._change(
            analysis_id, status=AnalysisStatus.CANCELLED, error_code=code, error_message=message, completed_at=now
        )
        return True

    def reopen(self, analysis_id: UUID, now: datetime) -> bool:
        row = self._state.analyses.get(analysis_id)
        if row is None or row.status not in (AnalysisStatus.FAILED, AnalysisStatus.CANCELLED):
            return False
        self._change(analysis_id, status=AnalysisStatus.PENDING, error_code=None, error_message=None, attempts=0)
        return True

    def attach_sr(self, analysis_id: UUID, object_key: str) -> None:
        self._change(analysis_id, sr_object_key=object_key)

    def attach_seg(self, analysis_id: UUID, object_key: str, segment_count: int) -> None:
        self._change(analysis_id, seg_object_key=object_key, seg_segment_count=segment_count)

    def typical_seconds(self, modality: Modality | None, default: float) -> float:
        times = sorted(
            a.processing_ms / 1000
            for a in self._state.analyses.values()
            if a.modality is modality and a.processing_ms is not None
        )
        return times[len(times) // 2] if times else default

    def waiting_before(self, queue_priority: Level) -> int:
        return sum(
            1
            for a in self._state.analyses.values()
            if not a.status.is_final and a.queue_priority.rank >= queue_priority.rank
        )


def _matches(row: AnalysisRow, flt: AnalysisFilter) -> bool:
    study = row.study
    words = words_of(" ".join((study.patient_name, study.patient_id, study.accession_number, study.study_description)))
    wanted = words_of(flt.text or "")
    return (
        (flt.patient_id is None or study.patient_id == flt.patient_id)
        and (flt.modality is None or row.modality is flt.modality)
        and (flt.status is None or row.status is flt.status)
        and (flt.priority is None or row.priority is flt.priority)
        and (flt.date_from is None or row.requested_at >= flt.date_from)
        and (flt.date_to is None or row.requested_at <= flt.date_to)
        and (flt.text is None or (bool(wanted) and all(_begins(word, words) for word in wanted)))
        and (flt.with_superseded or not row.superseded)
        and (not flt.repeat_only or (row.outcome is not None and row.outcome.quality.flagged_for_repeat))
    )


def _begins(typed: str, words: list[str]) -> bool:
    """As the blind index finds words: whole, or by their beginnings from three letters on."""
    return any(word == typed or (len(typed) >= 3 and word.startswith(typed)) for word in words)


class FakeWorklist:
    def __init__(self, unit: FakeUnit, state: TenantState) -> None:
        self._unit, self._state = unit, state

    def search(self, flt: AnalysisFilter) -> tuple[tuple[WorklistRow, ...], int]:
        everything = replace(flt, page=1, limit=10**9)
        rows = [WorklistRow(study=a.study, analysis=a) for a in self._unit.analyses.search(everything)[0]]
        if flt.not_analysed_only:
            rows = [r for r in rows if r.study.not_analysed is not None]
        if flt.status is None and not flt.repeat_only:
            spoken_for = {a.study.id for a in self._state.analyses.values() if not a.superseded}
            rows += [
                WorklistRow(study=s, analysis=None)
                for s in self._state.studies.values()
                if s.not_analysed is not None and s.id not in spoken_for and _study_matches(s, flt)
            ]
            rows.sort(key=_place_in_worklist)
        start = (flt.page - 1) * flt.limit
        return tuple(rows[start : start + flt.limit]), min(COUNTED_AT_MOST, len(rows))

    def repeats(self) -> int:
        return self.search(AnalysisFilter(repeat_only=True, with_superseded=False))[1]

    def not_analysed(self) -> int:
        return sum(s.not_analysed is not None for s in self._state.studies.values())


def _place_in_worklist(row: WorklistRow) -> tuple[int, datetime, UUID]:
    if row.analysis is not None:
        return -row.analysis.priority.rank, row.analysis.requested_at, row.analysis.id
    assert row.study.not_analysed is not None
    return -row.study.queue_priority.rank, row.study.not_analysed.since, row.study.id


def _study_matches(study: StudyRow, flt: AnalysisFilter) -> bool:
    text = " ".join((study.patient_name, study.patient_id, study.accession_number, study.study_description)).lower()
    return (
        (flt.patient_id is None or study.patient_id == flt.patient_id)
        and (flt.modality is None or study.modality is flt.modality)
        and (flt.priority is None or study.queue_priority is flt.priority)
        and (flt.text is None or flt.text.lower() in text)
    )


class FakeFeatures:
    def __init__(self, state: TenantState) -> None:
        self._state = state

    def switches(self) -> Features:
        return Features(switches=dict(self._state.switches))

    def set(self, switch: Switch) -> None:
        self._state.switches[(switch.feature, switch.modality)] = switch
        self._state.feature_log.append(
            FeatureChange(
                id=len(self._state.feature_log) + 1,
                feature=switch.feature,
                modality=switch.modality,
                action={True: "enabled", False: "disabled", None: "inherited"}[switch.enabled],
                performed_by=switch.changed_by,
                reason=switch.reason,
                performed_at=switch.changed_at,
            )
        )

    def history(
        self, feature: Feature | None, date_from: datetime | None, date_to: datetime | None, limit: int
    ) -> tuple[FeatureChange, ...]:
        found = [
            c
            for c in reversed(self._state.feature_log)
            if (feature is None or c.feature is feature)
            and (date_from is None or c.performed_at >= date_from)
            and (date_to is None or c.performed_at <= date_to)
        ]
        return tuple(found[:limit])


class FakeOptOuts:
    def __init__(self, state: TenantState, index: FakePatientIndex) -> None:
        self._state, self._index = state, index

    def find(self, patient_id: str, issuer: str) -> OptOut | None:
        patient, number = self._index.blind(issuer, patient_id), self._index.blind("", patient_id)
        for opt_out in self._state.opt_outs.values():
            kept_patient, kept_number = self._state.opt_out_keys[opt_out.id]
            if opt_out.removed_at is not None or kept_number != number:
                continue
            if not issuer or opt_out.any_issuer or kept_patient == patient:
                return opt_out
        return None

    def add(self, opt_out_id: UUID, patient_id: str, issuer: str, reason: str, by: str, now: datetime) -> bool:
        keys = self._index.blind(issuer, patient_id), self._index.blind("", patient_id)
        if any(
            o.removed_at is None and self._state.opt_out_keys[o.id][0] == keys[0] for o in self._state.opt_outs.values()
        ):
            return False
        self._state.opt_out_keys[opt_out_id] = keys
        self._state.opt_outs[opt_out_id] = OptOut(
            id=opt_out_id,
            pseudonym=keys[0].hex()[:12],
            any_issuer=not issuer,
            reason=reason,
            added_by=by,
            added_at=now,
        )
        return True

    def remove(self, opt_out_id: UUID, reason: str, by: str, now: datetime) -> bool:
        opt_out = self._state.opt_outs.get(opt_out_id)
        if opt_out is None or opt_out.removed_at is not None:
            return False
        self._state.opt_outs[opt_out_id] = replace(opt_out, removed_by=by, removed_at=now, removal_reason=reason)
        return True

    def all(self, *, with_removed: bool, limit: int) -> tuple[OptOut, ...]:
        found = [o for o in self._state.opt_outs.values() if with_removed or o.removed_at is None]
        return tuple(sorted(found, key=lambda o: o.added_at, reverse=True)[:limit])


class FakePatientTrail:
    def __init__(self, state: TenantState, index: FakePatientIndex) -> None:
        self._state, self._index = state, index

    def of_patient(self, patients: Sequence[PatientRef], study_ids: Sequence[UUID]) -> tuple[PatientEvents, ...]:
        names = {self._index.blind(p.issuer, p.patient_id).hex() for p in patients}
        groups: dict[tuple[Any, ...], list[AuditEvent]] = {}
        for e in self._state.trail:
            if e.patient in names or e.study_id in study_ids:
                key = (e.at.date(), e.action, e.actor.name, e.actor.role, e.study_id, e.outcome)
                groups.setdefault(key, []).append(e)
        return tuple(
            PatientEvents(
                action=key[1],
                actor=key[2],
                role=key[3],
                study_id=key[4],
                outcome=key[5],
                first=found[0].at,
                last=found[-1].at,
                times=sum(int(e.facts.get("count", 1)) if e.action.endswith(".view") else 1 for e in found),
            )
            for key, found in groups.items()
        )


class FakeOutlines:
    def __init__(self, state: TenantState) -> None:
        self._state = state

    def save(self, analysis_id: UUID, outlines: Iterable[SliceOutline]) -> None:
        assert analysis_id not in self._state.outlines
        self._state.outlines[analysis_id] = tuple(outlines)

    def for_instance(self, analysis_id: UUID, sop_instance_uid: str, frame: int) -> tuple[SliceOutline, ...]:
        kept = self._state.outlines.get(analysis_id, ())
        return tuple(o for o in kept if (o.sop_instance_uid, o.frame_number) == (sop_instance_uid, frame))

    def summary(self, analysis_id: UUID) -> tuple[OutlinedSegment, ...]:
        found: dict[int, list[SliceOutline]] = {}
        for outline in sorted(self._state.outlines.get(analysis_id, ()), key=lambda o: o.slice_index):
            found.setdefault(outline.segment_number, []).append(outline)
        return tuple(
            OutlinedSegment(
                number=number,
                key=slices[0].key,
                name=slices[0].name,
                finding_id=slices[0].finding_id,
                slice_count=len(slices),
                first=_place(slices[0]),
                last=_place(slices[-1]),
                largest=_place(max(slices, key=lambda o: o.area_px)),
            )
            for number, slices in sorted(found.items())
        )


def _place(outline: SliceOutline) -> SlicePlace:
    return SlicePlace(
        sop_instance_uid=outline.sop_instance_uid,
        frame_number=outline.frame_number,
        slice_index=outline.slice_index,
    )


class FakeSettings:
    def __init__(self, state: TenantState) -> None:
        self._state = state

    def all(self) -> tuple[StoredSetting, ...]:
        return tuple(self._state.settings[key] for key in sorted(self._state.settings))

    def put(self, setting: StoredSetting) -> None:
        self._state.settings[setting.key] = setting


class FakeJobs:
    def __init__(self, state: TenantState) -> None:
        self._state = state

    def enqueue(
        self, task: str, args: Mapping[str, str], *, priority: int, lock: str | None = None, delay_s: float = 0.0
    ) -> None:
        self._state.jobs.append((task, dict(args), priority))


class FakeAudit:
    def __init__(self, unit: FakeUnit, state: TenantState) -> None:
        self._unit, self._state = unit, state

    def record(
        self,
        action: AuditAction,
        *,
        actor: Actor | str,
        study_id: UUID | None = None,
        patient: PatientRef | None = None,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
        code: str = "",
        address: str = "",
        channel: str = "",
        **facts: Any,
    ) -> None:
        who = acting.resolve(actor, address=address, channel=channel)
        study = self._unit.studies.get(study_id) if study_id is not None else None
        if patient is None and study is not None:
            patient = PatientRef(issuer=study.issuer_of_patient_id, patient_id=study.patient_id)
        self._state.audit.append((AuditAction(action).value, who.name, study_id, facts))
        blind = self._unit.patient_index.blind(patient.issuer, patient.patient_id).hex() if patient else None
        self._state.trail.append(
            AuditEvent(
                id=len(self._state.trail) + 1,
                at=datetime(2026, 1, 15, tzinfo=UTC) + timedelta(seconds=len(self._state.trail)),
                action=AuditAction(action).value,
                outcome=outcome.value,
                code=code,
                actor=who,
                patient=blind,
                study_id=study_id,
                facts=json.loads(json.dumps(facts)),
            )
        )


class FakeAuditLog:
    def __init__(self, state: TenantState) -> None:
        self._state = state

    def search(self, flt: AuditFilter) -> tuple[AuditEvent, ...]:
        found = [
            e
            for e in reversed(self._state.trail)
            if (flt.actor is None or e.actor.name == flt.actor)
            and (flt.action is None or e.action == flt.action)
            and (flt.outcome is None or e.outcome == flt.outcome)
            and (flt.study_id is None or e.study_id == flt.study_id)
            and (flt.patients is None or e.patient in flt.patients)
            and (flt.date_from is None or e.at >= flt.date_from)
            and (flt.date_to is None or e.at <= flt.date_to)
            and (flt.before is None or (e.at, e.id) < flt.before)
        ]
        return tuple(found[: flt.limit])


class FakePatientIndex:
    """Blind in its way: not to be undone by reading, the same for the same patient of one tenant."""

    def __init__(self, tenant: TenantId) -> None:
        self._tenant = tenant

    def blind(self, issuer: str, patient_id: str) -> bytes:
        return hashlib.sha256(f"{self._tenant}\0{issuer.strip().casefold()}\0{patient_id.strip()}".encode()).digest()

    def content(self, sha256: str) -> str:
        return hashlib.sha256(f"{self._tenant}\0{sha256}".encode()).hexdigest()


class FakeUnit:
    """A transaction: what was done is there only if the block ends well; events go out only then."""

    def __init__(self, database: FakeDatabase, tenant: TenantId) -> None:
        self._database = database
        self.tenant = tenant
        self._pending: list[Event] = []

    def publish(self, kind: str, ids: Mapping[str, str]) -> None:
        self._pending.append(Event(kind=kind, ids=dict(ids)))

    def __enter__(self) -> Self:
        if self._database.down:
            raise StoreUnavailable("connection to server at 10.0.0.5, user overread_a, failed")
        state = self._database.state(self.tenant)
        self._before = TenantState(**{k: copy.copy(v) for k, v in vars(state).items()})
        self.studies = FakeStudies(state)
        self.analyses = FakeAnalyses(state)
        self.outlines = FakeOutlines(state)
        self.worklist = FakeWorklist(self, state)
        self.features = FakeFeatures(state)
        self.settings = FakeSettings(state)
        self.custody = FakeCustody(state)
        self.jobs = FakeJobs(state)
        self.audit = FakeAudit(self, state)
        self.audit_log = FakeAuditLog(state)
        self.users = FakeUsers(state.users, state.recovery_codes)
        self.sessions = FakeSessions(state.users, state.revoked, state.failures)
        self.api_keys = FakeApiKeys(state.api_keys)
        self.provider = FakeProvider(state.provider)
        self.patient_index = FakePatientIndex(self.tenant)
        self.opt_outs = FakeOptOuts(state, self.patient_index)
        self.patient_trail = FakePatientTrail(state, self.patient_index)
        self.events = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._database.tenants[self.tenant.slug] = self._before
            return
        for event in self._pending:
            self._database.events.announce(self.tenant, event)


class FakeDatabase:
    """Implements `services.ports.Database`."""

    def __init__(self) -> None:
        self.tenants: dict[str, TenantState] = {}
        self.events = FakeEvents()
        #: Set it to make every unit of work raise `StoreUnavailable`.
        self.down = False

    def state(self, tenant: TenantId) -> TenantState:
        return self.tenants.setdefault(tenant.slug, TenantState())

    def unit(self, tenant: TenantId) -> FakeUnit:
        return FakeUnit(self, tenant)


# A type checker proves here that the fakes have the shape of what they stand for.
_database: Database = FakeDatabase()
_objects: KeptObjects = FakeObjects()
_events: EventSource = FakeEvents()
