"""High-attenuation lung: consolidation, its regions, and ground glass.

Limits: consolidation hides vessels (Hansell et al., Fleischner Society glossary, Radiology 2008;246:697), which takes
soft-tissue density; -250 HU and more on blocks of 2 mm, away from vessels and the border of the lung. Ground glass is
-700 to -300 HU, denser than lung and lighter than what hides vessels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from overread.domain.segment import Mask
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy, Tissue
from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, coarsen, deeper, opened, within
from overread.pipeline.analysers.chest_ct.pleura_region import Region, region_of

#: Consolidated blocks, HU; contrast medium in vessels lies above.
CONSOLIDATED_HU, _CONTRAST_HU = -250.0, 140.0
GROUND_GLASS_HU = (-700.0, -300.0)
#: Half the least thickness of consolidation, mm: vessels away from the hilum are thinner.
_BALL_MM = 5.5
#: Half the least thickness of ground glass, and how far it must lie from border and dense structures, mm.
_GLASS_BALL_MM, _GLASS_CLEAR_MM = 3.0, 3.0
#: How far the border is looked for outside that inside, mm.
_FOLLOW_MM = 6.0
#: Least volume of a region, mL, and of one at the hilum; what counts as the hilum, mm from airways that were followed.
_LEAST_ML, _LEAST_HILAR_ML, _HILAR_MM = 5.0, 40.0, 16.0
#: Share of a region that must lie there to be at the hilum.
_HILAR_SHARE = 0.5
#: Volume from which a region is certain, mL: the score rises up to it.
_CERTAIN_ML = 40.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Consolidation:
    """One region of consolidated lung."""

    #: "right" or "left".
    side: str
    volume_ml: float
    mean_hu: float
    #: Slice of the volume, from 0, in which its area is largest.
    slice_index: int
    region: Region
    #: 0 to 1, no probability: grows with volume up to 40 mL.
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class HighAttenuation:
    """What of both lungs holds less air than it should."""

    #: The largest first.
    regions: tuple[Consolidation, ...]
    #: Shares of both lungs, %.
    consolidated_percent: float
    ground_glass_percent: float


def find(anatomy: ChestAnatomy) -> HighAttenuation:
    """Consolidation and ground glass in the lungs of `anatomy`, to which `pleura.complete` has added airless lung."""
    volume = anatomy.volume
    grid = coarsen(volume)
    lungs_ml = anatomy.ml(Tissue.RIGHT_LUNG) + anatomy.ml(Tissue.LEFT_LUNG)
    airways = _sampled(anatomy, grid, Tissue.AIRWAYS)
    hilum = within(airways, grid.spacing_mm, _HILAR_MM)
    found: list[Consolidation] = []
    glass_ml = 0.0
    for side, tissue in (("right", Tissue.RIGHT_LUNG), ("left", Tissue.LEFT_LUNG)):
        lung = _sampled(anatomy, grid, tissue)
        if not lung.any():
            continue
        core = opened(lung & (grid.hu > CONSOLIDATED_HU) & (grid.hu < _CONTRAST_HU), grid.spacing_mm, _BALL_MM)
        found += _regions(anatomy, grid, side, tissue, core, hilum)
        glass_ml += grid.ml(_ground_glass(grid, lung, core))
    found.sort(key=lambda c: -c.volume_ml)
    whole = max(lungs_ml, 1e-6)
    return HighAttenuation(
        regions=tuple(found),
        consolidated_percent=100 * sum(c.volume_ml for c in found) / whole,
        ground_glass_percent=100 * glass_ml / whole,
    )


def _sampled(anatomy: ChestAnatomy, grid: CoarseGrid, tissue: Tissue) -> Mask:
    """Blocks whose middle voxel has a label."""
    places = (
        np.minimum(np.arange(n) * f + f // 2, size - 1)
        for n, f, size in zip(grid.hu.shape, grid.factors, grid.fine_shape, strict=True)
    )
    return np.asarray(anatomy.labels[np.ix_(*places)] == tissue)


def _regions(
    anatomy: ChestAnatomy, grid: CoarseGrid, side: str, tissue: Tissue, core: Mask, hilum: Mask
) -> list[Consolidation]:
    labels, _ = ndimage.label(within(core, grid.spacing_mm, 2.0))
    out = []
    margin = [int(np.ceil(_FOLLOW_MM / step)) + 1 for step in grid.spacing_mm]
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        grow = tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(place, margin, strict=True))
        piece = (labels[grow] == number) & core[grow]
        hilar = float(np.mean(hilum[grow][piece]))
        least = _LEAST_HILAR_ML if hilar > _HILAR_SHARE else _LEAST_ML
        if grid.ml(piece) < least / 2:
            continue
        region = _drawn(anatomy, grid, tissue, piece, (grow[0].start, grow[1].start, grow[2].start))
        if region is None:
            continue
        ml = region.ml(anatomy.volume)
        if ml >= least:
            out.append(
                Consolidation(
                    side=side,
                    volume_ml=ml,
                    mean_hu=region.mean_hu(anatomy.volume),
                    slice_index=region.largest_slice,
                    region=region,
                    score=float(np.clip(ml / _CERTAIN_ML, 0, 1)) ** 0.5,
                )
            )
    return out


def _drawn(
    anatomy: ChestAnatomy, grid: CoarseGrid, tissue: Tissue, piece: Mask, start: tuple[int, int, int]
) -> Region | None:
    """The voxels of a coarse piece, to half-way between its density and that of lung."""
    volume = anatomy.volume
    box = tuple(
        slice(at * f, min((at + n) * f, size))
        for at, n, f, size in zip(start, piece.shape, grid.factors, volume.shape, strict=True)
    )
    inside = np.median(grid.hu[tuple(slice(at, at + n) for at, n in zip(start, piece.shape, strict=True))][piece])
    limit = (float(inside) - 850.0) / 2
    reach = within(piece, grid.spacing_mm, _FOLLOW_MM)
    picks = (np.arange(s.start, s.stop) // f - at for s, f, at in zip(box, grid.factors, start, strict=True))
    index = np.ix_(*picks)
    hu = ndimage.gaussian_filter(
        volume.hu[box].astype(np.float32), [0.0, *(0.8 / step for step in volume.spacing_mm[1:])], truncate=3.0
    )
    dense = (anatomy.labels[box] == tissue) & reach[index] & ((hu > limit) | piece[index])
    # what hangs on it is vessels
    steps = max(1, round(1.5 / volume.spacing_mm[1]))
    plane = ndimage.generate_binary_structure(2, 1)[None]
    solid = ndimage.binary_opening(dense, plane, iterations=steps) | (dense & piece[index])
    return region_of(solid, (box[0].start, box[1].start, box[2].start))


def _ground_glass(grid: CoarseGrid, lung: Mask, consolidated: Mask) -> Mask:
    """Hazy lung away from its border, vessels and consolidation."""
    smooth = ndimage.gaussian_filter(grid.hu, [1.5 / step for step in grid.spacing_mm], truncate=2.5)
    inner = deeper(lung, grid.spacing_mm, _GLASS_CLEAR_MM) & ~within(consolidated, grid.spacing_mm, _GLASS_CLEAR_MM)
    hazy = inner & (smooth > GROUND_GLASS_HU[0]) & (smooth < GROUND_GLASS_HU[1])
    return opened(hazy, grid.spacing_mm, _GLASS_BALL_MM)
