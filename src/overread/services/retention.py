"""What may go, and why the rest stays. One rule decides for the dry run, the worker and the moment of removal.

A received instance goes only if the hospital's present PACS confirmed that it keeps it, the hospital said after how
many days it may go, and nobody needs it. It is decided again, with the row locked, right before the object goes. A
segmentation of ours goes some hours after its analysis was overtaken, cancelled or failed: results, SR and the
segmentation that a present result cites stay. Pictures for pages and decoded volumes are never stored.

An object that no row names (a crash between object and commit) is put aside after a day, and removed a day later: so an
instance that is sent again just then, which has the same bytes and the same key, can be put back.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import structlog

from overread.domain.audit import AuditAction
from overread.domain.study import TenantId
from overread.services.custody_ports import InstanceFacts, ObjectFacts, Pacs, SegFacts
from overread.services.object_ports import KeptObject, KeptObjects
from overread.services.ports import Clock, Database
from overread.services.tenant_settings import TenantSettings

log = structlog.get_logger(__name__)

#: Somebody who looked at a study within this time may look again.
OPEN_FOR: Final = timedelta(minutes=30)
#: No transaction is under way for so long.
ORPHAN_AFTER: Final = timedelta(days=1)
ASIDE: Final = "trash/"
_PAGE: Final = 500
_AT_ONCE: Final = 100


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a hospital decided."""

    pacs: Pacs | None
    #: Days after which a received instance may go; None: never.
    received_days: int | None
    derived_hours: int


class Stays(StrEnum):
    """Why an object stays, in words for the operator."""

    NO_PACS = "no PACS is set"
    NEVER = "received_days is not set"
    UNCONFIRMED = "the PACS has not confirmed custody"
    OTHER_PACS = "another PACS confirmed custody, not the present one"
    YOUNG = "its time has not come"
    CONTESTED = "it came twice with different content"
    ARRIVING = "its study is still arriving"
    NEEDED = "an analysis needs it"
    OPEN = "somebody is looking at the study"
    RESULT = "it belongs to a result"
    REVISION = "header revisions stay"
    QUARANTINED = "refused objects stay"
    UNNAMED_YOUNG = "no row names it, and it is new"


class Goes(StrEnum):
    """Why an object goes."""

    IN_PACS = "the PACS keeps it and its time has come"
    OBSOLETE = "a segmentation that no present result cites"
    UNNAMED = "no row names it"
    ASIDE = "no row named it for two days"


def instance_verdict(facts: InstanceFacts, policy: Policy, now: datetime) -> Stays | Goes:
    """Whether a received instance may go. Custody by the present PACS is asked for first and whatever else holds."""
    if policy.pacs is None:
        return Stays.NO_PACS
    if facts.custody_confirmed_at is None or facts.custody_ae is None:
        return Stays.UNCONFIRMED
    if facts.custody_ae != policy.pacs.ae_title:
        return Stays.OTHER_PACS
    if facts.contested:
        return Stays.CONTESTED
    if policy.received_days is None:
        return Stays.NEVER
    if now - facts.kept_since < timedelta(days=policy.received_days):
        return Stays.YOUNG
    if not facts.assembled:
        return Stays.ARRIVING
    return _held(facts.needed, facts.last_viewed, now) or Goes.IN_PACS


def seg_verdict(facts: SegFacts, policy: Policy, now: datetime) -> Stays | Goes:
    """Whether a segmentation of ours may go."""
    if not facts.obsolete:
        return Stays.RESULT
    if facts.ended_at is None or now - facts.ended_at < timedelta(hours=policy.derived_hours):
        return Stays.YOUNG
    return _held(facts.needed, facts.last_viewed, now) or Goes.OBSOLETE


def _held(needed: bool, last_viewed: datetime | None, now: datetime) -> Stays | None:
    if needed:
        return Stays.NEEDED
    if last_viewed is not None and now - last_viewed < OPEN_FOR:
        return Stays.OPEN
    return None


def object_verdict(facts: ObjectFacts | None, kept: KeptObject, policy: Policy, now: datetime) -> Stays | Goes:
    """Of anything that lies in the object store."""
    if facts is None:
        return Goes.UNNAMED if now - kept.modified >= ORPHAN_AFTER else Stays.UNNAMED_YOUNG
    if facts.other:
        return {"header revision": Stays.REVISION, "refused": Stays.QUARANTINED}.get(facts.other, Stays.RESULT)
    if facts.seg is not None:
        return seg_verdict(facts.seg, policy, now)
    if facts.instance is not None:
        return instance_verdict(facts.instance, policy, now)
    return Stays.RESULT


