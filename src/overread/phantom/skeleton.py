"""Bones as tubes with a cortex: twelve pairs of ribs, spine, clavicles, scapulae, sternum, humeri.

All in reference coordinates, turned into world mm at the end. Each bone replaces soft tissue, so it adds the
difference to ``MUSCLE``.
"""

from __future__ import annotations

import numpy as np

from overread.phantom.anatomy import MUSCLE, SIDES, Anatomy, Arms, Side
from overread.phantom.organs import _HALF_DEPTH, _MIDDLE, _WALL, SPINE_FRONT, Organs
from overread.phantom.tubes import Tube, Vectors, shell, smooth_path, tube

#: Height of the middle of the vertebral bodies, from L2 up to C3, mm, and the names.
_LEVELS = (
    ("L2", -133.0), ("L1", -104.0), ("T12", -76.0), ("T11", -50.0), ("T10", -25.0), ("T9", -1.0), ("T8", 22.0),
    ("T7", 45.0), ("T6", 67.0), ("T5", 89.0), ("T4", 110.5), ("T3", 131.5), ("T2", 152.0), ("T1", 172.0),
    ("C7", 190.0), ("C6", 207.0), ("C5", 223.5), ("C4", 240.0), ("C3", 256.0), ("C2", 273.0),
)  # fmt: skip
_Z = dict(_LEVELS)

#: For each rib: how far it falls from its head to its front end (mm), and the angle of that end (degrees from the
#: midline behind; 180 is the sternum).
_RIBS = (
    (38, 150), (62, 152), (82, 152), (97, 151), (108, 149), (114, 147), (118, 143), (118, 136), (112, 126), (100, 113),
    (58, 82), (40, 52),
)  # fmt: skip


def skeleton(anatomy: Anatomy) -> tuple[Tube, ...]:
    """All bones of the phantom."""
    bones: list[Tube] = []
    for side in SIDES:
        for number in range(1, 13):
            bones += _rib(anatomy, side, number)
        bones += _shoulder(anatomy, side)
    bones += _spine(anatomy)
    bones += _sternum()
    return tuple(_world(anatomy, bone) for bone in bones)


def _world(anatomy: Anatomy, bone: Tube) -> Tube:
    return Tube(
        name=bone.name,
        path=np.asarray(anatomy.to_world(bone.path)),
        half_across=bone.half_across,
        half_along=bone.half_along,
        across=np.asarray(anatomy.to_world(bone.across)),
        hu=bone.hu,
    )


def rib_path(anatomy: Anatomy, side: Side, number: int) -> Vectors:
    """Centre line of a rib from its neck to its bony front end, reference mm, shape (N, 3)."""
    fall, end = _RIBS[number - 1]
    z0 = _Z[f"T{number}"] + 9.0
    angle = np.deg2rad(np.linspace(13.0 if number > 1 else 20.0, end, 38 if number < 11 else 18))
    share = (angle - angle[0]) / np.deg2rad(150.0 - 13.0)
    # the neck rises a little, the shaft falls, steepest at the side
    fraction = share**1.65 if number < 11 else (share / share[-1]) ** 1.2
    z = z0 + 3.0 * np.sin(np.minimum(share * 9.0, np.pi)) - anatomy.rib_slope * fall * fraction
    z = z.astype(np.float32)
    out = 7.0
    x = (_WALL(z) + out) * np.sin(angle) ** 0.92
    y = _MIDDLE(z) - (_HALF_DEPTH(z) + out) * -np.cos(angle)
    if number <= 2:  # the first ribs lie flat around the apex
        y = y - 4.0 * share
    return np.column_stack([side.sign * x, y, z])


def _rib(anatomy: Anatomy, side: Side, number: int) -> list[Tube]:
    path = rib_path(anatomy, side, number)
    middle = 0.5 * (path[1:] + path[:-1])
    outward = np.column_stack([middle[:, 0], middle[:, 1] - 5.0, np.zeros(len(middle))])
    count = len(middle)
    taper = np.interp(np.linspace(0, 1, count), [0, 0.06, 0.25, 0.8, 1], [0.62, 0.72, 1.0, 1.0, 1.1])
    tall = (4.6 if number == 1 else 6.3 if number < 11 else 4.8) * taper
    solid = tube("rib", path, 3.2 * taper**0.5, anatomy.cortex_hu - MUSCLE, radius_along=tall, across=outward)
    return list(shell(solid, thickness=1.1, inner_hu=380.0 - MUSCLE))


