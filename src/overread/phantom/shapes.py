"""Signed levels of simple bodies (negative inside, mm) and how to join them.

The formulas for the ellipsoid and the smooth union are the usual ones of implicit modelling (Ricci 1973; Quilez,
"distance functions"); they bound the true distance near the surface, which is all that partial volume needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

from overread.phantom.grid import Box, Floats

Point = tuple[float, float, float]


class Profile:
    """A smooth (monotone cubic) function of one coordinate, given at a few knots and held constant outside."""

    def __init__(self, knots: Sequence[tuple[float, float]]) -> None:
        """``knots``: (position in mm, value), positions ascending."""
        self._low, self._high = knots[0][0], knots[-1][0]
        self._curve = PchipInterpolator([k[0] for k in knots], [k[1] for k in knots])

    def __call__(self, position: Floats) -> Floats:
        """Values at ``position``, same shape."""
        return np.asarray(self._curve(np.clip(position, self._low, self._high)), dtype=np.float32)

    def at(self, position: float) -> float:
        """Value at one position."""
        return float(self(np.asarray(position, dtype=np.float32)))


def ellipsoid(x: Floats, y: Floats, z: Floats, centre: Point, radii: Point, turn: Floats | None = None) -> Floats:
    """Level of an ellipsoid; ``turn`` (3, 3) has the directions of its axes as rows."""
    dx, dy, dz = x - np.float32(centre[0]), y - np.float32(centre[1]), z - np.float32(centre[2])
    if turn is not None:
        m = turn.astype(np.float32)
        dx, dy, dz = (m[i, 0] * dx + m[i, 1] * dy + m[i, 2] * dz for i in range(3))
    r = [np.float32(v) for v in radii]
    px, py, pz = (dx / r[0]) ** 2, (dy / r[1]) ** 2, (dz / r[2]) ** 2
    k0 = np.sqrt(px + py + pz)
    k1 = np.sqrt(px / r[0] ** 2 + py / r[1] ** 2 + pz / r[2] ** 2)
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-6)))


def box_around(points: Sequence[Point], reach: float) -> Box:
    """The box that holds ``points`` with ``reach`` mm to spare on each side."""
    corners = np.asarray(points, dtype=np.float64)
    low, high = corners.min(axis=0) - reach, corners.max(axis=0) + reach
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))


def capsule(
    x: Floats, y: Floats, z: Floats, a: Point, b: Point, radius: float, radius_b: float | None = None
) -> Floats:
    """Level of a round rod from ``a`` to ``b`` whose radius runs from ``radius`` to ``radius_b``."""
    axis = np.asarray(b, dtype=np.float32) - np.asarray(a, dtype=np.float32)
    dx, dy, dz = x - np.float32(a[0]), y - np.float32(a[1]), z - np.float32(a[2])
    along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / np.float32(axis @ axis), 0, 1)
    distance = np.sqrt((dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2)
    slope = np.float32((radius if radius_b is None else radius_b) - radius)
    return np.asarray(distance - (np.float32(radius) + slope * along))


def oval(u: Floats, v: Floats, half_u: Floats | np.float32, half_v: Floats | np.float32, power: float = 2.0) -> Floats:
    """Level of a superellipse around the origin, measured along the line to its centre."""
    au, av = np.abs(u), np.abs(v)
    if power == 2.0:
        e = np.sqrt((au / half_u) ** 2 + (av / half_v) ** 2)
    else:
        p = np.float32(power)
        e = ((au / half_u) ** p + (av / half_v) ** p) ** np.float32(1 / power)
    e = np.maximum(e, np.float32(1e-3))
    return np.asarray(np.sqrt(au * au + av * av) * (1 - 1 / e))


def join(a: Floats, b: Floats, blend: float) -> Floats:
    """Union of two bodies with a fillet of about ``blend`` mm."""
    k = np.float32(blend)
    h = np.maximum(k - np.abs(a - b), 0) / k
    return np.asarray(np.minimum(a, b) - h * h * k * np.float32(0.25))


def join_near(
    level: Floats, points: tuple[Floats, Floats, Floats], box: Box, shape: Callable[..., Floats], blend: float
) -> None:
    """Join ``shape`` to ``level`` in place, evaluated only inside ``box`` (low and high corners, mm).

    ``points`` are x, y, z that broadcast to the shape of ``level``. Outside the box the level stays what it was: far
    from the surface a level only has to have the right sign.
    """
    ranges = [slice(0, n) for n in level.shape]
    for values, low, high in zip(points, box[0], box[1], strict=True):
        inside = (values >= low) & (values <= high)
        lead = level.ndim - inside.ndim
        for axis in range(inside.ndim):
            if inside.shape[axis] == 1:
                if not inside.any():
                    return
                continue
            hit = np.flatnonzero(inside.any(axis=tuple(a for a in range(inside.ndim) if a != axis)))
            if hit.size == 0:
                return
            old = ranges[lead + axis]
            ranges[lead + axis] = slice(max(old.start, int(hit[0])), min(old.stop, int(hit[-1]) + 1))
    if any(r.stop <= r.start for r in ranges):
        return
    place = tuple(ranges)
    near = [
        v[tuple(slice(None) if n == 1 else r for n, r in zip(v.shape, place[level.ndim - v.ndim :], strict=True))]
        for v in points
    ]
    level[place] = join(level[place], shape(*near), blend)


def meet(a: Floats, b: Floats, blend: float) -> Floats:
    """Intersection of two bodies with the edge rounded over about ``blend`` mm."""
    return -join(-a, -b, blend)


def rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """Rows are the turned axes: ``yaw`` about z, then ``pitch`` about y, then ``roll`` about x; degrees."""
    a, b, c = np.deg2rad([yaw, pitch, roll])
    about_z = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(c), np.sin(c)], [0, -np.sin(c), np.cos(c)]])
    return np.asarray(about_x @ about_y @ about_z, dtype=np.float32)