@dataclass(kw_only=True)
class Heap:
    """Objects with one verdict."""

    count: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.count += 1
        self.bytes += size


@dataclass(kw_only=True)
class Plan:
    """What a run would do, and why the rest stays."""

    goes: dict[Goes, Heap] = field(default_factory=dict)
    stays: dict[Stays, Heap] = field(default_factory=dict)
    #: Keys of rows whose object is not there: the first ones, and how many.
    missing: list[str] = field(default_factory=list)
    missing_count: int = 0


@dataclass(kw_only=True)
class Removed:
    """What a run did."""

    instances: int = 0
    segs: int = 0
    #: Objects that no row names: put aside, removed for good, put back.
    aside: int = 0
    unnamed: int = 0
    restored: int = 0


@dataclass(frozen=True, kw_only=True)
class RetentionService:
    """Runs for one hospital at a time; may be killed anywhere, and be run by several processes at once."""

    database: Database
    objects: KeptObjects
    clock: Clock
    #: `TenantSettingsService.current`.
    choices: Callable[[TenantId], TenantSettings]

    def policy(self, tenant: TenantId) -> Policy:
        """As it is now."""
        choice = self.choices(tenant)
        with self.database.unit(tenant) as unit:
            pacs = unit.custody.pacs()
        return Policy(pacs=pacs, received_days=choice.received_days, derived_hours=choice.derived_hours)

    # --- looking ---------------------------------------------------------------------------------------------

    def plan(self, tenant: TenantId, *, missing_shown: int = 20) -> Plan:
        """Look at every object and every row; changes nothing."""
        policy, now, made = self.policy(tenant), self.clock(), Plan()
        seen: set[int] = set()
        for kept, facts in self._survey(tenant, ""):
            seen.add(hash(kept.key))
            if kept.key.startswith(ASIDE):
                verdict: Stays | Goes = Goes.ASIDE if now - kept.modified >= ORPHAN_AFTER else Stays.UNNAMED_YOUNG
            else:
                verdict = object_verdict(facts, kept, policy, now)
            if isinstance(verdict, Goes):
                made.goes.setdefault(verdict, Heap()).add(kept.size)
            else:
                made.stays.setdefault(verdict, Heap()).add(kept.size)
        for key in self._missing(tenant, seen):
            made.missing_count += 1
            if len(made.missing) < missing_shown:
                made.missing.append(key)
        return made

    def missing(self, tenant: TenantId) -> Iterator[str]:
        """Keys of rows whose object is not there."""
        return self._missing(tenant, {hash(kept.key) for kept in self.objects.list(tenant)})

    def orphans(self, tenant: TenantId) -> Iterator[KeptObject]:
        """Objects that no row has named for a day."""
        now = self.clock()
        for kept, facts in self._survey(tenant, ""):
            if facts is None and now - kept.modified >= ORPHAN_AFTER:
                yield kept

    def _missing(self, tenant: TenantId, seen: set[int]) -> Iterator[str]:
        with self.database.unit(tenant) as unit:
            away = [key for key in unit.custody.object_keys() if hash(key) not in seen]
        # What came or went after the list was made is there, or named no more.
        return (key for key in away if not self.objects.exists(tenant, key) and self._named(tenant, key))

    def _named(self, tenant: TenantId, key: str) -> bool:
        with self.database.unit(tenant) as unit:
            return key in unit.custody.facts([key])

    def _survey(self, tenant: TenantId, prefix: str) -> Iterator[tuple[KeptObject, ObjectFacts | None]]:
        for page in _pages(self.objects.list(tenant, prefix)):
            with self.database.unit(tenant) as unit:
                known = unit.custody.facts([_name(kept.key) for kept in page])
            for kept in page:
                yield kept, known.get(_name(kept.key))

    # --- removing --------------------------------------------------------------------------------------------

    def run(self, tenant: TenantId, *, orphans: bool = True) -> Removed:
        """Remove what may go. Raises `StoreUnavailable`; what was done until then is done."""
        done = Removed()
        policy = self.policy(tenant)
        if policy.pacs is not None and policy.received_days is not None:
            done.instances = self._instances(tenant, policy)
        done.segs = self._segs(tenant, policy)
        if orphans:
            self._aside(tenant, done)
            self._orphans(tenant, done)
        if done != Removed():
            log.info("retention.ran", tenant=tenant.slug, **vars(done))
        return done

    def _instances(self, tenant: TenantId, policy: Policy) -> int:
        after: UUID | None = None
        removed = 0
        while True:
            now = self.clock()
            before = now - timedelta(days=policy.received_days or 0)
            with self.database.unit(tenant) as unit:
                page = unit.custody.confirmed(after, before, _PAGE)
            if not page:
                return removed
            after = page[-1].instance_id
            due: dict[UUID, list[UUID]] = {}
            for facts in page:
                if instance_verdict(facts, policy, now) is Goes.IN_PACS:
                    due.setdefault(facts.study_id, []).append(facts.instance_id)
            for study_id, ids in due.items():
                for few in _chunks(ids, _AT_ONCE):
                    removed += self._remove_instances(tenant, study_id, few)

    def _remove_instances(self, tenant: TenantId, study_id: UUID, ids: Sequence[UUID]) -> int:
        """Those of `ids` that may go still, now that nobody can change them. Object first, then the row.

        Killed in between, the row says that the object is here; the next run finds it due again and ends what was
        begun. The other way round, an object that is sent again in between would be removed after it was acknowledged.
        """
        choice = self.choices(tenant)
        gone = 0
        with self.database.unit(tenant) as unit:
            policy = Policy(
                pacs=unit.custody.pacs(), received_days=choice.received_days, derived_hours=choice.derived_hours
            )
            now = self.clock()
            for instance_id in sorted(ids):  # always in one order: two runs cannot wait for each other
                facts = unit.custody.lock_instance(instance_id)
                if facts is None or not isinstance(instance_verdict(facts, policy, now), Goes):
                    continue
                self.objects.delete(tenant, facts.object_key)
                unit.custody.mark_removed(instance_id, now)
                gone += 1
            if gone and policy.pacs is not None:
                unit.audit.record(
                    AuditAction.OBJECTS_DELETED,
                    actor="retention",
                    study_id=study_id,
                    what="received instances",
                    instances=gone,
                    pacs=policy.pacs.ae_title,
                )
        return gone

    def _segs(self, tenant: TenantId, policy: Policy) -> int:
        after: UUID | None = None
        removed = 0
        while True:
            now = self.clock()
            before = now - timedelta(hours=policy.derived_hours)
            with self.database.unit(tenant) as unit:
                page = unit.custody.obsolete_segs(after, before, _PAGE)
            if not page:
                return removed
            after = page[-1].analysis_id
            for facts in page:
                if isinstance(seg_verdict(facts, policy, now), Goes):
                    removed += self._remove_seg(tenant, facts.analysis_id, policy)

    def _remove_seg(self, tenant: TenantId, analysis_id: UUID, policy: Policy) -> bool:
        with self.database.unit(tenant) as unit:
            facts, now = unit.custody.lock_seg(analysis_id), self.clock()
            if facts is None or not isinstance(seg_verdict(facts, policy, now), Goes):
                return False
            unit.custody.mark_seg_removed(analysis_id, now)
            unit.audit.record(
                AuditAction.OBJECTS_DELETED,
                actor="retention",
                study_id=facts.study_id,
                what="segmentation of an obsolete analysis",
                analysis=str(analysis_id),
            )
            self.objects.delete(tenant, facts.object_key)
        return True

    def _orphans(self, tenant: TenantId, done: Removed) -> None:
        policy = self.policy(tenant)
        for kept, facts in self._survey(tenant, ""):
            now = self.clock()
            if kept.key.startswith(ASIDE):
                continue
            if object_verdict(facts, kept, policy, now) is Goes.UNNAMED and not self._named(tenant, kept.key):
                self.objects.move(tenant, kept.key, ASIDE + kept.key)
                log.warning("retention.unnamed_object_put_aside", tenant=tenant.slug, key=kept.key)
                done.aside += 1

    def _aside(self, tenant: TenantId, done: Removed) -> None:
        """Back if a row names it now, away if none did for another day."""
        for kept, facts in self._survey(tenant, ASIDE):
            key = _name(kept.key)
            if facts is not None:
                if self.objects.exists(tenant, key):
                    self.objects.delete(tenant, kept.key)
                else:
                    self.objects.move(tenant, kept.key, key)
                    log.warning("retention.object_put_back", tenant=tenant.slug, key=key)
                    done.restored += 1
            elif self.clock() - kept.modified >= ORPHAN_AFTER:
                self.objects.delete(tenant, kept.key)
                done.unnamed += 1


def _name(key: str) -> str:
    """What a row would call the object."""
    return key.removeprefix(ASIDE)


def _pages(kept: Iterable[KeptObject]) -> Iterator[list[KeptObject]]:
    iterator = iter(kept)
    while page := list(itertools.islice(iterator, _PAGE)):
        yield page


def _chunks(ids: Sequence[UUID], size: int) -> Iterator[Sequence[UUID]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
