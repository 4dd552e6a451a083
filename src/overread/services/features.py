"""The hospital's switches: which AI runs, for which modality, and who decided so and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from overread.domain.audit import AuditAction
from overread.domain.errors import FeatureUnavailable, InvalidRequest, NotFound
from overread.domain.features import CATALOGUE, Feature, FeatureEntry, Features, Switch, entry
from overread.domain.modality import Modality
from overread.domain.study import TenantId
from overread.services.access import Identity, Permission, require
from overread.services.gate import FeatureCache
from overread.services.ports import Clock, Database
from overread.services.values import FeatureChange

REASON_AT_MOST = 500
HISTORY_AT_MOST = 1000


@dataclass(frozen=True, kw_only=True)
class FeatureStatus:
    """A feature and its switches, as an administrator sees them."""

    entry: FeatureEntry
    features: Features

    @property
    def enabled(self) -> bool:
        """For what has no switch of its own."""
        return self.features.on(self.entry.key, None)

    def on(self, modality: Modality) -> bool:
        """For a modality."""
        return self.features.on(self.entry.key, modality)

    def own(self, modality: Modality) -> bool | None:
        """None: it follows the general switch."""
        return self.features.own(self.entry.key, modality)

    def switch(self, modality: Modality | None) -> Switch | None:
        """Who decided, for the general switch or a modality's own."""
        return self.features.switches.get((self.entry.key, modality))


@dataclass(frozen=True, kw_only=True)
class FeatureService:
    """Ask and turn the switches. What they do is enforced in `gate` and in the pipeline."""

    database: Database
    clock: Clock
    cache: FeatureCache = field(default_factory=FeatureCache)

    def is_enabled(self, tenant: TenantId, feature: Feature, modality: Modality | None = None) -> bool:
        """As it was at most five seconds ago."""
        with self.database.unit(tenant) as unit:
            return self.cache.of(unit).on(feature, modality)

    def statuses(self, tenant: TenantId) -> tuple[FeatureStatus, ...]:
        """All features as they are now, those that this version lacks too."""
        with self.database.unit(tenant) as unit:
            features = unit.features.switches()
        return tuple(FeatureStatus(entry=known, features=features) for known in CATALOGUE)

    def set(self, who: Identity, feature: str, *, modality: Modality | None, enabled: bool | None, reason: str) -> str:
        """Turn a switch of the caller's tenant; `enabled` None lets a modality follow the general switch again.

        Returns a sentence on what holds now. It holds for the next analysis; one that runs obeys it when it saves.
        Raises `Forbidden`, `NotFound`, `InvalidRequest` (no reason), `FeatureUnavailable` (not in this version).
        """
        require(who, Permission.MANAGE_FEATURES)
        known = known_feature(feature)
        said = " ".join(reason.split())
        if not said:
            raise InvalidRequest("The parameter reason must say why.", parameter="reason")
        if len(said) > REASON_AT_MOST:
            raise InvalidRequest(f"The parameter reason is longer than {REASON_AT_MOST} letters.", parameter="reason")
        if enabled is None and modality is None:
            raise InvalidRequest("Only a modality can follow the general switch.", parameter="enabled")
        if enabled and not entry(known).exists:
            raise FeatureUnavailable(entry(known).missing, feature=known.value)
        switch = Switch(
            feature=known,
            modality=modality,
            enabled=enabled,
            changed_by=who.name,
            changed_at=self.clock(),
            reason=said,
        )
        with self.database.unit(who.tenant) as unit:
            unit.features.set(switch)
            features = unit.features.switches()
            unit.audit.record(
                AuditAction.FEATURE_CHANGED,
                actor=who.name,
                feature=known.value,
                modality=None if modality is None else modality.value,
                enabled=enabled,
                reason=said,
            )
        self.cache.forget(who.tenant)
        return _now(features, known, modality)

    def history(
        self,
        who: Identity,
        *,
        feature: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        limit: int = HISTORY_AT_MOST,
    ) -> tuple[FeatureChange, ...]:
        """Newest first. Raises `Forbidden`, `NotFound` (no such feature)."""
        require(who, Permission.MANAGE_FEATURES)
        known = None if feature is None else known_feature(feature)
        with self.database.unit(who.tenant) as unit:
            return unit.features.history(known, date_from, date_to, min(limit, HISTORY_AT_MOST))


def known_feature(key: str) -> Feature:
    """Raises `NotFound`."""
    try:
        return Feature(key)
    except ValueError:
        raise NotFound("There is no such feature.", allowed=[f.value for f in Feature]) from None


def _now(features: Features, feature: Feature, modality: Modality | None) -> str:
    """What holds after a change, exceptions included: nobody should think a modality off that is on."""
    name = entry(feature).name
    state = {True: "enabled", False: "disabled"}
    if modality is not None:
        followed = " again follows the general switch and" if features.own(feature, modality) is None else ""
        return f"{name} for {modality.value}{followed} is {state[features.on(feature, modality)]}."
    general = features.on(feature, None)
    other = [m.value for m in Modality if features.on(feature, m) is not general]
    tail = f" {' and '.join(other)} stay {state[not general]} by their own switch." if other else ""
    return f"{name} is {state[general]}.{tail}"
