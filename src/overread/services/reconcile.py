"""The belt beside the braces: analyses that wait although no job is queued for them get one.

State and job commit together, so this should find nothing; it is here for a job table that was restored from an older
backup, or emptied by hand.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta

import structlog

from overread.domain.study import TenantId
from overread.services.assemble import enqueue_analysis
from overread.services.ports import Clock, Database

log = structlog.get_logger(__name__)

_GRACE = timedelta(seconds=20)


@dataclass(frozen=True, kw_only=True)
class ReconcileService:
    """Compares unfinished analyses with the queue."""

    database: Database
    clock: Clock

    def run(self, tenant: TenantId, queued: AbstractSet[tuple[str, str]]) -> int:
        """Enqueue what is missing in `queued`, pairs of (tenant, analysis id); returns how many."""
        now = self.clock()
        missing = 0
        with self.database.unit(tenant) as unit:
            for row in unit.analyses.unfinished():
                if (tenant.slug, str(row.id)) in queued or now - row.requested_at < _GRACE:
                    continue
                log.warning("analysis without a job is queued again", tenant=tenant.slug, analysis=str(row.id))
                enqueue_analysis(unit, row.id, row.study.id, row.priority)
                missing += 1
        return missing
