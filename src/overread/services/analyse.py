"""Analyse one study revision: claim, read pixels, run the pipeline, save. No transaction is open while it computes.

Being run twice is harmless: a claim makes every older claim powerless, and only the holder of the claim can save.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from overread.domain.analysis import AnalysisOutcome, InstanceProblem, TriageDecision
from overread.domain.errors import OverreadError
from overread.domain.evidence import EvidenceBar
from overread.domain.ids import uuid7
from overread.domain.image import ImageInstance
from overread.domain.modality import Modality, modality_of
from overread.domain.study import StoredInstance, TenantId
from overread.pipeline.analyse import analyse
from overread.pipeline.ports import ModelShelf
from overread.pipeline.triage import TriageTable
from overread.services.assemble import SR_PRIORITY, SR_TASK, enqueue_analysis
from overread.services.ports import Clock, Database, DicomParser, ObjectStore
from overread.services.retry import RetryPolicy
from overread.services.values import AnalysisRow

log = structlog.get_logger(__name__)


#: A study that kills its worker (a decoder that crashes) is given up after so many claims.
_CLAIMS_AT_MOST = 5


@dataclass(frozen=True, kw_only=True)
class AnalyseService:
    """What the worker runs."""

    database: Database
    objects: ObjectStore
    parser: DicomParser
    shelf: ModelShelf
    clock: Clock
    table: TriageTable
    bar: EvidenceBar = field(default_factory=EvidenceBar)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: Seconds on a clock that never jumps.
    monotonic: Callable[[], float] = time.monotonic

    def run(self, tenant: TenantId, analysis_id: UUID) -> None:
        """Analyse, or record why not. Raises only what the queue itself must handle (`StoreUnavailable`)."""
        with self.database.unit(tenant) as unit:
            row = unit.analyses.claim(analysis_id, self.clock())
            stored = unit.studies.instances(row.study.id) if row is not None else ()
            if row is not None:
                unit.events.publish("analysis", {"analysis": str(row.id), "study": str(row.study.id)})
        if row is None or row.claim is None:
            log.info("nothing to analyse", tenant=tenant.slug, analysis=str(analysis_id))
            return
        if row.attempts > _CLAIMS_AT_MOST:
            self.give_up(tenant, row.id, "WORKER_DIED", "The worker died again and again while it read this study.")
            return
        began = self.monotonic()
        try:
            outcome = self._outcome(tenant, row, stored)
        except OverreadError as error:
            self._failed(tenant, row, error)
            return
        self._save(tenant, row, row.claim, outcome, round((self.monotonic() - began) * 1000))

    def give_up(self, tenant: TenantId, analysis_id: UUID, code: str, message: str) -> None:
        """Fail for good; the page then says why and offers Retry."""
        with self.database.unit(tenant) as unit:
            if unit.analyses.fail(analysis_id, code, message, self.clock()):
                unit.audit.record("analysis.failed", actor="worker", analysis=str(analysis_id), code=code)
                unit.events.publish("analysis", {"analysis": str(analysis_id)})
        log.error("analysis given up", tenant=tenant.slug, analysis=str(analysis_id), code=code)

    def _outcome(self, tenant: TenantId, row: AnalysisRow, stored: tuple[StoredInstance, ...]) -> AnalysisOutcome:
        images: list[ImageInstance] = []
        problems: list[InstanceProblem] = []
        for instance in _to_decode(stored):
            name = f"instance {instance.record.sop_instance_uid}"
            try:
                images.append(self.parser.image(self.objects.get(tenant, instance.object_key), name=name))
            except OverreadError as error:
                if error.transient:
                    raise
                problems.append(
                    InstanceProblem(instance=instance.record.sop_instance_uid, code=error.code, message=str(error))
                )

        def first_critical(decision: TriageDecision) -> None:
            with self.database.unit(tenant) as unit:
                unit.analyses.save_triage(row.id, decision.urgency, decision.reason)
                unit.events.publish("analysis", {"analysis": str(row.id), "study": str(row.study.id)})

        return analyse(
            images,
            problems,
            self.shelf,
            bar=self.bar,
            triage_table=self.table,
            new_id=uuid7,
            on_triage=first_critical,
        )

    def _save(self, tenant: TenantId, row: AnalysisRow, claim: UUID, outcome: AnalysisOutcome, elapsed_ms: int) -> None:
        with self.database.unit(tenant) as unit:
            if not unit.analyses.complete(row.id, claim, outcome, self.clock(), elapsed_ms):
                log.info("result dropped: cancelled or claimed by another", tenant=tenant.slug, analysis=str(row.id))
                return
            unit.audit.record(
                "analysis.completed",
                actor="worker",
                study_id=row.study.id,
                analysis=str(row.id),
                models=[str(m) for m in outcome.models],
                urgency=outcome.triage.urgency.value,
            )
            unit.jobs.enqueue(SR_TASK, {"analysis": str(row.id)}, priority=SR_PRIORITY)
            unit.events.publish("analysis", {"analysis": str(row.id), "study": str(row.study.id)})
        log.info(
            "analysis completed",
            tenant=tenant.slug,
            analysis=str(row.id),
            findings=len(outcome.findings),
            urgency=outcome.triage.urgency.value,
            ms=elapsed_ms,
        )

    def _failed(self, tenant: TenantId, row: AnalysisRow, error: OverreadError) -> None:
        """Wait for the next attempt, or fail for good with the reason; both in one transaction with the job."""
        delay = self.retry.delay_after(error, row.attempts)
        with self.database.unit(tenant) as unit:
            if delay is None:
                unit.analyses.fail(row.id, error.code, str(error), self.clock())
                unit.audit.record(
                    "analysis.failed", actor="worker", study_id=row.study.id, analysis=str(row.id), code=error.code
                )
            else:
                unit.analyses.back_to_pending(row.id, error.code, str(error))
                enqueue_analysis(unit, row.id, row.study.id, row.priority, delay)
            unit.events.publish("analysis", {"analysis": str(row.id), "study": str(row.study.id)})
        log.warning("analysis failed", tenant=tenant.slug, analysis=str(row.id), code=error.code, again_in_s=delay)


def _to_decode(stored: tuple[StoredInstance, ...]) -> Iterator[StoredInstance]:
    """Images that the pipeline must see: all that may be radiographs, one of each other series to say what it is."""
    seen: set[str] = set()
    for instance in stored:
        record = instance.record
        if record.filed_only_reason is not None:
            continue
        if modality_of(record.modality) in (None, Modality.XRAY):
            yield instance
        elif record.series_instance_uid not in seen:
            seen.add(record.series_instance_uid)
            yield instance