def _spine(anatomy: Anatomy) -> list[Tube]:
    bones: list[Tube] = []
    organs = Organs(anatomy=anatomy)
    for i, (name, z) in enumerate(_LEVELS[:-1]):
        gap = _LEVELS[i + 1][1] - z
        height = 0.5 * (gap + (z - _LEVELS[i - 1][1] if i else gap))
        cervical = name[0] == "C"
        wide = 13.0 if cervical else float(np.interp(z, [-133, 172], [23.0, 15.5]))
        deep = 8.5 if cervical else float(np.interp(z, [-133, 172], [17.0, 10.5]))
        x = float(organs.spine_shift(np.asarray(z, dtype=np.float32)))
        y = SPINE_FRONT.at(z) + deep
        body = np.array([[x, y, z - 0.40 * height], [x, y, z], [x, y, z + 0.40 * height]])
        waist = np.array([wide, wide])
        solid = tube("vertebra", body, waist, 620.0 - MUSCLE, radius_along=deep, across=np.array([1.0, 0, 0]))
        inner = tube(
            "vertebra",
            body + np.array([[0, 0, 1.3], [0, 0, 0], [0, 0, -1.3]]),
            waist - 1.2,
            170.0 - 620.0,
            radius_along=deep - 1.2,
            across=np.array([1.0, 0, 0]),
        )
        bones += [solid, inner]
        for sign in (-1.0, 1.0):
            px, pz = x + sign * (0.62 * wide), z + 0.12 * height
            pedicle = tube(
                "vertebra", np.array([[px, y + deep - 1, pz], [px, y + deep + 13, pz]]), 3.4, 900.0 - MUSCLE,
                radius_along=5.6 if not cervical else 4.0, across=np.array([1.0, 0, 0]),
            )  # fmt: skip
            bones += shell(pedicle, thickness=1.1, inner_hu=200.0 - MUSCLE)
            if cervical:
                continue
            reach = wide + 15.0
            process = tube(
                "vertebra",
                smooth_path([(px, y + deep + 10, pz), (x + sign * reach, y + deep + 16, pz + 3)], 4),
                4.2, 600.0 - MUSCLE,
            )  # fmt: skip
            bones += shell(process, thickness=0.9, inner_hu=180.0 - MUSCLE)
            lamina = tube(
                "vertebra",
                smooth_path([(px, y + deep + 12, pz), (x, y + deep + 24, pz - 8)], 4),
                2.4, 500.0 - MUSCLE, radius_along=7.0, across=np.array([0.4 * sign, 1.0, 0]),
            )  # fmt: skip
            bones.append(lamina)
        back = y + deep + 22
        spinous = tube(
            "vertebra",
            smooth_path([(x, back, z - 5), (x, back + 14, z - 14), (x, back + 22, z - 24)], 5),
            2.8, 700.0 - MUSCLE, radius_along=5.5, across=np.array([1.0, 0, 0]),
        )  # fmt: skip
        bones += shell(spinous, thickness=0.9, inner_hu=200.0 - MUSCLE)
    return bones


def _sternum() -> list[Tube]:
    across = np.array([0.0, 1.0, 0.0])
    front = -_front(np.array([172.0, 140.0, 100.0, 50.0, 20.0])) + 10.0
    manubrium = tube(
        "sternum",
        smooth_path([(0, front[0] + 4, 168), (0, front[1], 128)], 8),
        5.0, 300.0 - MUSCLE, radius_along=np.linspace(28, 17, 8), across=across,
    )  # fmt: skip
    body = tube(
        "sternum",
        smooth_path([(0, front[1], 126), (0, front[2], 90), (0, front[3], 45)], 10),
        4.5, 300.0 - MUSCLE, radius_along=np.linspace(14, 18, 10), across=across,
    )  # fmt: skip
    return [*shell(manubrium, thickness=0.9, inner_hu=110 - MUSCLE), *shell(body, thickness=0.9, inner_hu=110 - MUSCLE)]


def _front(z: Vectors) -> Vectors:
    """How far in front of the middle plane the sternum lies at heights ``z``, reference mm."""
    z32 = z.astype(np.float32)
    return np.asarray(_HALF_DEPTH(np.minimum(z32, 150.0)) - _MIDDLE(z32) + 12.0, dtype=np.float64)


