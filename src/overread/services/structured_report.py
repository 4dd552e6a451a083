"""Follow-up of a completed analysis: its DICOM SR, written by a job of its own and kept beside the study."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid5

import structlog

from overread.domain.errors import OverreadError
from overread.domain.ids import uid_from_uuid
from overread.domain.study import TenantId
from overread.services.custody import read_instance
from overread.services.object_ports import ObjectStore
from overread.services.ports import Clock, Database, SrWriter
from overread.services.segmentation import seg_reference
from overread.services.values import SrRequest

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class StructuredReportService:
    """Writes the SR once; its UIDs follow from the analysis id, so a second run writes the same object."""

    database: Database
    objects: ObjectStore
    writer: SrWriter
    clock: Clock
    uid_root: str = "2.25"

    def run(self, tenant: TenantId, analysis_id: UUID) -> None:
        """Nothing to do if the analysis is not completed or has its SR already."""
        with self.database.unit(tenant) as unit:
            row = unit.analyses.get(analysis_id)
            if row is None or row.outcome is None or row.completed_at is None or row.sr_object_key is not None:
                return
            stored = unit.studies.instances(row.study.id)
            segments = unit.outlines.summary(analysis_id) if row.seg_object_key is not None else ()
        cited = {f.sop_instance_uid for f in row.outcome.findings} | {s.largest.sop_instance_uid for s in segments}
        images = [i for i in stored if i.record.filed_only_reason is None]
        evidence = [i for i in images if i.record.sop_instance_uid in cited] or images[:1]
        series_of = {i.record.sop_instance_uid: i.record.series_instance_uid for i in images}
        source_series = next((series_of.get(s.largest.sop_instance_uid, "") for s in segments), "")
        try:
            document = self.writer.write(
                SrRequest(
                    analysis_id=row.id,
                    outcome=row.outcome,
                    evidence=[read_instance(self.objects, tenant, i) for i in evidence],
                    sop_instance_uid=uid_from_uuid(uuid5(row.id, "sr instance"), self.uid_root),
                    series_instance_uid=uid_from_uuid(uuid5(row.id, "sr series"), self.uid_root),
                    completed_at=row.completed_at,
                    tracking_uids=row.tracking_uids,
                    segmentation=seg_reference(row, segments, source_series, self.uid_root) if source_series else None,
                )
            )
        except OverreadError as error:
            if error.transient:
                raise
            log.error("no SR could be written", tenant=tenant.slug, analysis=str(row.id), code=error.code)
            raise
        key = f"sr/{row.id}.dcm"
        self.objects.put(tenant, key, document)
        with self.database.unit(tenant) as unit:
            unit.analyses.attach_sr(row.id, key)
            unit.events.publish("analysis", {"analysis": str(row.id), "study": str(row.study.id)})
