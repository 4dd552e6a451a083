"""One patient on the CT table: everything that attenuates, composed slab by slab, and the label of each voxel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from overread.domain.tissue import Tissue
from overread.phantom.anatomy import AIR, SIDES, Anatomy, Side
from overread.phantom.ct_body import Body, CtBody, wall_hu
from overread.phantom.ct_sampler import Sampler
from overread.phantom.ct_trees import Trees
from overread.phantom.findings import Region
from overread.phantom.grid import Floats, Grid
from overread.phantom.lattice import Lattice
from overread.phantom.nodules import GROUND_GLASS_HU, SOLID_HU, Density, Shape
from overread.phantom.skeleton import skeleton
from overread.phantom.supine import Emphysema, minor_fissure, oblique_fissure
from overread.phantom.tubes import Tube, paint

Labels = npt.NDArray[np.uint8]
#: A fissure: two layers of pleura.
_FISSURE_MM, _FISSURE_HU = 1.0, -700.0
_PLEURA_MM, _PLEURA_HU = 0.8, 20.0
_BLOOD_HU = 45.0
#: The threshold of low attenuation areas on CT at full inspiration (Gevenois 1996).
LAA_HU = -950.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Textures:
    """Variation that no structure of the phantom stands for."""

    fine: Lattice
    broad: Lattice
    soft: Lattice


@dataclass(frozen=True, kw_only=True, eq=False)
class Slab:
    """A few slices, without noise."""

    #: Mean Hounsfield units of each voxel, float32 (planes, rows, columns).
    hu: Floats
    #: Values of `Tissue`, and the number of the finding (from 1, in the order of the truth; 0 none).
    labels: Labels
    lesions: Labels


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A description; it holds no voxels but the lattices."""

    anatomy: Anatomy
    trees: Trees
    textures: Textures
    #: Mean Hounsfield units of aerated lung of each side, and how many more at the back than in front.
    lung_hu: Mapping[Side, float]
    gravity_hu: float
    #: Air and fluid in the pleural space, consolidated lung, nodules; with the number of the finding.
    pleural: tuple[tuple[int, Region], ...] = ()
    patches: tuple[tuple[int, Region], ...] = ()
    nodules: tuple[tuple[int, Side, Shape], ...] = ()
    emphysema: tuple[int, Emphysema] | None = None

    @cached_property
    def _body(self) -> CtBody:
        return CtBody(anatomy=self.anatomy)

    @cached_property
    def _bodies(self) -> tuple[Body, ...]:
        return self._body.table() + self._body.bodies()

    @cached_property
    def _bones(self) -> tuple[Tube, ...]:
        return skeleton(self.anatomy)

    def slab(self, grid: Grid) -> Slab:
        """The slices at the planes of ``grid`` (axial, at least 2 planes)."""
        sampler = Sampler.of(grid)
        hu = np.full(grid.shape, AIR, dtype=np.float32)
        labels = np.zeros(grid.shape, dtype=np.uint8)
        lesions = np.zeros(grid.shape, dtype=np.uint8)
        for body in self._bodies:
            self._replace(hu, labels, sampler, body)
        skin = labels > 0
        hu += np.where(skin, np.float32(7.0) * self.textures.soft.on(grid), np.float32(0.0))
        paint(hu, grid, near(self._bones, grid), whole_ray=False)
        free = np.ones(grid.shape, dtype=np.float32)
        for side in SIDES:
            self._lung(side, sampler, hu, labels, lesions, free)
        for tubes, value in (
            (self.trees.blood, _BLOOD_HU),
            (self.trees.walled, wall_hu()),
            (self.trees.lumen, AIR),
        ):
            share = np.zeros(grid.shape, dtype=np.float32)
            paint(share, grid, near(tubes, grid), whole_ray=False)
            share = np.minimum(share, 1) * free
            hu += share * (np.float32(value) - hu)
            if value == AIR:
                labels[(share >= 0.5) & skin] = Tissue.AIRWAYS
        if self.emphysema is not None:  # vessels cross the holes
            lesions[(lesions == self.emphysema[0]) & (hu >= LAA_HU)] = 0
        return Slab(hu=hu, labels=labels, lesions=lesions)

    def _replace(self, hu: Floats, labels: Labels, sampler: Sampler, body: Body) -> None:
        found = sampler.window(body.box, margin=2 * sampler.pixel)
        if found is None:
            return
        place, part = found
        if body.sheet_mm is None:
            share = part.share(body.level, smooth=body.smooth)
        else:
            share = part.sheet(body.level, body.sheet_mm)
        hu[place] += share * (np.float32(body.hu) - hu[place])
        if body.name == "fat":
            labels[place][share >= 0.5] = Tissue.BODY

    def _lung(self, side: Side, sampler: Sampler, hu: Floats, labels: Labels, lesions: Labels, free: Floats) -> None:
        organs = self._body.organs
        found = sampler.window(organs.lung_box(side), margin=2 * sampler.pixel)
        if found is None:
            return
        place, part = found
        cavity = part.share(lambda x, y, z: organs.lung(side, x, y, z))
        if not cavity.any():
            return
        content = self._parenchyma(side, part)
        mine = np.zeros(content.shape, dtype=np.uint8)
        self._destroy(content, mine, part)
        self._fissures(side, content, part)
        for number, region in self.patches:
            if region.side is side:
                share = np.clip(0.5 - part.distance(region.level) / np.float32(region.soft_mm), 0, 1)
                texture = np.float32(22.0) * self.textures.fine.on(part.grid)
                content += share * (np.float32(region.hu) + texture - content)
                mine[share >= 0.5] = number
        for number, where, shape in self.nodules:
            if where is side:
                self._nodule(content, mine, part, number, shape)
        label = np.full(content.shape, Tissue.RIGHT_LUNG if side is Side.RIGHT else Tissue.LEFT_LUNG, dtype=np.uint8)
        # what was placed first has taken its part of the place
        for number, region in reversed([p for p in self.pleural if p[1].side is side]):
            self._pleural(content, label, mine, part, (number, region), free[place], cavity)
        hu[place] += cavity * (content - hu[place])
        within = cavity >= 0.5
        labels[place][within] = label[within]
        lesions[place][within] = mine[within]

    def _parenchyma(self, side: Side, part: Sampler) -> Floats:
        """Lung between its vessels: the back denser than the front."""
        grid = part.grid
        back = grid.rows[None, :, None] / np.float32(180.0 * self.anatomy.depth)
        content = np.float32(8.0) * self.textures.fine.on(grid) + np.float32(9.0) * self.textures.broad.on(grid)
        content += np.float32(self.lung_hu[side]) + np.float32(self.gravity_hu) * np.clip(back, -0.5, 0.5)
        return np.asarray(content, dtype=np.float32)

    def _destroy(self, content: Floats, mine: Labels, part: Sampler) -> None:
        if self.emphysema is None:
            return
        number, emphysema = self.emphysema
        values = emphysema.on(emphysema.field.on(part.grid), part.grid.depths[:, None, None])
        content += emphysema.share(values) * (np.float32(emphysema.hu) - content)
        mine[content < LAA_HU] = number

    def _fissures(self, side: Side, content: Floats, part: Sampler) -> None:
        major = part.sheet(lambda x, y, z: oblique_fissure(self.anatomy, side, x, y, z), _FISSURE_MM)
        if side is Side.RIGHT:
            front = part.share(lambda x, y, z: oblique_fissure(self.anatomy, side, x, y, z))
            minor = part.sheet(lambda x, y, z: minor_fissure(self.anatomy, x, y, z), _FISSURE_MM)
            major = np.maximum(major, minor * front)
        content += major * np.maximum(np.float32(_FISSURE_HU + 150.0) - content, 0)

    def _nodule(self, content: Floats, mine: Labels, part: Sampler, number: int, shape: Shape) -> None:
        density = shape.nodule.density
        layers = [(shape.level, SOLID_HU if density is Density.SOLID else GROUND_GLASS_HU)]
        if density is Density.PART_SOLID:
            layers.append((shape.core, SOLID_HU))
        for index, (level, value) in enumerate(layers):
            found = part.fine_share(level, shape.box)
            if found is None:
                return
            place, share = found
            content[place] += share * (np.float32(value) - content[place])
            if index == 0:
                mine[place][share >= 0.5] = number

    def _pleural(
        self, content: Floats, label: Labels, mine: Labels, part: Sampler, numbered: tuple[int, Region],
        free: Floats, cavity: Floats,
    ) -> None:  # fmt: skip
        number, region = numbered
        share = part.share(region.edge)
        if region.key == "pleural_effusion":  # the lung beside it is pressed
            distance = np.maximum(part.distance(region.edge), 0)
            content += np.maximum(np.float32(-400.0) - content, 0) * np.exp(-distance / np.float32(4.0))
            tissue = Tissue.PLEURAL_FLUID
        else:  # the visceral pleura
            line = part.sheet(region.edge, _PLEURA_MM)
            content += line * (np.float32(_PLEURA_HU) - content)
            tissue = Tissue.PLEURAL_AIR
        content += share * (np.float32(region.hu) - content)
        free *= 1 - share * cavity
        label[share >= 0.5] = tissue
        mine[share >= 0.5] = number


def near(tubes: tuple[Tube, ...], grid: Grid) -> list[Tube]:
    """Those of ``tubes`` that may reach the planes of ``grid``."""
    low, high = float(grid.depths[0]) - grid.step, float(grid.depths[-1]) + grid.step
    out = []
    for item in tubes:
        reach = float(max(item.half_across.max(), item.half_along.max()))
        if item.path[:, 2].min() - reach <= high and item.path[:, 2].max() + reach >= low:
            out.append(item)
    return out
