"""Axial CT of a thorax: Hounsfield units with partial volume and noise, slice by slice so that memory stays small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from overread.phantom.anatomy import AIR
from overread.phantom.grid import Floats, Grid, axis_points, coverage
from overread.phantom.thorax import Layer, Thorax
from overread.phantom.trees import VESSEL
from overread.phantom.tubes import Tube, paint

#: What CT stores: the usual range of a 12-bit scanner.
HU_RANGE = (-1024, 3071)
_SLAB = 6


@dataclass(frozen=True, kw_only=True)
class CtGeometry:
    """Which slices: axial, from the feet to the head, centred on the phantom's axis."""

    #: Rows and columns, and width of the field, mm.
    size: int = 512
    field_mm: float = 380.0
    #: Number of slices and their distance (and thickness), mm.
    slices: int = 150
    slice_mm: float = 2.5
    #: Height of the lower face of the first slice, mm.
    bottom_mm: float = -120.0

    @property
    def pixel_mm(self) -> float:
        """PixelSpacing (0028,0030)."""
        return self.field_mm / self.size

    def grid(self, first: int, last: int) -> Grid:
        """Sample points of slices ``first`` to ``last`` - 1."""
        half = self.field_mm / 2
        centres = self.bottom_mm + self.slice_mm * (np.arange(first, last) + 0.5)
        inplane = axis_points(-half, half, self.pixel_mm)
        return Grid(
            normal=2,
            row_axis=1,
            col_axis=0,
            depths=centres.astype(np.float32),
            rows=inplane,
            cols=inplane,
            shrink=np.ones(last - first, dtype=np.float32),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CtSlice:
    """One axial slice."""

    #: 0-based, from the feet.
    index: int
    #: Hounsfield units, int16 (rows, columns); rows run to the back, columns to the patient's left.
    hu: npt.NDArray[np.int16]
    #: ImagePositionPatient (0020,0032): centre of the first pixel, x, y, z in mm, LPS.
    position: tuple[float, float, float]


def scan(
    thorax: Thorax, geometry: CtGeometry, rng: np.random.Generator, *, noise_hu: float = 18.0
) -> Iterator[CtSlice]:
    """The slices in order. ``noise_hu`` is the standard deviation of the (smooth-kernel) noise."""
    tubes = thorax.tubes
    spans = np.array([(t.path[:, 2].min() - 8.0, t.path[:, 2].max() + 8.0) for t in tubes])
    for first in range(0, geometry.slices, _SLAB):
        last = min(first + _SLAB, geometry.slices)
        # one plane more on each side than is kept, so that a slab always has a step
        grid = geometry.grid(first - 1, last + 1)
        low, high = grid.depths[0] - grid.step, grid.depths[-1] + grid.step
        near = [t for t, (a, b) in zip(tubes, spans, strict=True) if a <= high and b >= low]
        volume = hounsfield(thorax.layers, near, grid)[1:-1]
        for i, hu in enumerate(volume):
            if noise_hu:
                hu = hu + _noise(rng, hu.shape, noise_hu)
            yield CtSlice(
                index=first + i,
                hu=np.clip(np.rint(hu), *HU_RANGE).astype(np.int16),
                position=(float(grid.cols[0]), float(grid.rows[0]), float(grid.depths[i + 1])),
            )


def hounsfield(layers: tuple[Layer, ...], tubes: list[Tube], grid: Grid) -> Floats:
    """Mean Hounsfield units of each voxel of ``grid``, float32 (planes, rows, columns), without noise."""
    out = np.full(grid.shape, AIR, dtype=np.float32)
    pixel = abs(float(grid.cols[1] - grid.cols[0]))
    for layer in layers:
        place, part = grid.window(layer.box, margin=2 * pixel)
        if min(part.shape) < 1:
            continue
        level = np.broadcast_to(layer.level(*part.points()), part.shape)
        share = coverage(level, pixel)
        out[place] += np.float32(layer.hu) * (share if layer.fade is None else share * layer.fade.share(part))
    paint(out, grid, (t for t in tubes if t.name != VESSEL), whole_ray=False)
    vessels = [t for t in tubes if t.name == VESSEL]
    if vessels:  # branches that overlap hold the same blood once
        blood = np.zeros_like(out)
        paint(blood, grid, vessels, whole_ray=False)
        out += np.minimum(blood, np.float32(max(t.hu for t in vessels)))
    return np.maximum(out, np.float32(AIR))


def _noise(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> Floats:
    white = rng.standard_normal(shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, 0.7)
    return np.asarray(smooth * np.float32(deviation / max(float(smooth.std()), 1e-6)), dtype=np.float32)
