"""Free pleural air: on the chest wall, emptier than lung, bounded towards the lung by the line of the visceral pleura.

It is measured along the wall (`pleura_shell`, `pleura_line`), where the line stands out, and from there followed
inwards on the coarse grid where it is thicker than what is measured there. Emphysema reaches the wall too, but passes
into lung without a line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.volume import AIR_HU, Volume
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, opened
from overread.pipeline.analysers.chest_ct.pleura_line import Thickness, thickness
from overread.pipeline.analysers.chest_ct.pleura_shell import AirLayer, Shell, area_mm2, shell_of

#: Free air: half-way from air to lung, within these limits, HU.
_LIMIT_HU = (-955.0, -922.0)
#: A place holds free air where it fits so much better than none (sum of relative squares), less beside such places,
_GAIN, _THIN_GAIN = 0.3, 0.1
#: and, where it is thicker than this, mm, is emptier than this in the middle (0 is air, 1 lung).
_THICKER_MM, _EMPTY = 5.0, 0.75
#: What counts as a steep wall, mm a mm from slice to slice.
_STEEP = 1.0
#: Places that tell: so thick, mm, and pixels. There a line fits so much better than none.
_CLEAR_MM, _CLEAR_PIXELS, _LINE_GAIN = 1.5, 1.0, 0.15
#: A piece: least area of wall that tells, cm2; volume, mL; share of that area with a line;
#: less where its middle is as empty as this: coarse pixels and slices blur the line.
_LEAST_CM2, _LEAST_ML, _LINE_SHARE, _LINE_SHARE_EMPTY, _PIECE_EMPTY = 20.0, 6.0, 0.7, 0.2, 0.5
#: What hangs on it further in: at most so many times as much, and mL more. Emphysema that a bulla reaches has more.
_DEEPER, _DEEPER_ML = 2.0, 60.0
#: Smoothing and half the least thickness of what is followed inwards, mm.
_SMOOTH_MM, _BALL_MM = 1.0, 2.2


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseAir:
    """Free air of one half."""

    layer: AirLayer
    #: The same, on the coarse grid.
    on_wall: Mask
    #: What lies further in, on the coarse grid.
    deeper: Mask

    @property
    def mask(self) -> Mask:
        """All of it, on the coarse grid."""
        return np.asarray(self.on_wall | self.deeper)


def find_air(volume: Volume, grid: CoarseGrid, holds_air: Mask, candidates: Mask, lung_hu: float) -> CoarseAir | None:
    """Free air of one half; None if there is none.

    `holds_air` is what is seen to hold air in this half, lung and pleura alike; `candidates` may be pleura: lung and
    what was neither lung nor airway. `lung_hu` is the median of aerated lung.
    """
    shell = shell_of(volume, grid, holds_air)
    if shell is None:
        return None
    layer = _layer(shell, thickness(shell, grid, lung_hu), grid)
    if layer is None:
        return None
    on_wall = np.zeros(grid.hu.shape, np.bool_)
    for level in range(shell.first, shell.first + len(shell.wall_mm)):
        on_wall[level] = layer.within(grid, level, volume.spacing_mm, fine=False)
    on_wall &= candidates
    return CoarseAir(layer=layer, on_wall=on_wall, deeper=_deeper(grid, on_wall, candidates, layer, lung_hu))


def _deeper(grid: CoarseGrid, on_wall: Mask, candidates: Mask, layer: AirLayer, lung_hu: float) -> Mask:
    """What of the same air lies where no profile reaches: nothing if that is lung destroyed by emphysema."""
    limit = float(np.clip((AIR_HU + lung_hu) / 2, *_LIMIT_HU))
    smooth = ndimage.gaussian_filter(grid.hu, [_SMOOTH_MM / step for step in grid.spacing_mm], truncate=2.5)
    empty = opened((smooth < limit) & candidates, grid.spacing_mm, _BALL_MM)
    labels, _ = ndimage.label(empty | on_wall)
    numbers = np.unique(labels[on_wall])
    found = np.isin(labels, numbers[numbers > 0]) & ~on_wall
    if grid.ml(found) > (_DEEPER - 1) * layer.volume_ml + _DEEPER_ML:
        return np.zeros_like(found)
    return np.asarray(found)


def _layer(shell: Shell, found: Thickness, grid: CoarseGrid) -> AirLayer | None:
    """The air of those pieces of wall that pass."""
    thick = found.thick_mm
    here = (thick > 0) & ((thick < _THICKER_MM) | (found.middle < _EMPTY))
    clear = max(_CLEAR_MM, _CLEAR_PIXELS * shell.pixel_mm)
    thin, here = here & (found.gain > _THIN_GAIN) & (thick < clear), here & (found.gain > _GAIN)
    # the slice blurs what lies on a steep wall, at the apex; across the wall it is thinner than along a ray
    steep = shell.slope_up > _STEEP
    across = thick / np.sqrt(1 + shell.slope_in**2 + shell.slope_up**2)
    thin |= steep & (thick > 0) & (across < _THICKER_MM) & (found.gain > _GAIN)
    outer = shell.wall_mm - found.start_mm
    ml = np.nan_to_num(area_mm2(outer, outer - thick)) * np.float32(grid.spacing_mm[0] / 1000)
    area_of = np.nan_to_num(shell.wall_mm) * np.float32(2 * np.pi / thick.shape[1] * grid.spacing_mm[0] / 100)
    kept = np.zeros(thick.shape, np.bool_)
    labels = _around_labels(here)
    for number in np.unique(labels[labels > 0]):
        piece = labels == number
        tells = piece & (thick >= clear)
        if float(area_of[tells].sum()) < _LEAST_CM2 or float(ml[piece].sum()) < _LEAST_ML:
            continue
        lined = float(np.mean(found.line_gain[tells] > _LINE_GAIN))
        empty = float(np.median(found.middle[tells])) < _PIECE_EMPTY
        if lined >= (_LINE_SHARE_EMPTY if empty else _LINE_SHARE):
            kept |= piece
    if not kept.any():
        return None
    kept = ndimage.binary_propagation(kept, mask=kept | thin)
    start = np.where(kept, found.start_mm, np.nan).astype(np.float32)
    return AirLayer(shell=shell, start_mm=start, end_mm=start + thick, volume_ml=float(ml[kept].sum()))


def _around_labels(here: Mask) -> NDArray[np.int32]:
    """Pieces of (slices, rays); the last ray lies beside the first."""
    labels, count = ndimage.label(here)
    same = np.arange(count + 1)
    for one, two in zip(labels[:, 0], labels[:, -1], strict=True):
        if one and two and same[one] != same[two]:
            same[same == same[two]] = same[one]
    return np.asarray(same[labels], dtype=np.int32)
