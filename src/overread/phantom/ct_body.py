"""What CT shows around the lungs that a radiograph does not: fat of the mediastinum, upper abdomen, muscles, table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from overread.phantom.anatomy import AIR, FAT, MUSCLE, SIDES, SOFT, Anatomy
from overread.phantom.grid import EVERYWHERE, Box, Floats, Level
from overread.phantom.organs import _HALF_DEPTH, _MIDDLE, _WALL, SPINE_FRONT, Organs, _rods
from overread.phantom.shapes import box_around, capsule, ellipsoid, join, oval

#: Hounsfield units without contrast medium.
HEART_HU, VESSEL_HU, LIVER_HU, SPLEEN_HU, GUT_HU, TENDON_HU = 42.0, 45.0, 58.0, 48.0, 25.0, 35.0
MEDIASTINAL_FAT_HU, VISCERAL_FAT_HU = -90.0, -102.0
#: The carbon shell and the foam of the table.
TABLE_HU, FOAM_HU = -180.0, -930.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """A region that replaces what was there: `hu` within `level`."""

    name: str
    level: Level
    hu: float
    box: Box = EVERYWHERE
    #: Large and smooth: it may be sampled coarsely.
    smooth: bool = True
    #: Only a sheet around the surface, of that thickness, mm.
    sheet_mm: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class CtBody:
    """Everything but lungs, airways and bones, outermost first."""

    anatomy: Anatomy

    @cached_property
    def organs(self) -> Organs:
        """The levels of the organs that radiographs show too."""
        return Organs(anatomy=self.anatomy)

    def bodies(self) -> tuple[Body, ...]:
        """In the order in which they replace each other."""
        organs = self.organs
        return (
            Body(name="fat", level=organs.body, hu=FAT),
            Body(name="muscle", level=organs.muscle, hu=MUSCLE),
            Body(name="fascia", level=self._fascia, hu=-85.0, sheet_mm=1.8),
            Body(name="mediastinum", level=self._fat, hu=MEDIASTINAL_FAT_HU, box=self._world(-110, 110, -100, 100)),
            *self._abdomen(),
            Body(name="heart", level=self._heart, hu=HEART_HU, box=organs.heart_box()),
            *self._vessels(),
            Body(name="spine", level=self._paraspinal, hu=MUSCLE, box=self._world(-80, 80, 0, 130)),
        )

    def _world(self, left: float, right: float, front: float, back: float, *, head: float = 380.0) -> Box:
        corners = [
            tuple(self.anatomy.to_world(np.array([x, y, z])).tolist())
            for x in (left, right)
            for y in (front, back)
            for z in (-260.0, head)
        ]
        return box_around(corners, 6.0)

    def _fascia(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """A sheet of fat between the outer muscles (pectoral, latissimus) and the chest wall."""
        muscle = self.organs.muscle(x, y, z)
        waves = np.float32(2.5) * np.sin(x / np.float32(17.0) + z / np.float32(29.0))
        return np.asarray(muscle + np.float32(7.0) + waves)

    def _fat(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """The mediastinum within 2 mm of pleura, but not where it reaches through the chest wall."""
        inner = self._cavity(x, y, z)
        return np.asarray(np.maximum(self.organs.mediastinum(x, y, z) + np.float32(2.0), inner))

    def _cavity(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """The space within the ribs, across the midline."""
        u, v, w = self.anatomy.to_reference(x, y, z)
        outer, deep = _WALL(w) - np.float32(1.0), _HALF_DEPTH(w) - np.float32(1.0)
        return oval(u, v - _MIDDLE(w), outer, deep, power=2.2)

    def _heart(self, x: Floats, y: Floats, z: Floats) -> Floats:
        return np.asarray(self.organs.heart(x, y, z) + np.float32(3.0))

    def _vessels(self) -> list[Body]:
        a = self.anatomy
        out: list[Body] = []
        rods = _rods(a.aorta_mm - 1.5, a.aorta_unfold)
        rods.append(((3.0, 27.0, 190.0), (8.0, 33.0, -60.0), 6.0))  # oesophagus
        for number, (start, end, radius) in enumerate(rods):

            def level(
                x: Floats, y: Floats, z: Floats,
                start: tuple[float, float, float] = start, end: tuple[float, float, float] = end,
                radius: float = radius,
            ) -> Floats:  # fmt: skip
                return capsule(*a.to_reference(x, y, z), start, end, radius)

            corners = [tuple(a.to_world(np.asarray(p, dtype=np.float64)).tolist()) for p in (start, end)]
            oesophagus = number == len(rods) - 1
            hu = TENDON_HU if oesophagus else VESSEL_HU
            out.append(Body(name="vessel", level=level, hu=hu, box=box_around(corners, radius * 1.2 + 3.0)))
        return out

    def _paraspinal(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Vertebrae and the muscles beside them: bones are painted on muscle."""
        u, v, w = self.anatomy.to_reference(x, y, z)
        bone = oval(u - self.organs.spine_shift(w), v - (SPINE_FRONT(w) + 17.0), np.float32(24.0), np.float32(18.0))
        back = oval(u - self.organs.spine_shift(w), v - (SPINE_FRONT(w) + 48.0), np.float32(58.0), np.float32(28.0))
        return np.asarray(np.maximum(join(bone, back, 8.0), self.organs.muscle(x, y, z) + np.float32(3.0)))

    # ---- under the diaphragm ---------------------------------------------------------------------------------

    def _below(self, x: Floats, y: Floats, z: Floats, muscle_mm: float) -> Floats:
        """Under both domes by at least ``muscle_mm``, within the ribs."""
        over = [-self.organs.diaphragm(side, x, y, z) / np.float32(0.75) for side in SIDES]
        u = self.anatomy.to_reference(x, y, z)[0]
        under = np.where(u < 0, over[0], over[1])
        level = np.maximum(under + np.float32(muscle_mm), self._cavity(x, y, z) + np.float32(muscle_mm))
        return np.asarray(np.maximum(level, z - np.float32(self.anatomy.height * (self.anatomy.dome_mm + 2.0))))

    def _abdomen(self) -> list[Body]:
        a = self.anatomy
        top = a.dome_mm
        left = top - a.dome_drop_mm
        stomach = ((58.0, -22.0, left - 52.0), (46.0, 52.0, 40.0))
        lobe, tail = ((-66.0, -8.0, top - 62.0), (72.0, 82.0, 66.0)), ((18.0, -48.0, top - 58.0), (52.0, 36.0, 32.0))
        spleen = ((100.0, 46.0, left - 62.0), (26.0, 42.0, 44.0))
        out = [
            Body(
                name="visceral fat",
                level=partial(self._below, muscle_mm=3.0),
                hu=VISCERAL_FAT_HU,
                box=self._world(-150, 150, -110, 110, head=top + 6.0),
            ),
            self._organ("liver", lobe, LIVER_HU),
            self._organ("liver", tail, LIVER_HU),
            self._organ("spleen", spleen, SPLEEN_HU),
            self._organ("stomach", stomach, GUT_HU),
        ]
        if a.stomach_gas:
            out.append(self._gas(stomach))
        return out

    def _organ(
        self, name: str, shape: tuple[tuple[float, float, float], tuple[float, float, float]], hu: float
    ) -> Body:
        centre, radii = shape

        def level(x: Floats, y: Floats, z: Floats) -> Floats:
            body = ellipsoid(*self.anatomy.to_reference(x, y, z), centre, radii)
            return np.asarray(np.maximum(body, self._below(x, y, z, 3.0)))

        return Body(name=name, level=level, hu=hu, box=self._around(centre, max(radii)))

    def _gas(self, shape: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Body:
        """Air in the stomach: it floats in front, over a level surface."""
        centre, radii = shape
        g = self.anatomy.stomach_gas
        wall = (radii[0] - 4.0, radii[1] - 4.0, radii[2] - 4.0)
        surface = centre[1] - radii[1] * (1.0 - 0.9 * g)

        def level(x: Floats, y: Floats, z: Floats) -> Floats:
            u, v, w = self.anatomy.to_reference(x, y, z)
            inner = np.maximum(ellipsoid(u, v, w, centre, wall), self._below(x, y, z, 7.0))
            return np.asarray(np.maximum(inner, v - np.float32(surface)))

        return Body(name="stomach gas", level=level, hu=AIR, box=self._around(centre, max(radii)))

    def _around(self, centre: tuple[float, float, float], reach: float) -> Box:
        middle = tuple(self.anatomy.to_world(np.asarray(centre, dtype=np.float64)).tolist())
        return box_around([middle], 1.2 * reach + 3.0)

    # ---- under the patient -----------------------------------------------------------------------------------

    def back_mm(self) -> float:
        """The rearmost skin, y in mm."""
        y = np.linspace(0, 200, 401, dtype=np.float32)
        x, z = np.zeros((1, 1), np.float32), np.linspace(-60, 160, 12, dtype=np.float32)
        inside = self.organs.body(x + 0 * z[None, :], y[:, None], z[None, :]) < 0
        return float(y[np.flatnonzero(inside.any(axis=1))[-1]])

    def table(self) -> tuple[Body, ...]:
        """A thin curved shell with foam in it, outside the body (so not replaced by it)."""
        top = np.float32(self.back_mm() + 4.0)
        shell, sag, half = np.float32(1.3), np.float32(1 / 900.0), np.float32(215.0)

        def depth(x: Floats, y: Floats) -> Floats:
            """How far below the table's (hollow) surface."""
            return np.asarray(y - top + sag * x * x)

        def board(x: Floats, y: Floats, z: Floats) -> Floats:
            inside = np.maximum(np.maximum(-depth(x, y), y - (top + np.float32(24.0))), np.abs(x) - half)
            return np.asarray(inside + 0 * z)

        def core(x: Floats, y: Floats, z: Floats) -> Floats:
            return np.asarray(board(x, y, z) + shell)

        box = ((-230.0, float(top) - 60.0, -1e4), (230.0, float(top) + 30.0, 1e4))
        return (
            Body(name="table", level=board, hu=TABLE_HU, box=box, smooth=False),
            Body(name="foam", level=core, hu=FOAM_HU, box=box, smooth=False),
        )


def wall_hu() -> float:
    """Hounsfield units of the wall of an airway."""
    return SOFT - 40.0
