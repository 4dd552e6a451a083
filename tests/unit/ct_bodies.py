"""Small CT volumes for tests of the chest CT analyser: one phantom chest, and bodies that are no chest."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.domain.volume import Volume, affine_of
from overread.phantom.ct_case import CtCase, ct_case
from overread.pipeline.analysers.chest_ct.anatomy import ChestAnatomy, find_anatomy

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@cache
def chest() -> CtCase:
    """A phantom chest, 128 x 128 with slices of 4 mm: about 5 s to make."""
    return ct_case(5, size=128, slice_mm=4.0)


@cache
def chest_volume() -> Volume:
    """Its voxels."""
    return chest().volume()


@cache
def chest_anatomy() -> ChestAnatomy:
    """What is found in it."""
    return find_anatomy(chest_volume())


def volume_of(hu: NDArray[Any], *, mm: tuple[float, float, float] = (4.0, 3.0, 3.0), **fields: Any) -> Volume:
    """`hu` as an upright axial volume with the given distances of slices, rows and columns."""
    affine = affine_of((0.0, 0.0, 0.0), AXIAL, (mm[1], mm[2]), (0.0, 0.0, mm[0]))
    return Volume(
        hu=np.ascontiguousarray(np.rint(hu), np.int16),
        affine=affine,
        series_instance_uid="1.2",
        frame_of_reference_uid="1.3",
        sop_instance_uids=tuple(f"1.2.{n}" for n in range(len(hu))),
        frame_numbers=(1,) * len(hu),
        **fields,
    )


def slices_of(volume: Volume, first: int, last: int) -> Volume:
    """Slices `first` to `last` - 1 of a volume, each where it was."""
    affine = volume.affine.copy()
    affine[:3, 3] = volume.to_mm((first, 0, 0))
    return Volume(
        hu=volume.hu[first:last].copy(),
        affine=affine,
        series_instance_uid=volume.series_instance_uid,
        frame_of_reference_uid=volume.frame_of_reference_uid,
        sop_instance_uids=volume.sop_instance_uids[first:last],
        frame_numbers=volume.frame_numbers[first:last],
        slice_thickness_mm=volume.slice_thickness_mm,
    )


def ellipsoid(shape: tuple[int, int, int], centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray[np.bool_]:
    """Voxels inside; centre and radii in voxels along the axes."""
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return np.asarray(sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1)


def head() -> Volume:
    """A skull with brain, and air in sinuses and mouth."""
    shape = (45, 80, 80)
    hu = np.full(shape, -1000.0)
    hu[ellipsoid(shape, (22, 40, 40), (30, 34, 28))] = 50
    hu[ellipsoid(shape, (22, 40, 40), (28, 32, 26))] = 1100
    hu[ellipsoid(shape, (22, 40, 40), (26, 30, 24))] = 35
    for centre, radii in (((12, 18, 34), (4, 5, 5)), ((12, 18, 46), (4, 5, 5)), ((4, 24, 40), (5, 8, 4))):
        hu[ellipsoid(shape, centre, radii)] = -1000
    return volume_of(hu + np.random.default_rng(0).normal(0, 10, shape))


def abdomen() -> Volume:
    """A trunk with a spine and gas in stomach and bowel."""
    shape = (60, 90, 120)
    hu = np.full(shape, -1000.0)
    trunk = np.broadcast_to(ellipsoid((1, *shape[1:]), (0, 45, 60), (1, 36, 52)), shape)
    hu[trunk] = 45
    hu[np.broadcast_to(ellipsoid((1, *shape[1:]), (0, 68, 60), (1, 8, 8)), shape)] = 250
    for centre, radii in (
        ((48, 26, 78), (9, 8, 14)),
        ((30, 22, 60), (4, 5, 34)),
        ((20, 40, 24), (16, 6, 6)),
        ((20, 40, 96), (16, 6, 6)),
        ((10, 30, 55), (4, 5, 9)),
    ):
        hu[ellipsoid(shape, centre, radii)] = -1000
    return volume_of(hu + np.random.default_rng(1).normal(0, 12, shape))


@cache
def with_holes(percent: float) -> tuple[Volume, float]:
    """The phantom chest with holes of 12 mm in its lungs, and their true share in percent."""
    volume = chest_volume()
    lungs = chest_anatomy().lungs()
    rng = np.random.default_rng(4)
    places = np.argwhere(lungs)
    holes = np.zeros(lungs.shape, np.bool_)
    grid = np.stack(np.meshgrid(*(np.arange(-3, 4),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = grid[np.linalg.norm(grid * volume.spacing_mm, axis=1) <= 6.0]
    while np.count_nonzero(holes & lungs) < percent / 100 * np.count_nonzero(lungs):
        around = places[rng.integers(len(places))] + offsets
        around = around[np.all((around >= 0) & (around < lungs.shape), axis=1)]
        holes[tuple(around.T)] = True
    holes &= lungs & (volume.hu < -750)
    hu = np.where(holes, volume.hu - 135, volume.hu).astype(float)
    return volume_of(np.maximum(hu, -1024), mm=volume.spacing_mm), 100 * np.count_nonzero(holes) / np.count_nonzero(
        lungs
    )
