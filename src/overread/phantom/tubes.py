"""Thin structures (ribs, vessels, airways) as chains of elliptic cylinders, painted exactly at any resolution.

The length of a ray inside an elliptic cylinder cut by two planes is a closed form (a quadratic and two linear
bounds), so a rib has the bright rim of its cortex, and a vessel as thin as a pixel still has its mass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from overread.phantom.grid import Floats, Grid

Vectors = Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Tube:
    """A chain of cylinders along ``path`` that adds ``hu`` (Hounsfield units) to what is there already."""

    #: Which structure this is, for example ``rib`` or ``vessel``.
    name: str
    #: Centre line, mm, shape (N, 3), N >= 2.
    path: Vectors
    #: Half-widths in mm of each of the N - 1 pieces, along ``across`` and along the direction normal to it.
    half_across: Vectors
    half_along: Vectors
    #: Unit direction of the first half-width at each piece, shape (N - 1, 3), roughly normal to the path.
    across: Vectors
    hu: float


def tube(
    name: str,
    path: Vectors,
    radius: float | Vectors,
    hu: float,
    *,
    radius_along: float | Vectors | None = None,
    across: Vectors | None = None,
) -> Tube:
    """A tube from its centre line and radius (a number, or one per piece); round unless ``radius_along`` is given."""
    path = np.asarray(path, dtype=np.float64)
    pieces = len(path) - 1
    first = np.broadcast_to(np.asarray(radius, dtype=np.float64), (pieces,))
    second = first if radius_along is None else np.broadcast_to(np.asarray(radius_along, dtype=np.float64), (pieces,))
    if across is None:
        direction = np.diff(path, axis=0)
        helper = np.where(np.abs(direction[:, :1]) > np.linalg.norm(direction, axis=1, keepdims=True) * 0.9, 1, 0)
        across = np.cross(direction, np.where(helper, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]))
    across = np.broadcast_to(across, (pieces, 3))
    return Tube(name=name, path=path, half_across=first, half_along=second, across=across, hu=hu)


def shell(solid: Tube, *, thickness: float, inner_hu: float) -> tuple[Tube, Tube]:
    """The same bone with a cortex of ``thickness`` mm: the solid, and an inner part that brings it to ``inner_hu``."""
    inner = Tube(
        name=solid.name,
        path=solid.path,
        half_across=np.maximum(solid.half_across - thickness, 0.3),
        half_along=np.maximum(solid.half_along - thickness, 0.3),
        across=solid.across,
        hu=inner_hu - solid.hu,
    )
    return solid, inner


def smooth_path(points: Iterable[tuple[float, float, float]], pieces: int) -> Vectors:
    """A Catmull-like smooth curve through ``points``, cut into ``pieces`` equal parts of the parameter."""
    from scipy.interpolate import CubicSpline

    knots = np.asarray(list(points), dtype=np.float64)
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    curve = CubicSpline(chord, knots, bc_type="natural")
    return np.asarray(curve(np.linspace(0, chord[-1], pieces + 1)))


def paint(out: Floats, grid: Grid, tubes: Iterable[Tube], *, whole_ray: bool) -> None:
    """Add the tubes to ``out``.

    With ``whole_ray`` out is (R, C) and gains HU times mm along each ray of ``grid`` (for a radiograph);
    otherwise out is (D, R, C) and gains HU times the share of each voxel that the tube fills (for CT).
    """
    for item in tubes:
        _paint_tube(out, grid, item, whole_ray=whole_ray)


def _paint_tube(out: Floats, grid: Grid, item: Tube, *, whole_ray: bool) -> None:
    order = [grid.row_axis, grid.col_axis, grid.normal]
    path = item.path[:, order]
    # radiograph: into the magnified space of the detector, where the rays are parallel
    grow = 1.0 / np.interp(path[:, 2], grid.depths, grid.shrink) if whole_ray else np.ones(len(path))
    flat = path[:, :2] * grow[:, None]
    scales = 0.5 * (grow[:-1] + grow[1:])
    step = np.column_stack([np.diff(flat, axis=0), np.diff(path[:, 2]) * scales])
    length = np.linalg.norm(step, axis=1)
    keep = length > 1e-6
    axis = step / np.maximum(length, 1e-6)[:, None]
    first = item.across[:, order]
    first = first - (first * axis).sum(axis=1, keepdims=True) * axis
    first /= np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-9)
    second = np.cross(axis, first)
    corner = np.concatenate([axis[:1], axis[:-1] + axis[1:], axis[-1:]])
    corner /= np.maximum(np.linalg.norm(corner, axis=1, keepdims=True), 1e-9)
    row0, drow, nrow = float(grid.rows[0]), float(grid.rows[1] - grid.rows[0]), len(grid.rows)
    col0, dcol, ncol = float(grid.cols[0]), float(grid.cols[1] - grid.cols[0]), len(grid.cols)
    pixel = abs(dcol)
    for i in np.flatnonzero(keep):
        scale = scales[i]
        size = scale * np.array([item.half_across[i], item.half_along[i]])
        wide = np.maximum(size, pixel)
        weight = item.hu * size.prod() / wide.prod()
        reach = wide.max() + pixel
        low, high = np.minimum(flat[i], flat[i + 1]) - reach, np.maximum(flat[i], flat[i + 1]) + reach
        r0, r1 = _indices(row0, drow, nrow, low[0], high[0])
        c0, c1 = _indices(col0, dcol, ncol, low[1], high[1])
        if r1 <= r0 or c1 <= c0:
            continue
        # four rays a pixel for what is only a few pixels wide
        fine = 2 if wide.min() < 4.0 * pixel else 1
        pr = (row0 + drow * _centres(r0, r1, fine) - flat[i, 0])[:, None]
        pc = (col0 + dcol * _centres(c0, c1, fine) - flat[i, 1])[None, :]
        lower, upper = _ray_interval(pr, pc, first[i] / wide[0], second[i] / wide[1], corner[i], corner[i + 1], step[i])
        if whole_ray:
            out[r0:r1, c0:c1] += _pooled(weight / scale * np.maximum(upper - lower, 0), fine)
            continue
        filled = upper > lower
        if not filled.any():
            continue
        half = 0.5 * grid.step
        nearest, farthest = path[i, 2] + lower[filled].min(), path[i, 2] + upper[filled].max()
        d0, d1 = _indices(float(grid.depths[0]), grid.step, len(grid.depths), nearest - half, farthest + half)
        for d in range(d0, d1):
            offset = float(grid.depths[d]) - path[i, 2]
            part = np.minimum(upper, offset + half) - np.maximum(lower, offset - half)
            out[d, r0:r1, c0:c1] += _pooled(weight / grid.step * np.maximum(part, 0), fine)


def _indices(start: float, step: float, count: int, low: float, high: float) -> tuple[int, int]:
    a, b = (low - start) / step, (high - start) / step
    return max(0, int(np.ceil(min(a, b)))), min(count, int(np.floor(max(a, b))) + 1)


def _centres(first: int, last: int, fine: int) -> Vectors:
    """Positions of ``fine`` rays in each of the pixels ``first`` to ``last`` - 1, in pixels."""
    return first - 0.5 + (np.arange((last - first) * fine) + 0.5) / fine


def _pooled(values: Vectors, fine: int) -> Vectors:
    if fine == 1:
        return values
    rows, cols = values.shape[0] // fine, values.shape[1] // fine
    return np.asarray(values.reshape(rows, fine, cols, fine).mean(axis=(1, 3)))


def _ray_interval(
    pr: Vectors, pc: Vectors, u: Vectors, v: Vectors, start: Vectors, end: Vectors, span: Vectors
) -> tuple[Vectors, Vectors]:
    """Where the ray through in-plane offset (pr, pc) enters and leaves the piece, along the ray, mm from its start."""
    pu = pr * u[0] + pc * u[1]
    pv = pr * v[0] + pc * v[1]
    a = u[2] * u[2] + v[2] * v[2] + 1e-9
    b = pu * u[2] + pv * v[2]
    root = b * b - a * (pu * pu + pv * pv - 1)
    hit = root > 0
    root = np.sqrt(np.where(hit, root, 0))
    lower, upper = (-b - root) / a, (-b + root) / a
    # after the start plane and before the end plane
    for normal, origin, sign in ((start, np.zeros(3), 1.0), (end, span, -1.0)):
        slope = sign * normal[2]
        value = sign * ((pr - origin[0]) * normal[0] + (pc - origin[1]) * normal[1] - origin[2] * normal[2])
        if abs(slope) < 1e-6:
            hit &= value >= 0
        elif slope > 0:
            lower = np.maximum(lower, -value / slope)
        else:
            upper = np.minimum(upper, -value / slope)
    return lower, np.where(hit, np.maximum(upper, lower), lower)
