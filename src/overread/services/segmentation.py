"""The DICOM SEG of an analysis: written by the worker before the result is saved, while the masks are in memory.

The object is put first and its key attached in the transaction that completes the analysis, so that a worker killed in
between leaves at most an object that the next attempt writes again under the same key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

import structlog

from overread.domain.analysis import Finding, InstanceProblem
from overread.domain.errors import NoSegmentation, OverreadError
from overread.domain.evidence import ModelIdentity
from overread.domain.ids import uid_from_uuid
from overread.domain.segment import Segment
from overread.domain.study import TenantId
from overread.domain.volume import Volume
from overread.services.object_ports import ObjectStore
from overread.services.ports import SegWriter
from overread.services.tracking import tracking_uids
from overread.services.values import AnalysisRow, OutlinedSegment, SegReference, SegRequest

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class WrittenSeg:
    """What became of a SEG: its key in the object store, or the problem to show beside the findings."""

    object_key: str | None
    segment_count: int = 0
    problem: InstanceProblem | None = None


@dataclass(frozen=True, kw_only=True)
class SegmentationService:
    """Writes the SEG of one analysis; its UIDs follow from the analysis id, so a second run writes the same object."""

    objects: ObjectStore
    writer: SegWriter
    uid_root: str = "2.25"

    def write_seg(
        self,
        tenant: TenantId,
        *,
        analysis_id: UUID,
        study_id: UUID,
        segments: Sequence[Segment],
        stored: Volume,
        evidence: bytes,
        findings: Sequence[Finding],
        model: ModelIdentity,
        now: datetime,
    ) -> WrittenSeg:
        """Write and put it. Give key and count to `attach_seg`, and add `problem` to the outcome's problems.

        `stored` is the volume as `dicom.series` read it, `evidence` the bytes of one of its files, `study_id` our id of
        the study. Never raises for what the images are like; `StorageFull` and other transient errors go through.
        """
        if not segments:
            return WrittenSeg(object_key=None)
        try:
            document = self.writer.write(
                SegRequest(
                    analysis_id=analysis_id,
                    segments=segments,
                    stored=stored,
                    evidence=evidence,
                    model=model,
                    sop_instance_uid=seg_uid(analysis_id, self.uid_root),
                    series_instance_uid=seg_series_uid(analysis_id, self.uid_root),
                    dimension_uid=uid_from_uuid(uuid5(analysis_id, "seg dimensions"), self.uid_root),
                    completed_at=now,
                    tracking_uids=tracking_uids(study_id, findings),
                )
            )
        except OverreadError as error:
            if error.transient:
                raise
            log.warning("no SEG could be written", tenant=tenant.slug, analysis=str(analysis_id), code=error.code)
            return WrittenSeg(
                object_key=None,
                problem=InstanceProblem(
                    instance=f"series {stored.series_instance_uid}", code=NoSegmentation.code, message=str(error)
                ),
            )
        key = f"seg/{analysis_id}.dcm"
        self.objects.put(tenant, key, document)
        return WrittenSeg(object_key=key, segment_count=len(segments))


def seg_uid(analysis_id: UUID, uid_root: str = "2.25") -> str:
    """SOPInstanceUID of the SEG of an analysis."""
    return uid_from_uuid(uuid5(analysis_id, "seg instance"), uid_root)


def seg_series_uid(analysis_id: UUID, uid_root: str = "2.25") -> str:
    """SeriesInstanceUID of the SEG of an analysis."""
    return uid_from_uuid(uuid5(analysis_id, "seg series"), uid_root)


def seg_reference(
    row: AnalysisRow, segments: Sequence[OutlinedSegment], source_series_uid: str, uid_root: str = "2.25"
) -> SegReference | None:
    """How the SR of an analysis refers to its SEG; None if there is none."""
    if row.seg_object_key is None:
        return None
    inside = [segment for segment in segments if segment.number <= row.seg_segment_count]
    return SegReference(
        sop_instance_uid=seg_uid(row.id, uid_root),
        series_instance_uid=seg_series_uid(row.id, uid_root),
        source_series_uid=source_series_uid,
        findings={s.finding_id: s.number for s in inside if s.finding_id is not None},
        organs={s.key: s.number for s in inside if s.finding_id is None},
    )
