"""From what was seen to what is said: findings, measurements and segments of one volume."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from overread.domain import catalogue
from overread.domain.analysis import Finding, Measurement, NotAssessed
from overread.domain.catalogue import Code
from overread.domain.evidence import ModelIdentity
from overread.domain.modality import Modality
from overread.domain.segment import Mask, Segment, box_on_slice, cut_out
from overread.domain.tissue import Tissue
from overread.domain.volume import Volume
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy
from overread.pipeline.analysers.chest_ct.consolidation import HighAttenuation
from overread.pipeline.analysers.chest_ct.density import Density, LungDensity
from overread.pipeline.analysers.chest_ct.lesions import CONSOLIDATION_METHOD, Lesion
from overread.pipeline.analysers.contract import ReadingContext, VolumeReading

#: What stands behind each finding: the evidence is not from patients.
EXPLORATORY = "Exploratory, changes no order: its method was tested on phantoms, not on patients."
#: Where a hospital decided that the finding may raise urgency all the same.
WAIVED = "May raise urgency by this hospital's decision: its method was tested on phantoms, not on patients."
#: Each volume counts voxels.
VOXELS = "voxels inside the outline"
_BODY_PART = "CHEST"
_NO_METHOD = "no method for it is installed"
_ORGANS = (
    (Tissue.RIGHT_LUNG, "lung_right", "Right lung", Code(value="3341006", scheme="SCT", meaning="Right lung")),
    (Tissue.LEFT_LUNG, "lung_left", "Left lung", Code(value="44029006", scheme="SCT", meaning="Left lung")),
    (Tissue.AIRWAYS, "airways", "Airways", Code(value="airways", scheme="99OVERREAD", meaning="Trachea and bronchi")),
)
_HOUNSFIELD = "[hnsf'U]"


@dataclass(kw_only=True)
class Report:
    """Collects what is said of one volume."""

    #: As the files have it, and upright.
    stored: Volume
    upright: Volume
    identity: ModelIdentity
    context: ReadingContext
    #: What a reader of its numbers should know, sentences; it goes with them.
    note: str = ""
    findings: list[Finding] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    assessed: list[str] = field(default_factory=list)
    #: Finding type -> why it was not looked for, or not everywhere.
    reasons: dict[str, str] = field(default_factory=dict)
    #: What of an assessed type was not looked for.
    beside: list[NotAssessed] = field(default_factory=list)

    def lesion(self, lesion: Lesion) -> None:
        """A finding with its sizes and its outline."""
        new_id = self.context.new_id()
        index = lesion.slice_index
        exploratory = not self.context.bar.of(lesion.key).waived
        self.findings.append(
            Finding(
                id=new_id,
                finding_type=lesion.key,
                severity=self.context.table.severity(lesion.key, catalogue.entry(lesion.key).severity),
                confidence=lesion.confidence,
                sop_instance_uid=self.upright.sop_instance_uids[index],
                bounding_box=box_on_slice(self._points(lesion), self.stored),
                slice_number=self._stored_index(index) + 1,
                description=f"{lesion.sentence} {EXPLORATORY if exploratory else WAIVED}",
                model=self.identity,
                method=lesion.method,
                exploratory=exploratory,
            )
        )
        for kind, value, unit in lesion.sizes:
            self.measurements.append(
                Measurement(
                    id=self.context.new_id(),
                    measurement_type=kind,
                    value=value,
                    unit=unit,
                    method=lesion.method,
                    finding_id=new_id,
                    metadata={"site": lesion.site, "slice": self._stored_index(index) + 1},
                )
            )
        affine = self.upright.affine.copy()
        affine[:3, 3] = self.upright.to_mm([side.start for side in lesion.box])
        self.segments.append(
            Segment(
                key=lesion.key,
                name=lesion.name,
                code=catalogue.entry(lesion.key).code,
                mask=np.array(lesion.mask, np.bool_),
                affine=affine,
                finding_id=new_id,
            )
        )

    def looked_for(self, keys: tuple[str, ...], reason: str) -> None:
        """Types that were looked for; with a reason, not everywhere, so that they do not count as assessed."""
        if reason:
            self.reasons.update(dict.fromkeys(keys, reason))
        else:
            self.assessed.extend(keys)

    def left_out(self, name: str, reason: str) -> None:
        """What of a type that was looked for was not, and why."""
        self.beside.append(NotAssessed(finding_type="", name=name, reason=reason))

    def organs(self, anatomy: ChestAnatomy) -> None:
        """Outlines of lungs and airways."""
        for tissue, key, name, code in _ORGANS:
            segment = cut_out(anatomy.labels == tissue, anatomy.volume, key=key, name=name, code=code)
            if segment is not None:
                self.segments.append(segment)

    def volumes(self, density: Density) -> None:
        """Volume and mean density of each lung and of both."""
        for side, lung in _sides(density):
            self._measured(f"lung_volume_{side}", lung.volume_ml, "mL", VOXELS, side)
        for side, lung in _sides(density):
            self._measured(f"lung_density_{side}", lung.mean_hu, _HOUNSFIELD, f"mean of {VOXELS}", side)

    def shares(self, density: Density) -> None:
        """Shares of low and high attenuation, and the 15th percentile."""
        noise = density.noise_hu or 0.0
        for side, lung in _sides(density):
            self._measured(f"laa_950_{side}", lung.low_percent, "%", density.method, side, noise_hu=round(noise, 1))
        for side, lung in _sides(density):
            self._measured(f"haa_{side}", lung.high_percent, "%", f"-600 to -250 HU: {density.method}", side)
        for side, lung in _sides(density):
            self._measured(f"perc_15_{side}", lung.percentile_15_hu, _HOUNSFIELD, density.method, side)

    def dense(self, dense: HighAttenuation) -> None:
        """Shares of consolidated lung and of ground glass."""
        how = "blocks of 2 mm away from vessels and borders"
        self._measured("consolidated_lung_total", dense.consolidated_percent, "%", CONSOLIDATION_METHOD, "total")
        self._measured("ground_glass_total", dense.ground_glass_percent, "%", f"-700 to -300 HU, {how}", "total")

    def done(self) -> VolumeReading:
        """The reading: what no step spoke of has no method here."""
        not_assessed = [
            NotAssessed(finding_type=entry.key, name=entry.name, reason=self.reasons.get(entry.key, _NO_METHOD))
            for entry in catalogue.findings_for(Modality.CT, _BODY_PART)
            if entry.key not in self.assessed
        ]
        findings = sorted(self.findings, key=lambda f: (-f.severity.rank, -f.confidence))
        return VolumeReading(
            body_part=_BODY_PART,
            findings=tuple(findings),
            measurements=tuple(self.measurements),
            segments=tuple(self.segments),
            assessed=tuple(self.assessed),
            not_assessed=(*self.beside, *not_assessed),
        )

    def _measured(
        self, kind: str, value: float, unit: str, method: str, side: str, **metadata: str | int | float | bool
    ) -> None:
        site = "lungs" if side == "total" else f"lung_{side}"
        self.measurements.append(
            Measurement(
                id=self.context.new_id(),
                measurement_type=kind,
                value=value,
                unit=unit,
                method=method,
                metadata={"site": site, **metadata, **({"note": self.note} if self.note else {})},
            )
        )

    def _stored_index(self, index: int) -> int:
        """Slice of the stored volume, from 0."""
        middle = [index, (self.upright.shape[1] - 1) / 2, (self.upright.shape[2] - 1) / 2]
        return int(
            np.clip(round(float(self.stored.to_index(self.upright.to_mm(middle))[0])), 0, len(self.stored.hu) - 1)
        )

    def _points(self, lesion: Lesion) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """The lesion's voxels in the slice of the finding, mm; all of them if it has none there."""
        plane: Mask = lesion.mask[lesion.slice_index - lesion.box[0].start]
        rows, columns = np.nonzero(plane)
        at = np.stack(
            [np.full(len(rows), lesion.slice_index), rows + lesion.box[1].start, columns + lesion.box[2].start]
        )
        return np.asarray(self.upright.to_mm(at.T.astype(np.float64)))


def _sides(density: Density) -> list[tuple[str, LungDensity]]:
    named = (("right", density.right), ("left", density.left), ("total", density.both))
    return [(side, lung) for side, lung in named if lung is not None]
