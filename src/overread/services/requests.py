"""What people ask for: an analysis of a study that we hold, its cancellation, another try."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from overread.domain.analysis import AnalysisStatus
from overread.domain.audit import AuditAction
from overread.domain.errors import AnalysisNotFound, Conflict, NothingToAnalyse, StudyNotFound, UnsupportedModality
from overread.domain.modality import Modality
from overread.domain.priority import Level, higher
from overread.domain.study import TenantId
from overread.services.assemble import enqueue_analysis, start_analysis
from overread.services.gate import not_analysed, refusal, turn_away_request
from overread.services.ports import Clock, Database, UnitOfWork
from overread.services.values import AnalysisRow, StudyRow

#: Before anything was measured here: what a typical study of a modality takes, in seconds.
_FIRST_GUESS_S = {Modality.XRAY: 1.0, Modality.CT: 60.0, Modality.MRI: 60.0, Modality.ULTRASOUND: 5.0}


@dataclass(frozen=True, kw_only=True)
class RequestedAnalysis:
    """The answer to a request."""

    analysis_id: UUID
    status: AnalysisStatus
    #: Measured: median time of the last studies of this modality, times those that run before.
    estimated_seconds: float


@dataclass(frozen=True, kw_only=True)
class RequestService:
    """Request, cancel, retry."""

    database: Database
    clock: Clock
    #: Analyses that run side by side.
    concurrency: int = 1

    def create(
        self, tenant: TenantId, *, study: str, modality: Modality | None, priority: Level | None, requested_by: str
    ) -> RequestedAnalysis:
        """Analyse a study by our id or its StudyInstanceUID.

        Raises `StudyNotFound` (and says where it looked), `UnsupportedModality` (the study is of another one),
        `NothingToAnalyse`, `FeatureDisabled` or `PatientObjected`.
        """
        now = self.clock()
        with self.database.unit(tenant) as unit:
            row = unit.studies.find(study)
            if row is not None and row.revision == 0:
                row = unit.studies.assemble(row.id)  # asked for before its quiet period is over
            if row is None:
                raise StudyNotFound(
                    "No such study is stored here.",
                    remedy="Send it by C-STORE or POST /api/studies first; this version queries no PACS.",
                    studyId=study[:128],
                    lookedIn=["this tenant's index, by study id and StudyInstanceUID"],
                )
            if row.revision == 0:
                reasons = {i.record.filed_only_reason for i in unit.studies.instances(row.id)} - {None}
                raise NothingToAnalyse(
                    f"The study's objects are filed, not analysed: {'; '.join(sorted(map(str, reasons)))}.",
                    studyId=str(row.id),
                )
            if modality is not None and row.modality is not None and modality is not row.modality:
                raise UnsupportedModality(
                    f"The study is {row.modality}, the request says {modality}.",
                    remedy="Leave modality out or name the study's own.",
                    studyModality=row.modality.value,
                )
            why = not_analysed(unit, row, unit.features.switches(), now)
            if why is None:
                return self._start(unit, row, priority, requested_by)
            turn_away_request(unit, row, why, actor=requested_by)
        raise refusal(tenant, why)

    def _start(self, unit: UnitOfWork, row: StudyRow, priority: Level | None, requested_by: str) -> RequestedAnalysis:
        level = higher(priority, row.queue_priority)
        unit.studies.raise_queue_priority(row.id, level)
        waiting = unit.analyses.waiting_before(level)
        created = start_analysis(unit, row, requested_by=requested_by, queue_priority=level, now=self.clock())
        if not created.created:
            # The live one may have moved up; a second job at the new priority is harmless (see AnalyseService).
            enqueue_analysis(unit, created.analysis_id, row.id, level)
            unit.audit.record(
                AuditAction.ANALYSIS_REQUESTED,
                actor=requested_by,
                study_id=row.id,
                analysis=str(created.analysis_id),
                under_way=True,
            )
        analysis = unit.analyses.get(created.analysis_id)
        typical = unit.analyses.typical_seconds(row.modality, _FIRST_GUESS_S.get(row.modality or Modality.CT, 60.0))
        if analysis is None:
            raise AnalysisNotFound("The analysis vanished while it was being created.")
        rounds = 1 + waiting / self.concurrency
        return RequestedAnalysis(
            analysis_id=analysis.id, status=analysis.status, estimated_seconds=round(typical * rounds, 3)
        )

    def cancel(self, tenant: TenantId, analysis_id: UUID, actor: str) -> AnalysisStatus:
        """Raises `AnalysisNotFound`, or `Conflict` if it is completed or failed already."""
        with self.database.unit(tenant) as unit:
            status = unit.analyses.cancel(analysis_id, self.clock())
            if status is None:
                raise _unknown(analysis_id)
            row = unit.analyses.get(analysis_id)
            unit.audit.record(
                AuditAction.ANALYSIS_CANCELLED,
                actor=actor,
                study_id=row.study.id if row is not None else None,
                analysis=str(analysis_id),
            )
            unit.events.publish("analysis", {"analysis": str(analysis_id)})
        return status

    def retry(self, tenant: TenantId, analysis_id: UUID, actor: str) -> AnalysisStatus:
        """Another try for a failed or cancelled one.

        Raises `AnalysisNotFound`, `Conflict`, `FeatureDisabled` or `PatientObjected`.
        """
        now = self.clock()
        with self.database.unit(tenant) as unit:
            row = unit.analyses.get(analysis_id)
            if row is None:
                raise _unknown(analysis_id)
            why = not_analysed(unit, row.study, unit.features.switches(), now)
            if why is None:
                return self._reopen(unit, row, actor)
            turn_away_request(unit, row.study, why, actor=actor)
        raise refusal(tenant, why)

    def _reopen(self, unit: UnitOfWork, row: AnalysisRow, actor: str) -> AnalysisStatus:
        if not unit.analyses.reopen(row.id, self.clock()):
            raise Conflict(f"The analysis is {row.status}; only a failed or cancelled one can be retried.")
        if row.study.not_analysed is not None:
            unit.studies.set_not_analysed(row.study.id, None)
        enqueue_analysis(unit, row.id, row.study.id, row.priority)
        unit.audit.record(AuditAction.ANALYSIS_RETRIED, actor=actor, study_id=row.study.id, analysis=str(row.id))
        unit.events.publish("analysis", {"analysis": str(row.id), "study": str(row.study.id)})
        return AnalysisStatus.PENDING


def _unknown(analysis_id: UUID) -> AnalysisNotFound:
    return AnalysisNotFound("No such analysis.", analysisId=str(analysis_id))
