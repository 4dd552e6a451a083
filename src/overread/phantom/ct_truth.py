"""What is known about a CT phantom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from overread.domain.catalogue import MASS_MM
from overread.phantom.anatomy import Side
from overread.phantom.grid import Box
from overread.phantom.nodules import Contact, Density, Measured, Nodule


@dataclass(frozen=True, kw_only=True)
class CtFinding:
    """One finding of a phantom, exact by construction up to the sampling that measured it."""

    #: Key of the finding in `domain.catalogue`.
    key: str
    #: None for emphysema, which has no side.
    side: Side | None
    #: Centre of mass, LPS+ mm.
    centre_mm: tuple[float, float, float]
    volume_ml: float
    #: (low, high) corners, LPS+ mm.
    box_mm: Box
    #: Of nodules: longest diameter in the axial plane where it is longest, and the longest chord at right angles, mm.
    diameter_mm: float | None = None
    perpendicular_mm: float | None = None
    density: Density | None = None
    contact: Contact | None = None


def nodule_truth(nodule: Nodule, size: Measured, side: Side | None) -> CtFinding:
    """The finding that a nodule of this measured size is."""
    return CtFinding(
        key="lung_mass" if size.diameter_mm > MASS_MM else "lung_nodule",
        side=side,
        centre_mm=size.centre_mm,
        volume_ml=size.volume_ml,
        box_mm=size.box_mm,
        diameter_mm=size.diameter_mm,
        perpendicular_mm=size.perpendicular_mm,
        density=nodule.density,
        contact=nodule.contact,
    )


@dataclass(frozen=True, kw_only=True)
class CtTruth:
    """Everything that is known about a phantom."""

    #: In the order of the numbers in `CtCase.lesion_labels` (the first is 1).
    findings: tuple[CtFinding, ...]
    #: mL within the visceral pleura of each side, without the lumen of airways.
    lung_ml: Mapping[Side, float]
    #: Percent of both lungs under -950 HU without noise.
    emphysema_percent: float

    def of(self, key: str) -> tuple[CtFinding, ...]:
        """The findings of that key."""
        return tuple(f for f in self.findings if f.key == key)

    @property
    def nodules(self) -> tuple[CtFinding, ...]:
        """Nodules and masses (over 30 mm)."""
        return tuple(f for f in self.findings if f.diameter_mm is not None)

    def ml(self, key: str) -> float:
        """Volume of all findings of that key, mL."""
        return sum(f.volume_ml for f in self.of(key))