def _shoulder(anatomy: Anatomy, side: Side) -> list[Tube]:
    s, up = side.sign, anatomy.clavicle_mm
    out = 14.0 if anatomy.arms is Arms.OUT else 0.0
    along = np.linspace(0, 1, 40)
    stations = [0, 0.04, 0.15, 0.4, 0.8, 0.96, 1]
    clavicle = tube(
        "clavicle",
        smooth_path(
            [
                (s * 17, -62, 172),
                (s * 45, -72, 182 + 0.2 * up),
                (s * 88, -50, 197 + 0.6 * up),
                (s * 122, -14, 207 + up),
                (s * 150, 2, 204 + up),
            ],
            40,
        ),
        np.interp(along, stations, [5, 8.5, 6.3, 5.2, 5.6, 6.2, 3.5]),
        anatomy.cortex_hu - MUSCLE,
        radius_along=np.interp(along, stations, [5, 9.0, 6.6, 5.6, 5.2, 5.0, 3]),
        across=np.array([0.0, 1.0, 0.0]),
    )
    bones = list(shell(clavicle, thickness=1.7, inner_hu=300.0 - MUSCLE))
    if anatomy.arms is Arms.UP:
        out = 24.0
    x, back = 118.0 + out, 66.0 - 0.8 * out
    blade = tube(
        "scapula",
        smooth_path([(s * (x - 16), back, 176), (s * (x - 8), back + 8, 130), (s * (x + 2), back + 10, 68)], 44),
        2.0, 700.0 - MUSCLE,
        radius_along=np.interp(np.linspace(0, 1, 44), [0, 0.1, 0.35, 0.8, 1], [14, 30, 34, 17, 7]),
        across=np.array([s * 0.45, 0.9, 0.0]),
    )  # fmt: skip
    border = tube(
        "scapula",
        smooth_path([(s * (x + 30), back - 18, 158), (s * (x + 18), back - 4, 124), (s * (x + 3), back + 9, 66)], 24),
        3.8, 1000.0 - MUSCLE,
    )  # fmt: skip
    ridge = tube(
        "scapula",
        smooth_path([(s * (x - 38), back + 10, 160), (s * x, back + 12, 176), (s * (x + 36), back - 22, 200)], 24),
        np.interp(np.linspace(0, 1, 24), [0, 1], [2.0, 5.0]), 800.0 - MUSCLE,
        radius_along=np.interp(np.linspace(0, 1, 24), [0, 0.7, 1], [3.0, 6.0, 9.0]), across=np.array([0.0, 0.3, 1.0]),
    )  # fmt: skip
    glenoid = tube(
        "scapula",
        smooth_path([(s * (x + 18), back - 12, 160), (s * (x + 34), back - 24, 162)], 6),
        np.linspace(7, 10, 6), 750.0 - MUSCLE, radius_along=np.linspace(10, 17, 6), across=np.array([0.0, 1.0, 0.0]),
    )  # fmt: skip
    hook = [(s * (x + 14), back - 22, 176), (s * (x + 22), back - 34, 182), (s * (x + 36), back - 44, 172)]
    coracoid = tube("scapula", smooth_path(hook, 12), 4.5, 330.0 - MUSCLE)
    bones += [blade, coracoid]
    for part in (border, ridge, glenoid):
        bones += shell(part, thickness=1.1, inner_hu=160.0 - MUSCLE)
    hx, hy = x + 52.0, back - 32.0
    if anatomy.arms is Arms.UP:
        shaft = [(s * (hx - 10), hy, 176), (s * (hx - 8), hy - 10, 240), (s * (hx - 4), hy - 30, 420)]
    elif anatomy.arms is Arms.DOWN:
        shaft = [(s * hx, hy, 172), (s * (hx + 8), hy, 130), (s * (hx + 34), hy + 4, -160)]
    else:
        shaft = [(s * hx, hy, 172), (s * (hx + 10), hy - 2, 130), (s * (hx + 86), hy - 14, -130)]
    # the head needs short pieces: its radius changes fast
    fine = np.concatenate([np.arange(0, 0.2, 0.0025), np.arange(0.2, 1.001, 0.02)])
    line = smooth_path(shaft, 1000)[np.rint(fine * 1000).astype(int)]
    radius = np.interp(fine[:-1], [0, 0.01, 0.04, 0.08, 0.13, 0.2, 1], [4, 14, 21, 24, 20, 13, 11.5])
    humerus = tube("humerus", line, radius, anatomy.cortex_hu - MUSCLE)
    bones += shell(humerus, thickness=2.4, inner_hu=140.0 - MUSCLE)
    return bones
