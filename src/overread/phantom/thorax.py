"""One thorax: an anatomy, its findings, and everything that attenuates in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from overread.phantom.anatomy import AIR, FAT, MUSCLE, SIDES, SOFT, Anatomy, Arms, Side, draw_anatomy
from overread.phantom.findings import Finding, FindingTruth, Region, measure, place
from overread.phantom.grid import EVERYWHERE, Box, Fade, Floats, Level
from overread.phantom.organs import Organs
from overread.phantom.skeleton import skeleton
from overread.phantom.trees import airways, outside, vessels
from overread.phantom.tubes import Tube

#: Hearts at least this large (relative) are cardiomegaly: a cardiothoracic ratio above about 0.5 on a PA film.
LARGE_HEART = 1.15
#: Thickness of the visceral pleura with the lung pressed against it, mm: a sheet of half soft tissue.
PLEURA_MM = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A body that adds ``hu`` Hounsfield units to whatever the layers before it made of the place."""

    name: str
    level: Level
    hu: float
    box: Box = EVERYWHERE
    #: A gradual border within the body; None where all borders are sharp.
    fade: Fade | None = None
    #: How much coarser than the rest it may be sampled: large smooth bodies.
    coarser: int = 1


@dataclass(frozen=True, kw_only=True)
class Thorax:
    """A thorax phantom: `layers` and `tubes` add up, from air (-1000 HU), to Hounsfield units at any point.

    It is a description and holds no voxels; `phantom.radiograph` and `phantom.ct` sample it on their own grids.
    """

    anatomy: Anatomy
    findings: tuple[Finding, ...] = ()

    @cached_property
    def organs(self) -> Organs:
        """The levels of the soft organs."""
        return Organs(anatomy=self.anatomy)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The findings at their places."""
        out: tuple[Region, ...] = ()
        for finding in self.findings:
            out += (place(finding, self.anatomy, out),)
        return out

    @cached_property
    def bones(self) -> tuple[Tube, ...]:
        """Ribs, spine, shoulder girdle, sternum."""
        return skeleton(self.anatomy)

    @cached_property
    def vessels(self) -> tuple[Tube, ...]:
        """Arteries and veins of the lungs that are still there: none in pleural air or fluid."""
        out = vessels(self.anatomy, np.random.default_rng([self.anatomy.seed, 1]))
        for region in self.regions:
            out = outside(out, region.level)
        return out

    @cached_property
    def airways(self) -> tuple[Tube, ...]:
        """Trachea and bronchi."""
        return airways(self.anatomy)

    def lung_level(self, side: Side) -> Level:
        """Level of the pleural cavity of one side."""
        return lambda x, y, z: self.organs.lung(side, x, y, z)

    def lung_ml(self, side: Side) -> float:
        """Volume of the pleural cavity of one side, mL."""
        return measure(self.lung_level(side), self.organs.lung_box(side), 3.0)[0]

    def lung_hu(self, side: Side) -> float:
        """Hounsfield units of the lung of one side: what pleural air pushes together keeps its mass."""
        taken = sum(r.volume_ml for r in self.regions if r.side is side and r.moves_lung)
        if not taken:
            return self.anatomy.lung_hu
        whole = self.lung_ml(side)
        return AIR + (self.anatomy.lung_hu - AIR) * whole / (whole - taken)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The bodies without the tubes, outermost first."""
        out = [
            Layer(name="body", level=self.organs.body, hu=FAT - AIR, coarser=2),
            Layer(name="muscle", level=self.organs.muscle, hu=MUSCLE - FAT, coarser=2),
        ]
        if self.anatomy.stomach_gas:
            gas, box = self.organs.stomach_gas, self.organs.stomach_box()
            out.append(Layer(name="stomach gas", level=gas, hu=AIR - MUSCLE, box=box))
        for side in SIDES:
            out.append(
                Layer(
                    name=f"{side} lung",
                    level=self.lung_level(side),
                    hu=self.lung_hu(side) - MUSCLE,
                    box=self.organs.lung_box(side),
                )
            )
        for index, region in enumerate(self.regions):
            before = tuple(r for r in self.regions[:index] if r.side is region.side)
            out += _finding_layers(region, before, self.lung_level(region.side), self.lung_hu(region.side))
        return tuple(out)

    @property
    def tubes(self) -> tuple[Tube, ...]:
        """All thin structures."""
        return self.bones + self.airways + self.vessels

    def truths(self) -> tuple[FindingTruth, ...]:
        """What is in this thorax, without the projected boxes (`phantom.radiograph` adds those)."""
        out = [FindingTruth(key=r.key, side=r.side, volume_ml=r.volume_ml, box_mm=r.box) for r in self.regions]
        if self.anatomy.heart >= LARGE_HEART:
            volume, box = measure(self.organs.heart, self.organs.heart_box(), 3.0)
            out.append(FindingTruth(key="cardiomegaly", side=None, volume_ml=volume, box_mm=box))
        return tuple(out)


def _fade(region: Region, before: tuple[Region, ...] = ()) -> Fade:
    return Fade(level=region.edge, width_mm=region.soft_mm or 1.0, excluded=tuple(_fade(other) for other in before))


def _finding_layers(region: Region, before: tuple[Region, ...], lung: Level, lung_hu: float) -> list[Layer]:
    (x0, y0, z0), (x1, y1, z1) = region.box
    box = ((x0 - 14, y0 - 14, z0 - 14), (x1 + 14, y1 + 14, z1 + 14))
    if region.soft_mm:
        return [Layer(name=region.key, level=lung, hu=region.hu - lung_hu, box=box, fade=_fade(region, before))]
    layers = [Layer(name=region.key, level=region.level, hu=region.hu - lung_hu, box=box)]
    if region.moves_lung:  # the visceral pleura over the edge of the lung, as a thin sheet
        inner = _pleura(region.edge, lung)
        layers.append(Layer(name="pleura", level=inner, hu=0.5 * (SOFT - lung_hu), box=box))
        layers.append(Layer(name="pleura", level=region.level, hu=0.5 * (lung_hu - SOFT), box=box))
    return layers


def _pleura(edge: Level, lung: Level) -> Level:
    def level(x: Floats, y: Floats, z: Floats) -> Floats:
        return np.asarray(np.maximum(edge(x, y, z) - np.float32(PLEURA_MM), lung(x, y, z)))

    return level


def make_thorax(
    rng: np.random.Generator,
    *findings: Finding,
    arms: Arms = Arms.OUT,
    female: bool | None = None,
    heart: float | None = None,
) -> Thorax:
    """A thorax with an anatomy drawn from ``rng`` and the given findings; ``heart`` overrides the heart's size."""
    anatomy = draw_anatomy(rng, female=female, arms=arms)
    if heart is not None:
        anatomy = replace(anatomy, heart=heart)
    return Thorax(anatomy=anatomy, findings=findings)
