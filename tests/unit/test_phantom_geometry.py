"""Grids, levels and tubes of the phantom against closed forms."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.phantom.grid import EVERYWHERE, Fade, Grid, axis_points, path_length
from overread.phantom.shapes import Profile, box_around, capsule, ellipsoid, join, join_near, meet, rotation
from overread.phantom.tubes import paint, shell, smooth_path, tube


def make_grid(step: float = 1.0, plane: float = 3.0, half: float = 40.0, source: float = 0.0) -> Grid:
    depths = axis_points(-half, half, plane)
    shrink = 1.0 - (depths + half) / source if source else np.ones_like(depths)
    inplane = axis_points(-half, half, step)
    return Grid(normal=1, row_axis=2, col_axis=0, depths=depths, rows=-inplane, cols=inplane, shrink=shrink)


def test_path_length_of_a_sphere_is_its_chord() -> None:
    grid = make_grid()
    length = path_length(grid, partial(ellipsoid, centre=(3.0, -2.0, 5.0), radii=(20.0, 20.0, 20.0)))
    away = np.hypot(grid.cols[None, :] - 3.0, grid.rows[:, None] - 5.0)
    chord = 2 * np.sqrt(np.maximum(400.0 - away**2, 0))
    assert np.abs(length - chord).max() < grid.step
    assert np.abs(length - chord).mean() < 0.1


def test_path_length_is_zero_outside_the_window_and_outside_the_grid() -> None:
    grid = make_grid()
    sphere = partial(ellipsoid, centre=(0.0, 0.0, 0.0), radii=(10.0, 10.0, 10.0))
    assert path_length(grid, sphere, ((500.0, 500.0, 500.0), (600.0, 600.0, 600.0))).max() == 0
    boxed = path_length(grid, sphere, box_around([(0.0, 0.0, 0.0)], 12.0))
    assert np.array_equal(boxed, path_length(grid, sphere, EVERYWHERE))


def test_a_fade_takes_half_at_its_surface_and_gives_way_to_what_was_there() -> None:
    grid = make_grid()
    body = partial(ellipsoid, centre=(0.0, 0.0, 0.0), radii=(30.0, 30.0, 30.0))
    fade = Fade(level=lambda x, y, z: x + 0 * y + 0 * z, width_mm=20.0)
    whole, faded = path_length(grid, body), path_length(grid, body, fade=fade)
    middle = len(grid.rows) // 2
    assert faded[middle, -25] < 0.05 * whole[middle, -25]
    assert faded[middle, 25] > 0.8 * whole[middle, 25]
    rest = Fade(level=lambda x, y, z: -40.0 + 0 * (x + y + z), width_mm=1.0, excluded=(fade,))
    np.testing.assert_allclose(path_length(grid, body, fade=rest) + faded, whole, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.3, 6.0),
    st.tuples(*[st.floats(-1.0, 1.0)] * 3).filter(lambda d: np.linalg.norm(d) > 0.3),
    st.sampled_from([0.0, 500.0]),
)
def test_a_painted_tube_has_the_mass_of_its_cylinder(
    radius: float, direction: tuple[float, float, float], source: float
) -> None:
    half = 14.0 * np.asarray(direction) / np.linalg.norm(direction)
    path = np.linspace(-half, half, 7)
    grid = make_grid(0.5, 1.0, source=source)
    out = np.zeros(grid.shape[1:], dtype=np.float32)
    paint(out, grid, [tube("rod", path, radius, 1.0)], whole_ray=True)
    # on the detector the shadow is larger by the square of the magnification
    grow = 1.0 / np.interp(0.0, grid.depths, grid.shrink)
    mass = float(out.sum()) * 0.25 / grow**2
    # thinner than two pixels, a tube along an axis is sampled at few places
    assert mass == pytest.approx(np.pi * radius**2 * 28.0, rel=0.1 if radius > 1.0 else 0.2)


def test_a_tube_in_voxels_has_the_same_mass_as_in_rays() -> None:
    grid = make_grid(0.5, 1.0)
    rod = tube("rod", smooth_path([(-10, -8, -12), (0, 3, 0), (9, 10, 14)], 12), 1.3, 100.0)
    rays, voxels = np.zeros(grid.shape[1:], dtype=np.float32), np.zeros(grid.shape, dtype=np.float32)
    paint(rays, grid, [rod], whole_ray=True)
    paint(voxels, grid, [rod], whole_ray=False)
    np.testing.assert_allclose(voxels.sum(axis=0) * grid.step, rays, atol=0.5)
    assert voxels.max() <= 130.0


def test_a_bone_is_bright_at_its_rim() -> None:
    grid = make_grid(0.25, 1.0, half=15.0)
    solid = tube("bone", np.array([[0.0, 0.0, -14.0], [0.0, 0.0, 14.0]]), 6.0, 1000.0)
    out = np.zeros(grid.shape[1:], dtype=np.float32)
    paint(out, grid, shell(solid, thickness=1.0, inner_hu=100.0), whole_ray=True)
    row = out[out.shape[0] // 2]
    assert row.max() > 1.5 * row[len(row) // 2]
    assert abs(abs(grid.cols[int(row.argmax())]) - 5.0) < 0.6


def test_joining_in_a_box_equals_joining_everywhere_near_the_surface() -> None:
    grid = make_grid(2.0, 2.0)
    points = grid.points()
    ball = partial(ellipsoid, centre=(0.0, 0.0, 0.0), radii=(15.0, 12.0, 18.0), turn=rotation(20.0, 30.0, 10.0))
    rod = partial(capsule, a=(10.0, 5.0, 0.0), b=(25.0, 10.0, 8.0), radius=5.0, radius_b=3.0)
    everywhere = join(ball(*points), rod(*points), 6.0)
    level = np.array(np.broadcast_to(ball(*points), grid.shape))
    join_near(level, points, box_around([(10.0, 5.0, 0.0), (25.0, 10.0, 8.0)], 12.0), rod, 6.0)
    assert np.array_equal(level < 0, everywhere < 0)
    join_near(level, points, ((900.0, 0.0, 0.0), (910.0, 1.0, 1.0)), rod, 6.0)
    assert np.array_equal(level < 0, everywhere < 0)
    assert (meet(ball(*points), rod(*points), 6.0) >= np.maximum(ball(*points), rod(*points)) - 1e-4).all()


def test_a_profile_passes_its_knots_and_stays_flat_outside() -> None:
    profile = Profile([(-10.0, 5.0), (0.0, 7.0), (20.0, 1.0)])
    assert profile.at(0.0) == pytest.approx(7.0)
    assert profile.at(-500.0) == pytest.approx(5.0)
    assert profile.at(500.0) == pytest.approx(1.0)
