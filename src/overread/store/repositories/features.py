"""The switches of the AI's features, and the log of who turned them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg

from overread.domain.features import Feature, Features, Switch
from overread.domain.modality import Modality
from overread.services.values import FeatureChange

_ACTION = {True: "enabled", False: "disabled", None: "inherited"}
#: As the unique indexes of the table: a NULL modality has one of its own.
_GENERAL = "(feature_id) WHERE modality IS NULL"
_BY_MODALITY = "(feature_id, modality) WHERE modality IS NOT NULL"


class FeatureSwitches:
    """Implements `services.feature_ports.FeatureRepository`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def switches(self) -> Features:
        """All of them; a feature or modality that this version does not know is left out."""
        rows = self._connection.execute(
            "SELECT f.feature_key, t.modality, t.enabled, t.changed_by, t.updated_at, t.reason"
            " FROM tenant_ai_features t JOIN ai_features f ON f.id = t.feature_id"
        ).fetchall()
        keys, modalities = {f.value for f in Feature}, {m.value for m in Modality}
        return Features.of(
            Switch(
                feature=Feature(key),
                modality=None if modality is None else Modality(modality),
                enabled=enabled,
                changed_by=changed_by,
                changed_at=changed_at,
                reason=reason,
            )
            for key, modality, enabled, changed_by, changed_at, reason in rows
            if key in keys and (modality is None or modality in modalities)
        )

    def set(self, switch: Switch) -> None:
        """The switch and its line in the log."""
        on, off = switch.enabled is True, switch.enabled is False
        values = {
            "feature": switch.feature.value,
            "modality": switch.modality,
            "enabled": switch.enabled,
            "on_at": switch.changed_at if on else None,
            "on_by": switch.changed_by if on else None,
            "off_at": switch.changed_at if off else None,
            "off_by": switch.changed_by if off else None,
            "reason": switch.reason,
            "by": switch.changed_by,
            "at": switch.changed_at,
            "action": _ACTION[switch.enabled],
        }
        target = _GENERAL if switch.modality is None else _BY_MODALITY
        self._connection.execute(
            "INSERT INTO tenant_ai_features AS t (feature_id, modality, enabled, enabled_at, enabled_by, disabled_at,"  # noqa: S608
            " disabled_by, reason, changed_by, created_at, updated_at)"
            " SELECT id, %(modality)s, %(enabled)s, %(on_at)s, %(on_by)s, %(off_at)s, %(off_by)s, %(reason)s, %(by)s,"
            " %(at)s, %(at)s FROM ai_features WHERE feature_key = %(feature)s"
            f" ON CONFLICT {target} DO UPDATE SET enabled = EXCLUDED.enabled,"
            " enabled_at = coalesce(EXCLUDED.enabled_at, t.enabled_at),"
            " enabled_by = coalesce(EXCLUDED.enabled_by, t.enabled_by),"
            " disabled_at = coalesce(EXCLUDED.disabled_at, t.disabled_at),"
            " disabled_by = coalesce(EXCLUDED.disabled_by, t.disabled_by),"
            " reason = EXCLUDED.reason, changed_by = EXCLUDED.changed_by, updated_at = EXCLUDED.updated_at",
            values,
        )
        self._connection.execute(
            "INSERT INTO ai_feature_audit_log (feature_id, modality, action, performed_by, reason, performed_at)"
            " SELECT id, %(modality)s, %(action)s, %(by)s, %(reason)s, %(at)s FROM ai_features"
            " WHERE feature_key = %(feature)s",
            values,
        )

    def history(
        self, feature: Feature | None, date_from: datetime | None, date_to: datetime | None, limit: int
    ) -> tuple[FeatureChange, ...]:
        """Newest first."""
        rows = self._connection.execute(
            "SELECT l.id, f.feature_key, l.modality, l.action, l.performed_by, l.reason, l.performed_at"
            " FROM ai_feature_audit_log l JOIN ai_features f ON f.id = l.feature_id"
            " WHERE (%(feature)s::text IS NULL OR f.feature_key = %(feature)s)"
            " AND (%(start)s::timestamptz IS NULL OR l.performed_at >= %(start)s)"
            " AND (%(end)s::timestamptz IS NULL OR l.performed_at <= %(end)s)"
            " ORDER BY l.performed_at DESC, l.id DESC LIMIT %(limit)s",
            {"feature": feature, "start": date_from, "end": date_to, "limit": limit},
        ).fetchall()
        keys = {f.value for f in Feature}
        return tuple(
            FeatureChange(
                id=number,
                feature=Feature(key),
                modality=modality,
                action=action,
                performed_by=performed_by,
                reason=reason,
                performed_at=performed_at,
            )
            for number, key, modality, action, performed_by, reason, performed_at in rows
            if key in keys
        )
