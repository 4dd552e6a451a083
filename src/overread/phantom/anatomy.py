"""The parameters of one made-up person: everything in which two phantoms differ, apart from findings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from overread.phantom.grid import Floats

#: Linear attenuation of water per mm at the effective energy of a filtered 120 kV beam (about 65 keV; NIST XCOM).
WATER_PER_MM = 0.0200

#: Hounsfield units of the materials, for that energy.
AIR, FAT, MUSCLE, SOFT, FLUID, BLOOD = -1000.0, -100.0, 50.0, 40.0, 12.0, 45.0


class Side(StrEnum):
    """The patient's side."""

    RIGHT = "right"
    LEFT = "left"

    @property
    def sign(self) -> float:
        """+1 where x grows to this side (left), else -1."""
        return 1.0 if self is Side.LEFT else -1.0


SIDES = (Side.RIGHT, Side.LEFT)


class Arms(StrEnum):
    """How the arms are held."""

    #: Hands on the hips, elbows forward: the scapulae leave the lungs (erect PA).
    OUT = "out"
    #: Beside the body (portable AP).
    DOWN = "down"
    #: Over the head (lateral, CT).
    UP = "up"


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A thorax in numbers. Scales are relative to an adult of 1.75 m with a chest 290 mm wide inside."""

    #: Size along x, y, z, relative.
    width: float = 1.0
    depth: float = 1.0
    height: float = 1.0
    #: Thickness of the subcutaneous fat, mm.
    fat_mm: float = 12.0
    #: Half-width of each breast, mm; 0 for none.
    breast_mm: float = 0.0
    #: Size of the heart, relative; about 1.3 and more is cardiomegaly.
    heart: float = 1.0
    #: How far the apex of the heart points down, degrees.
    heart_tilt: float = 0.0
    #: Radius of the thoracic aorta, mm, and how far its arch reaches to the left beyond the usual, mm.
    aorta_mm: float = 13.0
    aorta_unfold: float = 0.0
    #: Height of the right dome of the diaphragm over the origin, and how much lower the left one is, mm.
    dome_mm: float = 12.0
    dome_drop_mm: float = 13.0
    #: How far ribs fall from back to front, relative.
    rib_slope: float = 1.0
    #: Height of the outer ends of the clavicles over the usual, mm.
    clavicle_mm: float = 0.0
    #: Sideways bow of the spine, mm, and its phase, radians.
    scoliosis_mm: float = 0.0
    scoliosis_phase: float = 0.0
    #: Turn of the body about its long axis, degrees; positive shows more of the left side in front.
    turn_deg: float = 0.0
    #: Hounsfield units of the lung between its visible vessels.
    lung_hu: float = -850.0
    #: Hounsfield units of cortical bone.
    cortex_hu: float = 1150.0
    #: Size of the gas bubble in the stomach, relative; 0 for none.
    stomach_gas: float = 1.0
    arms: Arms = Arms.OUT
    #: Whether fat joins the descending aorta to the spine all the way: seen on CT only.
    aorta_bound: bool = False
    #: Seed of what is grown at random: vessels, texture.
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "depth", "height", "heart"):
            value = getattr(self, name)
            if not 0.5 <= value <= 2.0:
                raise ValueError(f"{name} must be in 0.5..2, got {value}")

    def to_reference(self, x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats, Floats]:
        """World mm -> coordinates of the reference thorax (turned back, scaled to size 1)."""
        c, s = np.float32(np.cos(np.deg2rad(self.turn_deg))), np.float32(np.sin(np.deg2rad(self.turn_deg)))
        if self.turn_deg:
            x, y = c * x + s * y, c * y - s * x
        return x / np.float32(self.width), y / np.float32(self.depth), z / np.float32(self.height)

    def to_world(self, points: Floats) -> Floats:
        """Reference coordinates (..., 3) -> world mm."""
        x, y, z = (points[..., i] * size for i, size in enumerate((self.width, self.depth, self.height)))
        c, s = np.cos(np.deg2rad(self.turn_deg)), np.sin(np.deg2rad(self.turn_deg))
        return np.stack([c * x - s * y, c * y + s * x, z], axis=-1)


def draw_anatomy(rng: np.random.Generator, *, female: bool | None = None, arms: Arms = Arms.OUT) -> Anatomy:
    """A plausible adult, different for every state of ``rng``. ``female`` decides the breasts and the size."""
    woman = bool(rng.random() < 0.5) if female is None else female
    size = rng.normal(0.94 if woman else 1.0, 0.025)
    fat = float(np.clip(rng.gamma(4.0, 3.2) + (3.0 if woman else 0.0), 5.0, 34.0))
    return Anatomy(
        width=float(np.clip(size * rng.normal(1.0, 0.03), 0.86, 1.08)),
        depth=float(np.clip(size * rng.normal(1.0, 0.04), 0.86, 1.10)),
        height=float(np.clip(size * rng.normal(0.98, 0.03), 0.86, 1.06)),
        fat_mm=fat,
        breast_mm=float(np.clip(rng.normal(52.0, 7.0) + 0.4 * fat, 40.0, 74.0)) if woman else 0.0,
        heart=float(np.clip(rng.normal(0.95, 0.035), 0.86, 1.03)),
        heart_tilt=float(rng.normal(0.0, 5.0)),
        aorta_mm=float(np.clip(rng.normal(13.0, 1.2), 11.0, 16.0)),
        aorta_unfold=float(np.clip(rng.normal(2.0, 3.0), -2.0, 9.0)),
        dome_mm=float(rng.normal(13.0, 7.0)) + (14.0 if arms is Arms.DOWN else 0.0),
        dome_drop_mm=float(np.clip(rng.normal(13.0, 4.0), 4.0, 22.0)),
        rib_slope=float(np.clip(rng.normal(1.0, 0.09), 0.8, 1.2)),
        clavicle_mm=float(rng.normal(0.0, 7.0)),
        scoliosis_mm=float(abs(rng.normal(0.0, 2.0))),
        scoliosis_phase=float(rng.uniform(0, 2 * np.pi)),
        turn_deg=float(np.clip(rng.normal(0.0, 1.5), -3.5, 3.5)),
        lung_hu=float(np.clip(rng.normal(-850.0 if arms is not Arms.DOWN else -810.0, 18.0), -890.0, -780.0)),
        cortex_hu=float(np.clip(rng.normal(1150.0, 120.0), 850.0, 1400.0)),
        stomach_gas=float(np.clip(rng.normal(0.6, 0.15), 0.3, 0.9)),
        arms=arms,
        seed=int(rng.integers(2**31)),
    )
