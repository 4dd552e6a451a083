"""The soft organs of the thorax as signed levels (negative inside, mm), in world coordinates.

Sizes and places follow ordinary adult anatomy: right dome higher than left, left-heavy heart, aortic knob on the
left, lungs reaching over the clavicles, costophrenic recesses deeper behind than at the side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from overread.phantom.anatomy import Anatomy, Arms, Side
from overread.phantom.grid import Box, Floats
from overread.phantom.shapes import (
    Point,
    Profile,
    box_around,
    capsule,
    ellipsoid,
    join,
    join_near,
    meet,
    oval,
    rotation,
)

# Half-width and half-depth of the trunk under the fat, over z in mm.
_TRUNK_WIDTH = Profile(
    [
        (-260, 140), (-140, 146), (-60, 152), (0, 155), (60, 157), (110, 157), (150, 147), (180, 124),
        (205, 92), (225, 68), (245, 58), (270, 55), (300, 56), (330, 62), (380, 70),
    ]
)  # fmt: skip
_TRUNK_DEPTH = Profile(
    [
        (-260, 98), (-140, 101), (-60, 104), (0, 105), (60, 105), (110, 102), (150, 93), (180, 82),
        (205, 71), (225, 63), (245, 58), (300, 58), (330, 66), (380, 80),
    ]
)  # fmt: skip
_TRUNK_BACK = Profile([(-260, 4), (0, 5), (110, 6), (180, 14), (240, 22), (300, 18), (380, 10)])

# The pleural cavity: outer wall from the midline, depth and its middle, over z.
_WALL = Profile(
    [
        (-120, 128), (-60, 132), (0, 133), (50, 130), (95, 124), (130, 116), (160, 105), (182, 93),
        (202, 79), (216, 67), (225, 57), (229, 50),
    ]
)  # fmt: skip
_CENTRE = Profile([(60, 0), (110, 5), (150, 16), (190, 33), (229, 48)])
_HALF_DEPTH = Profile(
    [(-120, 88), (0, 90), (60, 89), (110, 84), (150, 75), (185, 60), (208, 43), (221, 25), (227, 11), (229, 4)]
)
_MIDDLE = Profile([(-120, 2), (60, 1), (110, 4), (150, 12), (190, 22), (234, 27)])
LUNG_TOP = 228.5

# Half-width of the middle mediastinum (vessels, fat, nodes) over z.
_MEDIASTINUM = Profile([(-80, 15), (60, 15), (110, 17), (150, 18), (180, 20), (200, 24), (220, 31), (240, 38)])
#: Front of the vertebral column, y over z (the kyphosis).
SPINE_FRONT = Profile(
    [(-200, 30), (-100, 36), (-40, 44), (40, 52), (110, 52), (170, 42), (215, 28), (260, 14), (330, 6)]
)


def _mirror(side: Side, x: Floats) -> Floats:
    return x if side is Side.LEFT else -x


@dataclass(frozen=True, kw_only=True)
class Organs:
    """The levels of one person's organs; every method takes x, y, z in mm, broadcast together."""

    anatomy: Anatomy

    # ---- body ------------------------------------------------------------------------------------------------

    def muscle(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """The body without skin, fat and breasts."""
        x, y, z = self.anatomy.to_reference(x, y, z)
        level = oval(x, y - _TRUNK_BACK(z), _TRUNK_WIDTH(z), _TRUNK_DEPTH(z), power=2.5)
        for sign in (-1.0, 1.0):
            for a, b, ra, rb in _arm(self.anatomy.arms, sign):
                rod = partial(capsule, a=a, b=b, radius=ra, radius_b=rb)
                join_near(level, (x, y, z), box_around([a, b], max(ra, rb) + 34.0), rod, 34.0)
        return level

    def body(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Everything inside the skin."""
        fat = np.float32(self.anatomy.fat_mm) * _FAT_SHARE(z / np.float32(self.anatomy.height))
        level = self.muscle(x, y, z) - fat
        size = self.anatomy.breast_mm
        if size:
            points = self.anatomy.to_reference(x, y, z)
            for sign in (-1.0, 1.0):
                centre = (sign * 72.0, -94.0 - 0.06 * size, 14.0)
                breast = partial(ellipsoid, centre=centre, radii=(1.02 * size, 0.85 * size, 1.2 * size))
                join_near(level, points, box_around([centre], 1.25 * size + 44.0), breast, 44.0)
        return level

    def stomach_gas(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """The air over the fluid in the fundus of the stomach, under the left dome."""
        x, y, z = self.anatomy.to_reference(x, y, z)
        g = self.anatomy.stomach_gas
        centre = self._stomach_centre()
        air = ellipsoid(x, y, z, centre, (33.0 * g, 30.0 * g, 29.0 * g))
        return np.asarray(np.maximum(air, (centre[2] - 12.0 * g) - z))

    def _stomach_centre(self) -> Point:
        top = self.anatomy.dome_mm - self.anatomy.dome_drop_mm - 9.0
        return (66.0, 8.0, top - 30.0 * self.anatomy.stomach_gas)

    def stomach_box(self) -> Box:
        """A box, mm, that holds `stomach_gas`."""
        return self._world_box(box_around([self._stomach_centre()], 34.0 * self.anatomy.stomach_gas))

    def heart_box(self) -> Box:
        """A box, mm, that holds `heart`."""
        return self._world_box(self._heart_reach())

    def _heart_reach(self) -> Box:
        s, low = self.anatomy.heart, self._heart_base()
        return (-80.0 * s, -90.0 * s, low - 40.0 * s), (20.0 + 110.0 * s, 40.0, low + 130.0 * s)

    def _world_box(self, box: Box) -> Box:
        corners = self.anatomy.to_world(np.array([(u, v, w) for u, v, w in product(*zip(*box, strict=True))]))
        return box_around([tuple(c) for c in corners.tolist()], 0.0)

    # ---- pleura and lungs ------------------------------------------------------------------------------------

    def wall(self, side: Side, x: Floats, y: Floats, z: Floats) -> Floats:
        """The space inside ribs and pleural dome of one side, whatever bounds it below and towards the middle."""
        x, y, z = self.anatomy.to_reference(x, y, z)
        return np.asarray(np.maximum(self._rib_cage(side, x, y, z), (z - np.float32(LUNG_TOP)) * np.float32(0.5)))

    def _rib_cage(self, side: Side, x: Floats, y: Floats, z: Floats) -> Floats:
        x = _mirror(side, x)
        centre, outer = _CENTRE(z), _WALL(z)
        return oval(x - centre, y - _MIDDLE(z), outer - centre, _HALF_DEPTH(z), power=2.2)

    def wall_distance(self, side: Side, x: Floats, y: Floats, z: Floats) -> Floats:
        """Like `wall`, but about the true distance in mm everywhere in the pleural cavity, under the apex too."""
        x, y, z = self.anatomy.to_reference(x, y, z)
        level = self._rib_cage(side, x, y, z)
        rise = np.float32(4.0)
        slope = (self._rib_cage(side, x, y, z + rise) - self._rib_cage(side, x, y, z - rise)) / (2 * rise)
        return np.asarray(level / np.sqrt(1 + slope * slope))

    def diaphragm(self, side: Side, x: Floats, y: Floats, z: Floats) -> Floats:
        """Negative above the dome of one side."""
        x, y, z = self.anatomy.to_reference(x, y, z)
        x = _mirror(side, x)
        right = side is Side.RIGHT
        top = self.anatomy.dome_mm - (0.0 if right else self.anatomy.dome_drop_mm)
        u = (x - np.float32(66.0 if right else 68.0)) / 66.0
        v = (y + 14.0) / 92.0
        u_out, u_in = np.maximum(u, 0), np.minimum(u, 0)
        v_back, v_front = np.maximum(v, 0), np.minimum(v, 0)
        drop = 52.0 * u_out**2.3 + 13.0 * u_in**2 + 60.0 * v_back**2.2 + 34.0 * v_front**2
        return np.asarray((top - drop - z) * np.float32(0.75), dtype=np.float32)

    def heart(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """The heart without the great vessels; its size is ``anatomy.heart``."""
        return self._heart(*self.anatomy.to_reference(x, y, z))

    def _heart(self, x: Floats, y: Floats, z: Floats) -> Floats:
        s = self.anatomy.heart
        low = self._heart_base()
        tilt = rotation(20.0, 26.0 + self.anatomy.heart_tilt, 0.0)
        left = ellipsoid(x, y, z, (12 + 23.0 * s, -30.0, low + 32.0 * s), (58 * s, 54 * s, 40 * s), tilt)
        right = ellipsoid(x, y, z, (4 - 16.0 * s, -24.0, low + 38.0 * s), (30 * s, 48 * s, 43 * s))
        waist = capsule(
            x, y, z, (24 + 2.0 * s, -22.0, low + 104.0 * s), (18 + 37.0 * s, -30.0, low + 38.0 * s), 14.0 * s, 27.0 * s
        )
        return join(join(left, right, 18.0), waist, 16.0)

    def _heart_base(self) -> float:
        """Height of the lower face of the heart in the midline, reference mm: it rests on the diaphragm."""
        return float(np.clip(self.anatomy.dome_mm, -10.0, 34.0)) - 10.0

    def mediastinum(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """What lies between the lungs: heart, great vessels, fat, spine."""
        x, y, z = points = self.anatomy.to_reference(x, y, z)
        middle = oval(x, y - np.float32(2.0), _MEDIASTINUM(z), np.float32(50.0))
        front = oval(x, y + np.float32(70.0), np.float32(9.0), np.float32(60.0))
        spine = oval(x - self.spine_shift(z), y - (SPINE_FRONT(z) + 48.0), np.float32(34.0), np.float32(57.0))
        level = np.array(join(join(middle, front, 10.0), spine, 12.0))
        s, low = self.anatomy.heart, self._heart_base()
        join_near(level, points, self._heart_reach(), self._heart, 9.0)
        r, out = self.anatomy.aorta_mm, self.anatomy.aorta_unfold
        for a, b, radius in _rods(r, out):
            rod = partial(capsule, a=a, b=b, radius=radius)
            join_near(level, points, box_around([a, b], radius + 9.0), rod, 8.0)
            if self.anatomy.aorta_bound and a[1] > 10.0 and b[1] > 10.0:
                a, b = ((0.35 * p[0], p[1] + 4.0, p[2]) for p in (a, b))
                fat = partial(capsule, a=a, b=b, radius=1.15 * radius)
                join_near(level, points, box_around([a, b], radius + 12.0), fat, 10.0)
        # the central tendon under the heart, and the fat pads in the angles between heart and diaphragm
        for centre, radii in (
            ((16.0, -14.0, low - 24.0), (70.0, 60.0, 34.0)),
            ((-40.0, -44.0, low + 5.0), (20.0, 22.0, 10.0)),
            ((20.0 + 54.0 * s, -48.0, low - 4.0), (24.0, 22.0, 12.0)),
        ):
            pad = partial(ellipsoid, centre=centre, radii=radii)
            join_near(level, points, box_around([centre], max(radii) + 10.0), pad, 10.0)
        return level

    def spine_shift(self, z: Floats) -> Floats:
        """Sideways place of the spine's middle at reference height ``z``, mm."""
        return np.asarray(
            self.anatomy.scoliosis_mm * np.sin(z / np.float32(95.0) + np.float32(self.anatomy.scoliosis_phase)),
            dtype=np.float32,
        )

    def lung(self, side: Side, x: Floats, y: Floats, z: Floats) -> Floats:
        """The pleural cavity of one side: with no finding, the lung fills it."""
        outer = np.maximum(self.wall(side, x, y, z), self.diaphragm(side, x, y, z))
        lateral = np.float32(4.0) - _mirror(side, self.anatomy.to_reference(x, y, z)[0])
        inner = -self.mediastinum(x, y, z)
        return np.asarray(np.maximum(meet(outer, inner, 5.0), lateral))

    def lung_box(self, side: Side) -> Box:
        """A box, mm, that holds the pleural cavity of one side."""
        outer = 142.0 * side.sign
        return self._world_box(((min(outer, 0.0), -97.0, -135.0), (max(outer, 0.0), 100.0, 236.0)))


def _rods(r: float, out: float) -> list[tuple[Point, Point, float]]:
    """Great vessels as rods (from, to, radius), reference mm: aorta of radius ``r``, cava, pulmonary trunk."""
    return [
        ((-6, -26, 70), (-12 - 0.6 * out, -26, 116), r + 3),
        ((-12 - 0.6 * out, -26, 116), (2, -16, 134 + 0.4 * out), r + 1),
        ((2, -16, 134 + 0.4 * out), (20 + out, 14, 141 + 0.4 * out), r),
        ((20 + out, 14, 141 + 0.4 * out), (22 + out, 40, 124), r),
        ((22 + out, 40, 124), (20 + 0.6 * out, 46, 40), r - 1),
        ((20 + 0.6 * out, 46, 40), (12, 42, -110), r - 2),
        ((-22, -14, 178), (-23, -16, 70), 9.5),
        ((-22, -14, 178), (14, -30, 190), 7.0),
        ((12, -40, 80), (23, -18, 104), 15.0),
        ((23, -18, 104), (36, 6, 101), 10.0),
        ((2, -8, 100), (-32, 2, 92), 11.0),
    ]


_FAT_SHARE = Profile([(-260, 1.6), (-120, 1.35), (0, 1.0), (140, 0.8), (220, 0.55), (260, 0.45)])


def _arm(arms: Arms, sign: float) -> list[tuple[Point, Point, float, float]]:
    """Trapezius, shoulder and upper arm as rods (from, to, radius, radius), reference mm."""
    neck = ((sign * 40.0, 30.0, 228.0), (sign * 128.0, 22.0, 190.0), 27.0, 26.0)
    if arms is Arms.UP:
        return [
            ((sign * 50.0, 25.0, 216.0), (sign * 120.0, 15.0, 200.0), 28.0, 34.0),
            ((sign * 120.0, 15.0, 200.0), (sign * 128.0, -20.0, 420.0), 42.0, 36.0),
        ]
    if arms is Arms.DOWN:
        return [
            neck,
            ((sign * 128.0, 20.0, 178.0), (sign * 168.0, 16.0, 150.0), 34.0, 42.0),
            ((sign * 168.0, 16.0, 150.0), (sign * 205.0, 20.0, -160.0), 42.0, 36.0),
        ]
    return [
        neck,
        ((sign * 128.0, 14.0, 180.0), (sign * 172.0, 2.0, 156.0), 33.0, 42.0),
        ((sign * 172.0, 2.0, 156.0), (sign * 262.0, -12.0, -130.0), 42.0, 36.0),
    ]
