"""The DICOM SEG of a volume that was read from files: `overread analyze --out` writes it beside the SR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from overread.cli_analyze.files import FileStudy
from overread.dicom.seg import HighdicomSegWriter
from overread.domain.analysis import InstanceProblem
from overread.domain.study import TenantId
from overread.pipeline.series import VolumeRead
from overread.services.segmentation import SegmentationService, seg_series_uid, seg_uid
from overread.services.tracking import tracking_uids
from overread.services.values import SegReference

#: A command works for nobody but its user.
_NOBODY = TenantId(slug="files")


@dataclass(frozen=True, kw_only=True, eq=False)
class WrittenVolume:
    """A SEG and how an SR refers to it."""

    document: bytes
    reference: SegReference
    tracking_uids: Mapping[UUID, str]


class _Kept:
    """An object store that keeps what is put into it, for as long as the command runs."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str], bytes] = {}

    def put(self, tenant: TenantId, key: str, data: bytes | memoryview) -> None:
        self._objects[tenant.slug, key] = bytes(data)

    def get(self, tenant: TenantId, key: str) -> bytes:
        return self._objects[tenant.slug, key]

    def exists(self, tenant: TenantId, key: str) -> bool:
        return (tenant.slug, key) in self._objects


class VolumeFiles:
    """Hears of each volume of a study that was read, and writes the SEG of the first that has segments."""

    def __init__(self, study: FileStudy, analysis_id: UUID) -> None:
        self._study = study
        self._analysis_id = analysis_id
        self.written: WrittenVolume | None = None
        #: Why no SEG could be written that lies where the images lie.
        self.problem: InstanceProblem | None = None

    def add(self, read: VolumeRead) -> None:
        """Write it, or note the problem."""
        segments, findings = read.reading.segments, read.reading.findings
        if self.written is not None or not segments:
            return
        kept = _Kept()
        done = SegmentationService(objects=kept, writer=HighdicomSegWriter()).write_seg(
            _NOBODY,
            analysis_id=self._analysis_id,
            # Files have no study of ours that names findings over time: their names follow from the analysis.
            study_id=self._analysis_id,
            segments=segments,
            stored=read.volume,
            evidence=self._study.slices[read.volume.sop_instance_uids[0]],
            findings=findings,
            model=read.analyser,
            now=datetime.now(UTC),
        )
        if done.object_key is None:
            self.problem = done.problem
            return
        numbered = list(enumerate(segments, start=1))
        self.written = WrittenVolume(
            document=kept.get(_NOBODY, done.object_key),
            reference=SegReference(
                sop_instance_uid=seg_uid(self._analysis_id),
                series_instance_uid=seg_series_uid(self._analysis_id),
                source_series_uid=read.volume.series_instance_uid,
                findings={s.finding_id: number for number, s in numbered if s.finding_id is not None},
                organs={s.key: number for number, s in numbered if s.finding_id is None},
            ),
            tracking_uids=tracking_uids(self._analysis_id, findings),
        )
