"""Thickness of free air on the wall, on round chests whose air is known to a tenth of a millimetre."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from tests.unit.ct_bodies import volume_of

from overread.pipeline.analysers.chest_ct.grid import CoarseGrid, coarsen
from overread.pipeline.analysers.chest_ct.pleura_air import CoarseAir, find_air
from overread.pipeline.analysers.chest_ct.pleura_line import thickness
from overread.pipeline.analysers.chest_ct.pleura_shell import shell_of

_MM, _SIZE, _FINER, _SLICES, _RADIUS_MM = 0.8, 180, 4, 10, 58.0
_LUNG_HU = -850.0


def _chest(air_mm: float, *, line_hu: float = 20.0, noise_hu: float = 15.0) -> NDArray[np.float64]:
    """A round lung with a layer of air around its front half, within soft tissue; pleura of 0.4 mm behind the air."""
    at = (np.arange(_SIZE * _FINER) + 0.5) / _FINER * _MM - _SIZE * _MM / 2
    radius = np.hypot(at[:, None], at[None])
    hu = np.where(radius < _RADIUS_MM, _LUNG_HU, 50.0)
    front = (at[:, None] < 0) & (radius < _RADIUS_MM)
    if air_mm:
        hu[front & (radius > _RADIUS_MM - air_mm - 0.4)] = line_hu
        hu[front & (radius > _RADIUS_MM - air_mm)] = -1000.0
    plane = hu.reshape(_SIZE, _FINER, _SIZE, _FINER).mean(axis=(1, 3))
    plane = ndimage.gaussian_filter(plane, 0.5 / _MM)
    return plane + np.random.default_rng(4).normal(0, noise_hu, (_SLICES, _SIZE, _SIZE))


def _ends_inside(grid: CoarseGrid) -> NDArray[np.bool_]:
    return np.asarray(grid.hu < -500)


def _air(hu: NDArray[np.float64]) -> CoarseAir | None:
    volume = volume_of(hu, mm=(2.5, _MM, _MM))
    grid = coarsen(volume)
    return find_air(volume, grid, _ends_inside(grid), _ends_inside(grid), _LUNG_HU)


@pytest.mark.parametrize("air_mm", [1.2, 2.0, 3.5, 7.0, 15.0])
def test_the_thickness_of_air_is_measured_finer_than_a_voxel(air_mm: float) -> None:
    volume = volume_of(_chest(air_mm), mm=(2.5, _MM, _MM))
    grid = coarsen(volume)
    shell = shell_of(volume, grid, _ends_inside(grid))
    assert shell is not None
    found = thickness(shell, grid, _LUNG_HU)
    # rays from straight out to the front: the first quarter of them to the third
    front, back = slice(60, 120), slice(240, 300)
    assert float(found.thick_mm[:, front].mean()) == pytest.approx(air_mm, abs=0.35)
    assert float(found.thick_mm[:, back].mean()) < 0.1
    wall = shell.wall_mm[:, front] - found.start_mm[:, front]
    row = shell.centres[0][0] * _MM + _MM / 2 - _SIZE * _MM / 2
    assert float(wall.mean()) == pytest.approx(_RADIUS_MM + 0.97 * row, abs=0.3)


@pytest.mark.parametrize("air_mm", [2.0, 7.0])
def test_the_volume_of_a_layer_is_that_of_the_ring(air_mm: float) -> None:
    air = _air(_chest(air_mm))
    assert air is not None
    ring_ml = np.pi / 2 * (_RADIUS_MM**2 - (_RADIUS_MM - air_mm) ** 2) * _SLICES * 2.5 / 1000
    assert air.layer.volume_ml == pytest.approx(ring_ml, rel=0.1)
    drawn = sum(
        air.layer.within(
            coarsen(volume_of(_chest(air_mm), mm=(2.5, _MM, _MM))), level, (2.5, _MM, _MM), fine=True
        ).sum()
        for level in range(_SLICES)
    )
    assert drawn * 2.5 * _MM**2 / 1000 == pytest.approx(air.layer.volume_ml, rel=0.03)


def test_lung_at_the_wall_is_no_air() -> None:
    assert _air(_chest(0.0)) is None


def test_dark_lung_without_a_line_is_no_free_air() -> None:
    assert _air(_chest(3.0, line_hu=_LUNG_HU)) is None
