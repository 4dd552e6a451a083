"""High-attenuation lung: opacities, what of them is consolidated, and ground glass.

An opacity is lung denser than -620 HU on blocks of 2 mm that is thicker than vessels are. Of it, consolidation hides
vessels and ground glass does not (Hansell et al., Fleischner Society glossary, Radiology 2008;246:697): blocks above
-250 HU, nearly as dense as the vessels themselves, and those from -700 to -300 HU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from overread.domain.segment import Mask
from overread.domain.tissue import Tissue
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy
from overread.pipeline.analysers.chest_ct.grid import COARSE_MM, CoarseGrid, coarsen, opened, tuple_of, within
from overread.pipeline.analysers.chest_ct.pleura_region import Region, region_of

#: Opacity, HU of blocks: what is denser than lung. Consolidated blocks; contrast medium in vessels lies above.
OPACITY_HU, CONSOLIDATED_HU, _CONTRAST_HU = -620.0, -250.0, 140.0
#: Ground glass, HU.
GROUND_GLASS_HU = (-700.0, -300.0)
#: Half the least thickness of an opacity, mm, and of what in it is consolidated: vessels are thinner.
_BALL_MM, _DENSE_BALL_MM = 5.5, 1.5
#: How far the border is looked for outside that inside, mm.
_FOLLOW_MM = 6.0
#: Least volume of consolidated blocks, mL, and of those at the hilum; their least share of the opacity.
_LEAST_ML, _LEAST_HILAR_ML, _LEAST_SHARE = 3.0, 40.0, 0.12
#: From this share on, the opacity is consolidation with a soft border. Ordinary lung, HU.
_SOLID_SHARE, _LUNG_HU = 0.5, -850.0
#: What counts as the hilum, mm from airways that were followed, and the share of a region that must lie there.
_HILAR_MM, _HILAR_SHARE = 16.0, 0.4
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
    #: 0 to 1, near 1 for a lump, less for what is ragged: `compactness`.
    compactness: float


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
        opacity = opened(lung & (grid.hu > OPACITY_HU) & (grid.hu < _CONTRAST_HU), grid.spacing_mm, _BALL_MM)
        opacity = _not_hilar(grid, opacity, hilum)
        dense = opacity & (grid.hu > CONSOLIDATED_HU)
        core = opened(dense, grid.spacing_mm, _DENSE_BALL_MM)
        found += _regions(anatomy, grid, side, tissue, opacity, core)
        glass_ml += grid.ml(opacity & (grid.hu > GROUND_GLASS_HU[0]) & (grid.hu < GROUND_GLASS_HU[1]))
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


def _not_hilar(grid: CoarseGrid, opacity: Mask, hilum: Mask) -> Mask:
    """`opacity` without the vessels of the hilum."""
    labels, count = ndimage.label(opacity)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    hilar = np.bincount(labels[hilum], minlength=count + 1)
    kept = (hilar <= _HILAR_SHARE * sizes) | (sizes * grid.voxel_ml >= _LEAST_HILAR_ML)
    kept[0] = False
    return np.asarray(kept[labels])


def _regions(
    anatomy: ChestAnatomy, grid: CoarseGrid, side: str, tissue: Tissue, opacity: Mask, core: Mask
) -> list[Consolidation]:
    labels, _ = ndimage.label(within(opacity, grid.spacing_mm, 2.0))
    out = []
    margin = [int(np.ceil(_FOLLOW_MM / step)) + 1 for step in grid.spacing_mm]
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        grow = tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(place, margin, strict=True))
        whole = labels[grow] == number
        piece = whole & core[grow]
        if grid.ml(piece) < max(_LEAST_ML, _LEAST_SHARE * grid.ml(whole & opacity[grow])):
            continue
        mixed = grid.ml(piece) < _SOLID_SHARE * grid.ml(whole & opacity[grow])
        start = (grow[0].start, grow[1].start, grow[2].start)
        region = _drawn(anatomy, grid, tissue, piece, start, mixed=mixed)
        if region is None:
            continue
        ml = region.ml(anatomy.volume)
        out.append(
            Consolidation(
                side=side,
                volume_ml=ml,
                mean_hu=region.mean_hu(anatomy.volume),
                slice_index=region.largest_slice,
                region=region,
                score=float(min(1.0, ml / _CERTAIN_ML)) ** 0.5,
                compactness=compactness(region.mask, anatomy.volume.spacing_mm),
            )
        )
    return out


def compactness(mask: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """Share of a mask, in which closed holes count, that balls of half the radius of a ball of its volume cover."""
    every = tuple(max(1, round(COARSE_MM / step)) for step in spacing_mm)
    steps = tuple_of(step * n for step, n in zip(spacing_mm, every, strict=True))
    filled = np.pad(ndimage.binary_fill_holes(mask[tuple(slice(None, None, n) for n in every)]), 1)
    size = int(np.count_nonzero(filled))
    radius = (3 * size * float(np.prod(steps)) / (4 * np.pi)) ** (1 / 3)
    return np.count_nonzero(opened(filled, steps, radius / 2)) / max(size, 1)


def _drawn(
    anatomy: ChestAnatomy, grid: CoarseGrid, tissue: Tissue, piece: Mask, start: tuple[int, int, int], *, mixed: bool
) -> Region | None:
    """The voxels of a coarse piece, to half-way to the density of lung; in ground glass what is dense."""
    volume = anatomy.volume
    box = tuple(
        slice(at * f, min((at + n) * f, size))
        for at, n, f, size in zip(start, piece.shape, grid.factors, volume.shape, strict=True)
    )
    inside = np.median(grid.hu[tuple(slice(at, at + n) for at, n in zip(start, piece.shape, strict=True))][piece])
    limit = CONSOLIDATED_HU if mixed else (float(inside) + _LUNG_HU) / 2
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
