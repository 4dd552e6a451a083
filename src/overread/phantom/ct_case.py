"""A chest CT with known truth, from a seed: `ct_case` makes one, `CtCase` renders it and knows what is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from uuid import UUID, uuid5

import numpy as np
import numpy.typing as npt

from overread.domain.ids import uid_from_uuid
from overread.domain.volume import Volume, affine_of
from overread.phantom.anatomy import Anatomy, Arms, Side, draw_anatomy
from overread.phantom.ct import HU_RANGE, CtGeometry, CtSlice
from overread.phantom.ct_build import Contents, build
from overread.phantom.ct_emphysema import destroy
from overread.phantom.ct_noise import Kernel, Motion, doubled, noise, resolve
from overread.phantom.ct_scene import Scene, Slab
from overread.phantom.ct_truth import CtTruth
from overread.phantom.grid import Floats
from overread.phantom.nodules import Nodule
from overread.phantom.organs import LUNG_TOP, Organs

_NAMESPACE = UUID("6f766572-7265-4164-8000-000000000003")
#: Voxels of a slab, about: bounds the memory.
_SLAB_VOXELS = 2_200_000

#: mL on a side drawn from the seed, or of each side.
Amount = float | Mapping[Side, float]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class CtScan:
    """A scan and what is in each of its voxels."""

    volume: Volume
    #: uint8 of the volume's shape: values of `Tissue`, and the number (from 1) of a finding of the truth, 0 for none.
    labels: Labels
    lesion_labels: Labels


@dataclass(frozen=True, kw_only=True, eq=False)
class CtCase:
    """One phantom, one scan. Everything is a function of the arguments of `ct_case`: the same case, the same voxels."""

    seed: int
    geometry: CtGeometry
    scene: Scene
    known: CtTruth
    #: All arguments, for the UIDs.
    name: str
    kernel: Kernel
    #: Relative: the noise falls with its root.
    dose: float
    motion: Motion | None

    def truth(self) -> CtTruth:
        """What is known about it."""
        return self.known

    def slices(self) -> Iterator[CtSlice]:
        """From the feet to the head; only a few are in memory at a time."""
        return (self._noisy(index, self._resolved(index, slab.hu[at])) for index, slab, at in self._planes())

    def volume(self) -> Volume:
        """All slices, LPS+, with made-up UIDs that depend on the case only."""
        return self._volume(s.hu for s in self.slices())

    def clean_volume(self) -> Volume:
        """The same without noise."""
        return self._volume(
            self._slice(index, self._resolved(index, slab.hu[at])).hu for index, slab, at in self._planes()
        )

    def scan(self) -> CtScan:
        """`volume`, `labels` and `lesion_labels` for the work of one of them."""
        shape = (self.geometry.slices, self.geometry.size, self.geometry.size)
        labels, lesions = np.empty(shape, dtype=np.uint8), np.empty(shape, dtype=np.uint8)

        def planes() -> Iterator[npt.NDArray[np.int16]]:
            for index, slab, at in self._planes():
                labels[index], lesions[index] = slab.labels[at], slab.lesions[at]
                yield self._noisy(index, self._resolved(index, slab.hu[at])).hu

        return CtScan(volume=self._volume(planes()), labels=labels, lesion_labels=lesions)

    def labels(self) -> Labels:
        """`Tissue` of each voxel, uint8 of the volume's shape; where there is motion, of the first position."""
        return np.stack([slab.labels[at] for _, slab, at in self._planes()])

    def lesion_labels(self) -> Labels:
        """Number (from 1) of the finding of `truth` that each voxel belongs to, 0 for none; uint8."""
        return np.stack([slab.lesions[at] for _, slab, at in self._planes()])

    @cached_property
    def uids(self) -> tuple[str, str, str, tuple[str, ...]]:
        """StudyInstanceUID, SeriesInstanceUID, FrameOfReferenceUID and the SOPInstanceUID of each slice."""

        def uid(what: str) -> str:
            return uid_from_uuid(uuid5(_NAMESPACE, f"{self.name}\x1f{what}"))

        slices = tuple(uid(f"slice {i}") for i in range(self.geometry.slices))
        return uid("study"), uid("series"), uid("frame"), slices

    def _planes(self) -> Iterator[tuple[int, Slab, int]]:
        """Number of the slice, the slab that holds it, and where in the slab."""
        g = self.geometry
        step = max(3, _SLAB_VOXELS // (g.size * g.size))
        for first in range(0, g.slices, step):
            last = min(first + step, g.slices)
            # one plane more on each side than is kept: slopes across slices are known in the middle
            slab = self.scene.slab(g.grid(first - 1, last + 1))
            for at in range(1, last - first + 1):
                yield first + at - 1, slab, at

    def _resolved(self, index: int, plane: Floats) -> Floats:
        return np.asarray(resolve(self._moved(index, plane)[None], self.geometry.pixel_mm, self.kernel)[0])

    def _noisy(self, index: int, clean: Floats) -> CtSlice:
        rng = np.random.default_rng([self.seed, 7, index])
        rows, columns = clean.shape
        return self._slice(index, clean + noise((rows, columns), self.geometry.pixel_mm, self.kernel, self.dose, rng))

    def _moved(self, index: int, plane: Floats) -> Floats:
        if self.motion is None:
            return plane
        grid = self.geometry.grid(index - 1, index + 2)
        shift = self.motion.shift(float(grid.depths[1]))
        if not shift:
            return plane
        lower = replace(grid, depths=grid.depths - np.float32(shift))
        return doubled(plane, self.scene.slab(lower).hu[1], shift, self.geometry.pixel_mm)

    def _slice(self, index: int, hu: Floats) -> CtSlice:
        grid = self.geometry.grid(index, index + 1)
        return CtSlice(
            index=index,
            hu=np.clip(np.rint(hu), *HU_RANGE).astype(np.int16),
            position=(float(grid.cols[0]), float(grid.rows[0]), float(grid.depths[0])),
        )

    def _volume(self, planes: Iterator[npt.NDArray[np.int16]]) -> Volume:
        g = self.geometry
        hu = np.empty((g.slices, g.size, g.size), dtype=np.int16)
        for index, plane in enumerate(planes):
            hu[index] = plane
        grid = g.grid(0, 1)
        position = (float(grid.cols[0]), float(grid.rows[0]), float(grid.depths[0]))
        _study, series, frame, slices = self.uids
        return Volume(
            hu=hu,
            affine=affine_of(position, (1, 0, 0, 0, 1, 0), (g.pixel_mm, g.pixel_mm), (0, 0, g.slice_mm)),
            series_instance_uid=series,
            frame_of_reference_uid=frame,
            sop_instance_uids=slices,
            frame_numbers=(1,) * g.slices,
            slice_thickness_mm=g.slice_mm,
        )


def ct_case(
    seed: int,
    *,
    nodules: int | Sequence[Nodule] = 0,
    effusion_ml: Amount = 0.0,
    pneumothorax_ml: Amount = 0.0,
    consolidation_ml: Amount = 0.0,
    emphysema_percent: float = 0.0,
    kernel: Kernel | str = Kernel.SOFT,
    dose: float = 1.0,
    motion_mm: float = 0.0,
    geometry: CtGeometry | None = None,
    size: int = 512,
    slice_mm: float = 2.5,
) -> CtCase:
    """A chest CT of a made-up person drawn from ``seed``.

    ``nodules``: that many, drawn at random, or those given. Amounts are mL on a side drawn from the seed, or of each
    side. ``emphysema_percent`` is the share of both lungs under -950 HU without noise. ``dose`` is relative.
    ``motion_mm``: how far a breath moves the lung, in a quarter of the scan. Without ``geometry`` the scan covers both
    lungs and the width of the body, with ``size`` rows and columns and slices of ``slice_mm``.

    Raises ValueError for what does not fit into the lungs or is out of range.
    """
    if dose <= 0 or motion_mm < 0 or not 0 <= emphysema_percent <= 60:
        raise ValueError("dose must be positive, motion_mm not negative and emphysema_percent in 0..60")
    anatomy = replace(draw_anatomy(np.random.default_rng([seed, 0]), arms=Arms.UP), aorta_bound=True)
    contents = Contents(
        nodules=nodules,
        effusion_ml=effusion_ml,
        pneumothorax_ml=pneumothorax_ml,
        consolidation_ml=consolidation_ml,
    )
    scene, truth = build(anatomy, contents, np.random.default_rng([seed, 1]))
    scan = geometry or covering(anatomy, size=size, slice_mm=slice_mm)
    if emphysema_percent:
        number = len(truth.findings) + 1
        rng = np.random.default_rng([seed, 2])
        scene, reached, finding = destroy(scene, scan, Kernel(kernel), emphysema_percent, number, rng)
        finding = replace(finding, volume_ml=sum(truth.lung_ml.values()) * reached / 100.0)
        truth = replace(truth, findings=(*truth.findings, finding), emphysema_percent=reached)
    return CtCase(
        seed=seed,
        geometry=scan,
        scene=scene,
        known=truth,
        name=repr((seed, contents, emphysema_percent, scan, str(kernel), dose, motion_mm)),
        kernel=Kernel(kernel),
        dose=dose,
        motion=_motion(anatomy, motion_mm) if motion_mm else None,
    )


def _motion(anatomy: Anatomy, amount_mm: float) -> Motion:
    """In the quarter of the scan over the domes of the diaphragm."""
    middle = anatomy.height * (anatomy.dome_mm + 10.0)
    return Motion(amount_mm=amount_mm, low_mm=middle - 45.0, high_mm=middle + 45.0)


def covering(anatomy: Anatomy, *, size: int, slice_mm: float) -> CtGeometry:
    """The scan that covers both lungs and the skin."""
    organs = Organs(anatomy=anatomy)
    z = np.arange(-180.0, 60.0, 2.0, dtype=np.float32)[:, None, None]
    y = np.arange(-120.0, 120.0, 4.0, dtype=np.float32)[None, :, None]
    x = np.arange(-160.0, 160.0, 4.0, dtype=np.float32)[None, None, :]
    lung = np.minimum(*(organs.lung(side, x, y, z) for side in Side)) < 0
    low = float(z[np.flatnonzero(lung.any(axis=(1, 2)))[0], 0, 0]) - 12.0
    high = LUNG_TOP * anatomy.height + 14.0
    wide = np.arange(0.0, 260.0, 2.0, dtype=np.float32)[None, None, :]
    heights = np.arange(low, 120.0, 10.0, dtype=np.float32)[:, None, None]
    skin = organs.body(wide, np.zeros((1, 1, 1), np.float32), heights) < 0
    half = float(wide[0, 0, np.flatnonzero(skin.any(axis=(0, 1)))[-1]])
    field = float(np.clip(2 * half + 24.0, 320.0, 500.0))
    return CtGeometry(
        size=size, field_mm=field, slices=int(np.ceil((high - low) / slice_mm)), slice_mm=slice_mm, bottom_mm=low
    )
