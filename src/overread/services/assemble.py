"""When is a study complete? No sender says so, so: when no instance came for a quiet period (CT 30 s, MR 120 s; a
radiograph or ultrasound still at once). Then the revision is closed and its analysis and job are created in one
transaction. A late instance makes a new revision, which supersedes the older analysis and rewrites nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from overread.domain.audit import AuditAction
from overread.domain.ids import uuid7
from overread.domain.modality import quiet_period
from overread.domain.priority import Level, job_priority
from overread.domain.study import TenantId
from overread.services.gate import FeatureCache, not_analysed, turn_away
from overread.services.ports import Clock, Database, UnitOfWork
from overread.services.values import Created, StudyRow

ANALYSE_TASK = "overread.analyse"
SR_TASK = "overread.write_sr"

#: Follow-up work waits until no analysis does.
SR_PRIORITY = -100

_STUDIES_A_SWEEP = 100


def start_analysis(
    unit: UnitOfWork, study: StudyRow, *, requested_by: str, queue_priority: Level, now: datetime
) -> Created:
    """Analysis row and job in the caller's transaction; the live one if there is one."""
    created = unit.analyses.create(
        study, requested_by=requested_by, queue_priority=queue_priority, now=now, analysis_id=uuid7()
    )
    if study.not_analysed is not None:
        unit.studies.set_not_analysed(study.id, None)
    if created.created:
        enqueue_analysis(unit, created.analysis_id, study.id, queue_priority)
        unit.audit.record(
            AuditAction.ANALYSIS_REQUESTED, actor=requested_by, study_id=study.id, analysis=str(created.analysis_id)
        )
    unit.events.publish("analysis", {"analysis": str(created.analysis_id), "study": str(study.id)})
    return created


def enqueue_analysis(unit: UnitOfWork, analysis_id: UUID, study_id: UUID, level: Level, delay_s: float = 0.0) -> None:
    """One at a time per study (the lock); urgent ones first, then the older."""
    unit.jobs.enqueue(
        ANALYSE_TASK, {"analysis": str(analysis_id)}, priority=job_priority(level), lock=str(study_id), delay_s=delay_s
    )


@dataclass(frozen=True, kw_only=True)
class AssembleService:
    """Closes revisions."""

    database: Database
    clock: Clock
    #: Multiplies the quiet periods (tests and demo shorten them).
    quiet_factor: float = 1.0
    features: FeatureCache = field(default_factory=FeatureCache)

    def close_revision(self, unit: UnitOfWork, study_id: UUID, now: datetime) -> Created | None:
        """Close the study's present instances as a revision.

        None if nothing is to be analysed: no image came, or it may not be read by AI (`gate`), and then says so.
        """
        before = unit.studies.get(study_id)
        study = unit.studies.assemble(study_id)
        if before is not None and study.revision == before.revision:
            return None
        why = not_analysed(unit, study, self.features.of(unit), now)
        if why is not None:
            turn_away(unit, study, why, actor="arrival")
            return None
        return start_analysis(unit, study, requested_by="arrival", queue_priority=study.queue_priority, now=now)

    def sweep(self, tenant: TenantId) -> int:
        """Close every study whose quiet period is over; returns how many. Safe to run from several workers."""
        now = self.clock()
        with self.database.unit(tenant) as unit:
            waiting = unit.studies.waiting_for_assembly(_STUDIES_A_SWEEP)
        due = [w for w in waiting if now - w.last_received >= quiet_period(w.modality) * self.quiet_factor]
        for study in due:
            with self.database.unit(tenant) as unit:
                self.close_revision(unit, study.study_id, now)
        return len(due)
