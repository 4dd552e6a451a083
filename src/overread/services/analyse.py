"""Analyse one study revision: claim, read pixels, run the pipeline, save. No transaction is open while it computes.

Being run twice is harmless: a claim makes every older claim powerless, and only the holder of the claim can save.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import structlog

from overread.domain.analysis import AnalysisOutcome, TriageDecision
from overread.domain.audit import AuditAction, AuditOutcome
from overread.domain.errors import OverreadError
from overread.domain.features import ALL_ON, Features, without
from overread.domain.ids import uuid7
from overread.domain.study import StoredInstance, TenantId
from overread.pipeline.analyse import analyse
from overread.pipeline.analysers.contract import VolumeAnalyser
from overread.pipeline.ports import VersionedShelf
from overread.pipeline.recognise import CHEST_XRAY_TASK
from overread.pipeline.series import VolumeRead
from overread.pipeline.triage import TriageTable
from overread.render.outlines import SliceOutline, outlines
from overread.services.assemble import SR_PRIORITY, SR_TASK, enqueue_analysis
from overread.services.custody import read_instance
from overread.services.gate import modalities_of, not_analysed, turn_away
from overread.services.object_ports import ObjectStore
from overread.services.ports import Clock, Database, DicomParser, VolumeReader
from overread.services.retry import RetryPolicy, is_away
from overread.services.segmentation import SegmentationService, WrittenSeg
from overread.services.study_inputs import inputs_of
from overread.services.tenant_models import ChosenModels
from overread.services.tenant_settings import TenantSettings
from overread.services.values import AnalysisRow

log = structlog.get_logger(__name__)


#: A study that kills its worker (a decoder that crashes) is given up after so many claims.
_CLAIMS_AT_MOST = 5


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What is saved together."""

    outcome: AnalysisOutcome
    outlines: Sequence[SliceOutline]
    #: The DICOM SEG of the first volume that was read.
    seg: WrittenSeg | None


