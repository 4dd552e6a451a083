"""How thick free air on the wall is: profiles from the wall inwards, held against what air, pleura and lung look like.

In a pneumothorax a profile is air, then the line of the visceral pleura, then lung; in a healthy chest it is lung from
the wall on. Both are known but for the thickness of the air, and so is the blur: that of the scanner, and that of a
wall which runs obliquely through a slice. The thickness is the one whose model lies nearest to what is seen (least
squares over neighbouring places, since pleura is smooth). Thin air, which is nowhere as dark as air, is measured so as
well as thick air: what tells is the shape of the profile, not the value of a voxel.

Values are relative: 0 is air, 1 the lung behind. What is denser than `_CLIP` is soft tissue, and how dense says
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtr

from overread.domain.segment import Mask
from overread.domain.volume import AIR_HU
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, Floats32
from overread.pipeline.analysers.chest_ct.pleura_shell import DEPTHS_MM, STEP_MM, WALL_HU, Shell, masked_mean

#: Thicknesses that are tried, mm. The first is no air.
THICK_MM: Floats32 = np.concatenate(
    [[0.0], np.arange(0.2, 4.0, 0.2), np.arange(4.0, 12.0, 0.4), np.arange(12.0, 33.0, 1.0)]
).astype(np.float32)
#: Relative values are cut at, of air and of soft tissue.
_CLIP = (-0.25, 2.5)
#: Blur of the scanner, sigma, mm: the one that fits a scan best is taken. What pixels and the samples between them
#: add, sigma, pixels. All blurs that are told apart, as
#: factors of it.
_SHARP_MM, _PIXELS, _BLURS = (0.35, 0.55, 0.72, 0.95), 0.5, (1.0, 1.27, 1.67, 2.3, 3.1, 4.3)
#: The pleura: its thickness times what it is denser than air, HU mm, where nothing tells; else the same relative to the
#: lung behind, mm: the one that fits a scan best is taken.
_LINE_HU_MM = 300.0
_LINES_MM = (0.6, 1.2, 1.6, 2.0, 2.8, 3.6)
#: Half the thickness of the pleura: the line's middle lies so far behind the air, mm.
_HALF_LINE_MM = 0.2
#: Sigma over neighbouring places, mm: from slice to slice, and around.
_ALONG_MM = (3.0, 3.5)
#: Lung behind: sigma of its average, mm; its least and most value relative to the median of all lung.
_LUNG_MM, _LUNG_RANGE = 14.0, (0.55, 1.9)
_USUAL_RADIUS_MM = 85.0
#: What is blurred on each side, mm.
_EDGE_MM = 1.0
#: How much better air must fit a place than none, for it to choose the line; how many there must be; and how much
#: the difference of one counts at most. Sums of relative squares.
_CLEAR, _LEAST_CLEAR, _OUTLIER = 3.0, 60, 4.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Thickness:
    """Of the air at each place of a shell, (slices, rays)."""

    #: mm; 0 where no air fits better.
    thick_mm: Floats32
    #: Where air begins, mm inwards from the wall of the shell: the blur of thin air moves that wall.
    start_mm: Floats32
    #: How empty the middle of it is: 0 is air, 1 lung; 1 where it is too thin to have one.
    middle: Floats32
    #: How much better air fits than none, and a line behind it than none: sums of relative squares.
    gain: Floats32
    line_gain: Floats32


@dataclass(frozen=True, kw_only=True)
class _Look:
    """How air on the wall looks in a scan."""

    #: Sigma of scanner and pixels, mm.
    sharp_mm: float
    #: The pleura: thickness times density relative to the lung behind, mm.
    line_mm: float
    #: Soft tissue, relative to the lung behind.
    wall: float


def thickness(shell: Shell, grid: CoarseGrid, lung_hu: float) -> Thickness:
    """Of free air along the wall. `lung_hu` is the median of aerated lung."""
    relative = _relative(shell, grid, lung_hu)
    wall = (2 * (WALL_HU - AIR_HU)) / (lung_hu - AIR_HU)
    look = _best_look(shell, grid, relative, wall)
    blur = _blur(shell, grid, look.sharp_mm)
    cost, start = _costs(relative, blur, look, grid)
    without, _ = _costs(relative, blur, replace(look, line_mm=0.0), grid)
    cost, without = (_smoothed(c, shell.known, grid) for c in (cost, without))
    best = cost.argmin(axis=2)
    least = np.take_along_axis(cost, best[..., None], axis=2)[..., 0]
    gain = np.where(shell.known, cost[..., 0] - least, 0)
    return Thickness(
        thick_mm=np.where(shell.known, THICK_MM[best], 0).astype(np.float32),
        start_mm=start[blur, best].astype(np.float32),
        middle=_middle(relative, start[blur, best], THICK_MM[best]),
        gain=gain.astype(np.float32),
        line_gain=np.where(shell.known, without.min(axis=2) - least, 0).astype(np.float32),
    )


def _relative(shell: Shell, grid: CoarseGrid, lung_hu: float) -> Floats32:
    """Profiles relative to the lung behind, cut."""
    usual = lung_hu - AIR_HU
    low, high = (AIR_HU + usual * share for share in _LUNG_RANGE)
    deeper = shell.hu[..., DEPTHS_MM > 4.0]
    lung = (deeper > low) & (deeper < high)
    count = lung.sum(axis=2)
    mean = np.where(lung, deeper, 0).sum(axis=2) / np.maximum(count, 1)
    sigma = (_LUNG_MM / grid.spacing_mm[0], _LUNG_MM / (_USUAL_RADIUS_MM * 2 * np.pi / shell.wall_mm.shape[1]))
    behind = masked_mean(mean.astype(np.float32), (count >= 5) & shell.known, sigma)
    behind = np.where(np.isfinite(behind), behind, lung_hu)
    return np.asarray(np.clip((shell.hu - AIR_HU) / (behind - AIR_HU)[..., None], *_CLIP), np.float32)


def _blur(shell: Shell, grid: CoarseGrid, sharp_mm: float) -> NDArray[np.intp]:
    """Which of `_BLURS` holds along the rays: more where they meet the wall obliquely, and where it slopes."""
    across = sharp_mm**2 * (1 + shell.slope_in**2)
    total = np.sqrt(across + (grid.spacing_mm[0] * shell.slope_up) ** 2 / 12) / sharp_mm
    return np.searchsorted(np.array(_BLURS) * 1.13, total).clip(0, len(_BLURS) - 1)


def _models(look: _Look, blur: float, slice_mm: float) -> tuple[Floats32, Floats32]:
    """(profiles at `DEPTHS_MM` for each of `THICK_MM`, where air begins in them), shifted as those of a shell are."""
    fine = np.arange(-12.0, DEPTHS_MM[-1] + 6.0, 0.1)
    # along a ray that meets the wall obliquely the line is longer
    blur_mm = blur * look.sharp_mm
    oblique = np.sqrt(1 + (blur_mm**2 - look.sharp_mm**2) * 12 / slice_mm**2)
    out = np.empty((len(THICK_MM), len(DEPTHS_MM)), np.float32)
    start = np.empty(len(THICK_MM), np.float32)
    for number, thick in enumerate(THICK_MM):
        line = look.line_mm * oblique if number else 0.0
        at = thick + _HALF_LINE_MM * oblique
        model = look.wall * ndtr(-fine / blur_mm) + ndtr((fine - thick) / blur_mm)
        model += line * np.exp(-0.5 * ((fine - at) / blur_mm) ** 2) / (blur_mm * np.sqrt(2 * np.pi))
        crossing = float(fine[np.flatnonzero(model > look.wall / 2)[-1]]) + 0.05
        out[number] = np.interp(DEPTHS_MM + crossing, fine, model)
        start[number] = -crossing
    return np.clip(out, *_CLIP), start


def _costs(relative: Floats32, blur: NDArray[np.intp], look: _Look, grid: CoarseGrid) -> tuple[Floats32, Floats32]:
    """(sums of squares of the differences for each of `THICK_MM`; where air begins for each blur and thickness)."""
    cost = np.empty((*relative.shape[:2], len(THICK_MM)), np.float32)
    starts = np.empty((len(_BLURS), len(THICK_MM)), np.float32)
    for number, factor in enumerate(_BLURS):
        models, starts[number] = _models(look, factor, grid.spacing_mm[0])
        here = blur == number
        seen = relative[here]
        cost[here] = (seen * seen).sum(axis=1)[:, None] - 2 * seen @ models.T + (models * models).sum(axis=1)
    return cost * np.float32(STEP_MM / 0.6), starts


def _smoothed(cost: Floats32, known: Mask, grid: CoarseGrid) -> Floats32:
    sigma = (_ALONG_MM[0] / grid.spacing_mm[0], _ALONG_MM[1] / (_USUAL_RADIUS_MM * 2 * np.pi / known.shape[1]))
    weight = known.astype(np.float32)
    share = ndimage.gaussian_filter(weight, sigma, mode=("nearest", "wrap"), truncate=2.5)
    total = ndimage.gaussian_filter(
        cost * weight[..., None], (*sigma, 0), mode=("nearest", "wrap", "nearest"), truncate=2.5
    )
    return np.asarray(total / np.maximum(share, np.float32(1e-6))[..., None])


def _middle(relative: Floats32, start: Floats32, thick: Floats32) -> Floats32:
    """Mean between the borders, without what is blurred by them."""
    low, high = (start + _EDGE_MM)[..., None], (start + thick - _EDGE_MM)[..., None]
    inside = (low < DEPTHS_MM) & (high > DEPTHS_MM)
    count = inside.sum(axis=2)
    total = np.where(inside, relative, np.float32(0)).sum(axis=2)
    return np.where(count > 0, total / np.maximum(count, 1), 1.0).astype(np.float32)


def _best_look(shell: Shell, grid: CoarseGrid, relative: Floats32, wall: float) -> _Look:
    """The blur that fits best, which every wall tells; then the line that does, where air is clear."""
    known = shell.known
    some = relative[known][::7]
    scanner = [float(np.hypot(sharp, _PIXELS * shell.pixel_mm)) for sharp in _SHARP_MM]
    # relative: `wall` is twice `WALL_HU` above air
    usual = _Look(sharp_mm=scanner[0], line_mm=_LINE_HU_MM * wall / (2 * (WALL_HU - AIR_HU)), wall=wall)

    def costs(look: _Look) -> Floats32:
        return np.asarray(_costs(some[None], _blur(shell, grid, look.sharp_mm)[known][::7][None], look, grid)[0][0])

    def misfit(cost: Floats32) -> float:
        return float(np.mean(np.minimum(cost.min(axis=1), _OUTLIER)))

    looks = [replace(usual, sharp_mm=sharp) for sharp in scanner]
    fits = [costs(look) for look in looks]
    at = int(np.argmin([misfit(cost) for cost in fits]))
    clear = fits[at][:, 0] - fits[at].min(axis=1) > _CLEAR
    if clear.sum() < _LEAST_CLEAR:
        return looks[at]
    lines = [replace(looks[at], line_mm=line) for line in _LINES_MM]
    return min(lines, key=lambda look: misfit(costs(look)[clear]))
