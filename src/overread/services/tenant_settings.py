"""What each hospital decides for itself, typed: which model reads, how strong evidence must be, how long things stay.

A setting is one row (key, value, who, when, why); every change is on the audit trail with the value before. What is not
set has its default. Processes read a tenant's settings at most every `FRESH_S` seconds.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from overread.domain import catalogue
from overread.domain.audit import Actor, AuditAction
from overread.domain.errors import InvalidRequest
from overread.domain.evidence import UNREACHABLE, WAIVED, EvidenceBar
from overread.domain.study import TenantId
from overread.services.ports import Clock, Database
from overread.services.values import StoredSetting

FRESH_S: Final = 5.0
#: Value of `models.TASK`: this hospital's studies are not read by any model of that task.
DISABLED: Final = "disabled"
#: Value of `received_days`: received instances stay, whatever the PACS says.
NEVER: Final = "never"

_VERSION = re.compile(r"\d{1,6}\.\d{1,6}\.\d{1,6}(?:[-+][0-9A-Za-z.-]{1,40})?")
_TASK = re.compile(r"[a-z][a-z0-9_]{0,60}")
_WORDS: Final[Mapping[str, EvidenceBar]] = {"always": WAIVED, "never": UNREACHABLE}


@dataclass(frozen=True, kw_only=True)
class TenantSettings:
    """All settings of a tenant as they are now."""

    #: Task ("chest_xray") -> version that must be used, or `DISABLED`. A task that is not here: the newest one.
    models: Mapping[str, str] = field(default_factory=dict)
    #: What measured figures must reach before a finding may raise urgency, with the hospital's exceptions.
    bar: EvidenceBar = field(default_factory=EvidenceBar)
    #: Hours that derived pixels are kept after an analysis.
    derived_hours: int = 24
    #: Days after which received instances go that the PACS keeps; None: never.
    received_days: int | None = None
    #: Minutes without a request after which a page's session ends; None: as the installation has it (15).
    page_idle_minutes: int | None = None
    #: Requests a minute of one log-in; None: what the installation allows.
    api_per_minute: int | None = None


@dataclass(frozen=True, kw_only=True)
class SettingKey:
    """One kind of setting. `name` ends in "." where what follows it is part of the key."""

    name: str
    meaning: str
    default: str
    #: Text as somebody types it -> JSON value. Raises `InvalidRequest`.
    parse: Callable[[str], Any]
    #: What may follow `name`.
    of: Callable[[str], bool] | None = None


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
            raise InvalidRequest(f"The value must be a whole number from {low} to {high}.", parameter="value")
        return int(text)

    return parse


def _days(text: str) -> int | str:
    return NEVER if text == NEVER else _whole(0, 100 * 366)(text)


def _version(text: str) -> str:
    if text != DISABLED and not _VERSION.fullmatch(text):
        raise InvalidRequest(f"The value must be a version like 1.2.0, or {DISABLED}.", parameter="value")
    return text


def _proportions(text: str) -> list[float]:
    parts = text.split(",")
    try:
        sensitivity, specificity = (float(part) for part in parts)
    except ValueError as error:
        raise InvalidRequest(
            "The value must be sensitivity and specificity, each from 0 to 1, like 0.85,0.80.", parameter="value"
        ) from error
    if not (0.0 <= sensitivity <= 1.0 and 0.0 <= specificity <= 1.0):  # also for NaN
        raise InvalidRequest("Sensitivity and specificity must lie from 0 to 1.", parameter="value")
    return [sensitivity, specificity]


def _override(text: str) -> str | list[float]:
    return text if text in _WORDS else _proportions(text)


KEYS: Final[tuple[SettingKey, ...]] = (
    SettingKey(
        name="models.",
        meaning="Version of the model that must do this task (`models.chest_xray`), or `disabled`.",
        default="the newest installed",
        parse=_version,
        of=lambda task: _TASK.fullmatch(task) is not None,
    ),
    SettingKey(
        name="evidence_bar",
        meaning="Sensitivity and specificity that the lower ends of the 95% intervals must reach before a finding may"
        " raise urgency.",
        default="0.90,0.85",
        parse=_proportions,
    ),
    SettingKey(
        name="evidence_bar.",
        meaning="The same for one finding (`evidence_bar.pneumothorax`), or `always`, or `never`.",
        default="evidence_bar",
        parse=_override,
        of=catalogue.is_known,
    ),
    SettingKey(
        name="derived_hours",
        meaning="Hours that derived pixels are kept after an analysis.",
        default="24",
        parse=_whole(0, 24 * 366),
    ),
    SettingKey(
        name="received_days",
        meaning="Days after which a received image goes, once the PACS confirmed that it keeps it; or `never`.",
        default="never",
        parse=_days,
    ),
    SettingKey(
        name="page_idle_minutes",
        meaning="Minutes without a request after which a page's session ends.",
        default="OVERREAD_IDLE_MINUTES (15)",
        parse=_whole(1, 24 * 60),
    ),
    SettingKey(
        name="api_per_minute",
        meaning="Requests a minute of one log-in or API key.",
        default="what the installation allows",
        parse=_whole(60, 1_000_000),
    ),
)
"""Every key there is; docs/how-to/manage-hospitals.md lists them."""


def key_of(name: str) -> SettingKey:
    """What kind of setting a key is. Raises `InvalidRequest`."""
    for key in KEYS:
        if name == key.name and not key.name.endswith("."):
            return key
        if key.of is not None and name.startswith(key.name) and key.of(name.removeprefix(key.name)):
            return key
    known = ", ".join(key.name + ("..." if key.name.endswith(".") else "") for key in KEYS)
    raise InvalidRequest(f"There is no setting {name[:80]!r}.", remedy=f"Known: {known}.", parameter="key")


def settings_of(values: Mapping[str, Any]) -> TenantSettings:
    """From stored rows; None is the default. Ignores keys that this version does not know."""
    set_values = {key: value for key, value in values.items() if value is not None}
    models = {k.removeprefix("models."): str(v) for k, v in set_values.items() if k.startswith("models.")}
    overrides = {
        k.removeprefix("evidence_bar."): _bar(v) for k, v in set_values.items() if k.startswith("evidence_bar.")
    }
    general = set_values.get("evidence_bar")
    base = EvidenceBar() if general is None else _bar(general)
    standard = TenantSettings()
    days = set_values.get("received_days", NEVER)
    return TenantSettings(
        models=models,
        bar=EvidenceBar(sensitivity=base.sensitivity, specificity=base.specificity, overrides=overrides),
        derived_hours=int(set_values.get("derived_hours", standard.derived_hours)),
        received_days=None if days == NEVER else int(days),
        page_idle_minutes=int(set_values["page_idle_minutes"]) if "page_idle_minutes" in set_values else None,
        api_per_minute=int(set_values["api_per_minute"]) if "api_per_minute" in set_values else None,
    )


def _bar(value: Any) -> EvidenceBar:
    if isinstance(value, str):
        return _WORDS[value]
    sensitivity, specificity = value
    return EvidenceBar(sensitivity=sensitivity, specificity=specificity)


def shown(value: Any) -> str:
    """A stored value as somebody would type it."""
    if isinstance(value, list):
        return ",".join(f"{part:g}" if math.isfinite(part) else str(part) for part in value)
    return "default" if value is None else str(value)


class TenantSettingsService:
    """Reads and changes settings. One for each process: it remembers what it read for `FRESH_S` seconds."""

    def __init__(self, database: Database, clock: Clock, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._monotonic = monotonic
        self._kept: dict[TenantId, tuple[float, TenantSettings]] = {}
        self._lock = threading.Lock()

    def known(self, tenant: TenantId) -> bool:
        """Whether `current` would answer from memory."""
        kept = self._kept.get(tenant)
        return kept is not None and self._monotonic() - kept[0] < FRESH_S

    def current(self, tenant: TenantId) -> TenantSettings:
        """As they are now, or were a few seconds ago. Raises `StoreUnavailable`."""
        kept = self._kept.get(tenant)
        if kept is not None and self._monotonic() - kept[0] < FRESH_S:
            return kept[1]
        with self._database.unit(tenant) as unit:
            found = settings_of({row.key: row.value for row in unit.settings.all()})
        with self._lock:
            self._kept[tenant] = (self._monotonic(), found)
        return found

    def stored(self, tenant: TenantId) -> tuple[StoredSetting, ...]:
        """What was ever set, by key, with who, when and why."""
        with self._database.unit(tenant) as unit:
            return unit.settings.all()

    def set(self, tenant: TenantId, key: str, text: str, *, reason: str, actor: Actor | str) -> StoredSetting:
        """Change one; "default" takes it back. Raises `InvalidRequest`: an unknown key, a wrong value, no reason."""
        kind = key_of(key)
        if not reason.strip():
            raise InvalidRequest("Say why.", parameter="reason")
        value = None if text.strip() == "default" else kind.parse(text.strip())
        name = actor if isinstance(actor, str) else actor.name
        row = StoredSetting(
            key=key, value=value, changed_by=name, changed_at=self._clock(), reason=" ".join(reason.split())[:500]
        )
        with self._database.unit(tenant) as unit:
            before = next((old.value for old in unit.settings.all() if old.key == key), None)
            unit.settings.put(row)
            unit.audit.record(
                AuditAction.SETTING_CHANGED,
                actor=actor,
                key=key,
                before=shown(before),
                value=shown(value),
                reason=row.reason,
            )
        with self._lock:
            self._kept.pop(tenant, None)
        return row