@dataclass(frozen=True, kw_only=True)
class AnalyseService:
    """What the worker runs."""

    database: Database
    objects: ObjectStore
    parser: DicomParser
    volumes: VolumeReader
    segmentation: SegmentationService
    shelf: VersionedShelf
    #: Readers of volumes, in the order in which they are asked.
    analysers: Sequence[VolumeAnalyser]
    clock: Clock
    table: TriageTable
    #: What the hospital chose: models and how strong evidence must be.
    choices: Callable[[TenantId], TenantSettings] = lambda _tenant: TenantSettings()
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: Seconds on a clock that never jumps.
    monotonic: Callable[[], float] = time.monotonic

    def run(self, tenant: TenantId, analysis_id: UUID) -> None:
        """Analyse, or record why not. Raises only what the queue itself must handle (`StoreUnavailable`)."""
        features = ALL_ON
        with self.database.unit(tenant) as unit:
            row = unit.analyses.claim(analysis_id, self.clock())
            stored = unit.studies.instances(row.study.id) if row is not None else ()
            if row is not None:
                features = unit.features.switches()
                why = not_analysed(unit, row.study, features, self.clock(), stored)
                if why is not None:
                    turn_away(unit, row.study, why, actor="worker", analysis=row.id)
                    log.info("not analysed", tenant=tenant.slug, analysis=str(row.id), why=why.why.value)
                    return
                unit.events.publish("analysis", {"analysis": str(row.id), "study": str(row.study.id)})
        if row is None or row.claim is None:
            log.info("nothing to analyse", tenant=tenant.slug, analysis=str(analysis_id))
            return
        if row.attempts > _CLAIMS_AT_MOST:
            self.give_up(tenant, row.id, "WORKER_DIED", "The worker died again and again while it read this study.")
            return
        began = self.monotonic()
        try:
            result = self._outcome(tenant, row, stored, features)
        except OverreadError as error:
            self._failed(tenant, row, error)
            return
        self._save(tenant, row, row.claim, result, features, round((self.monotonic() - began) * 1000))

    def give_up(self, tenant: TenantId, analysis_id: UUID, code: str, message: str) -> None:
        """Fail for good; the page then says why and offers Retry."""
        with self.database.unit(tenant) as unit:
            row = unit.analyses.get(analysis_id)
            if unit.analyses.fail(analysis_id, code, message, self.clock()):
                unit.audit.record(
                    AuditAction.ANALYSIS_FAILED,
                    actor="worker",
                    study_id=row.study.id if row is not None else None,
                    outcome=AuditOutcome.FAILED,
                    code=code,
                    analysis=str(analysis_id),
                )
                unit.events.publish("analysis", {"analysis": str(analysis_id)})
        log.error("analysis given up", tenant=tenant.slug, analysis=str(analysis_id), code=code)

    def _outcome(
        self, tenant: TenantId, row: AnalysisRow, stored: tuple[StoredInstance, ...], features: Features
    ) -> _Result:
        choice = self.choices(tenant)
        models = ChosenModels(shelf=self.shelf, choice=choice.models)
        inputs = inputs_of(stored, tenant, objects=self.objects, parser=self.parser, volumes=self.volumes)
        by_uid = {i.record.sop_instance_uid: i for i in stored}
        outlined: list[SliceOutline] = []
        written: list[WrittenSeg] = []

        def first_critical(decision: TriageDecision) -> None:
            with self.database.unit(tenant) as unit:
                unit.analyses.save_triage(row.id, decision.urgency, decision.reason)
                unit.events.publish("analysis", {"analysis": str(row.id), "study": str(row.study.id)})

        def outline(read: VolumeRead) -> None:
            """While the volume is in memory: its outlines, and the SEG of the first one."""
            segments, volume = read.reading.segments, read.volume
            number = max((o.segment_number for o in outlined), default=0) + 1
            outlined.extend(outlines(segments, volume, first_number=number))
            if segments and not written:
                written.append(
                    self.segmentation.write_seg(
                        tenant,
                        analysis_id=row.id,
                        study_id=row.study.id,
                        segments=segments,
                        stored=volume,
                        evidence=read_instance(self.objects, tenant, by_uid[volume.sop_instance_uids[0]]),
                        findings=read.reading.findings,
                        model=read.analyser,
                        now=self.clock(),
                    )
                )

        outcome = analyse(
            inputs.images,
            inputs.problems,
            models,
            bar=choice.bar,
            no_model=models.why_none(CHEST_XRAY_TASK),
            triage_table=self.table,
            new_id=uuid7,
            features=features,
            series=inputs.series,
            analysers=models.analysers(self.analysers),
            on_triage=first_critical,
            on_volume=outline,
        )
        seg = written[0] if written else None
        if seg is not None and seg.problem is not None:
            outcome = replace(outcome, problems=(*outcome.problems, seg.problem))
        return _Result(outcome=outcome, outlines=outlined, seg=seg)

    def _save(
        self, tenant: TenantId, row: AnalysisRow, claim: UUID, result: _Result, features: Features, elapsed_ms: int
    ) -> None:
        outcome = result.outcome
        with self.database.unit(tenant) as unit:
            now = unit.features.switches()
            # What was switched off while this ran is dropped: without detection, or if the patient objects, all of it.
            lost = now.lost_since(features, modalities_of(row.study))
            why = not_analysed(unit, row.study, now, self.clock(), lost=lost)
            if why is not None:
                turn_away(unit, row.study, why, actor="worker", analysis=row.id)
                log.info("result dropped", tenant=tenant.slug, analysis=str(row.id), why=why.why.value)
                return
            outcome = without(outcome, lost)
            if not unit.analyses.complete(row.id, claim, outcome, self.clock(), elapsed_ms):
                log.info("result dropped: cancelled or claimed by another", tenant=tenant.slug, analysis=str(row.id))
                return
            unit.outlines.save(row.id, result.outlines)
            if result.seg is not None and result.seg.object_key is not None:
                unit.analyses.attach_seg(row.id, result.seg.object_key, result.seg.segment_count)
            unit.audit.record(
                AuditAction.ANALYSIS_COMPLETED,
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
                    AuditAction.ANALYSIS_FAILED,
                    actor="worker",
                    study_id=row.study.id,
                    outcome=AuditOutcome.FAILED,
                    code=error.code,
                    analysis=str(row.id),
                )
            else:
                unit.analyses.back_to_pending(row.id, error.code, str(error), counted=not is_away(error))
                enqueue_analysis(unit, row.id, row.study.id, row.priority, delay)
            unit.events.publish("analysis", {"analysis": str(row.id), "study": str(row.study.id)})
        log.warning("analysis failed", tenant=tenant.slug, analysis=str(row.id), code=error.code, again_in_s=delay)
