"""The demo: a handful of made-up patients, each with a radiograph and the truth about it, rendered when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from overread.phantom.anatomy import Arms, Side
from overread.phantom.findings import Consolidation, Finding, FindingTruth, PleuralEffusion, Pneumothorax
from overread.phantom.presentation import Exposure, Pixels, expose, present
from overread.phantom.radiograph import Geometry, View, project
from overread.phantom.thorax import Thorax, make_thorax

#: Size of a cardiomegaly's heart, relative: a cardiothoracic ratio of about 0.58.
BIG_HEART = 1.22


@dataclass(frozen=True, kw_only=True)
class PhantomPatient:
    """Who a phantom pretends to be; the name always begins with ``PHANTOM^``."""

    patient_id: str
    #: PatientName (0010,0010).
    name: str
    #: PatientSex (0010,0040): M or F.
    sex: str
    #: Age in years.
    age: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RadiographImage:
    """A rendered radiograph and what is known about it."""

    #: Stored pixels, uint16 (rows, columns).
    pixels: Pixels
    #: BitsStored (0028,0101).
    bits: int
    #: MONOCHROME1 (the lowest value is white) instead of MONOCHROME2.
    inverted: bool
    #: ImagerPixelSpacing (0018,1164), mm, both directions.
    pixel_mm: float
    view: View
    truths: tuple[FindingTruth, ...]


@dataclass(frozen=True, kw_only=True)
class RadiographCase:
    """One study of the demo: everything that decides its image."""

    #: Short name, unique within the demo, for example ``pneumothorax-1``.
    key: str
    patient: PhantomPatient
    seed: int
    findings: tuple[Finding, ...] = ()
    #: Size of the heart if it is not the anatomy's own.
    heart: float | None = None
    geometry: Geometry = field(default_factory=Geometry)
    exposure: Exposure = field(default_factory=Exposure)

    @property
    def view(self) -> View:
        """ViewPosition (0018,5101)."""
        return self.geometry.view

    def thorax(self) -> Thorax:
        """The phantom that is imaged."""
        arms = {View.PA: Arms.OUT, View.AP: Arms.DOWN, View.LATERAL: Arms.UP}[self.view]
        rng = np.random.default_rng([self.seed, 0])
        return make_thorax(rng, *self.findings, arms=arms, female=self.patient.sex == "F", heart=self.heart)

    def render(self) -> RadiographImage:
        """The image; the same for the same case, about two seconds of work at 1024 x 1024."""
        pixel_mm = self.geometry.pixel_mm
        projection = project(self.thorax(), self.geometry)
        signal = expose(projection.attenuation, pixel_mm, self.exposure, np.random.default_rng([self.seed, 1]))
        return RadiographImage(
            pixels=present(signal, pixel_mm, self.exposure),
            bits=self.exposure.bits,
            inverted=self.exposure.inverted,
            pixel_mm=pixel_mm,
            view=self.view,
            truths=projection.truths,
        )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    key: str
    given_name: str
    sex: str
    findings: tuple[Finding, ...] = ()
    view: View = View.PA
    heart: float | None = None
    inverted: bool = False


_PLANS = (
    _Plan(key="no-finding-1", given_name="ADA", sex="F"),
    _Plan(key="no-finding-2", given_name="BRUNO", sex="M", inverted=True),
    _Plan(key="no-finding-3", given_name="CLARA", sex="F", view=View.AP),
    _Plan(
        key="pneumothorax-1", given_name="DAVID", sex="M", findings=(Pneumothorax(side=Side.RIGHT, volume_ml=900.0),)
    ),
    _Plan(key="pneumothorax-2", given_name="EDITH", sex="F", findings=(Pneumothorax(side=Side.LEFT, volume_ml=550.0),)),
    _Plan(key="effusion-1", given_name="FELIX", sex="M", findings=(PleuralEffusion(side=Side.LEFT, volume_ml=600.0),)),
    _Plan(
        key="opacity-1",
        given_name="GRETA",
        sex="F",
        findings=(Consolidation(side=Side.RIGHT, volume_ml=220.0, centre=(0.6, 0.55, 0.46)),),
    ),
    _Plan(key="cardiomegaly-1", given_name="HENRY", sex="M", heart=BIG_HEART),
    _Plan(key="lateral-1", given_name="IDA", sex="F", view=View.LATERAL),
)


def demo_studies(seed: int = 1, *, size: int = 1024) -> tuple[RadiographCase, ...]:
    """The studies of the demo: three without finding, two pneumothoraces, an effusion, an opacity, a large heart and a
    lateral view, of nine patients. Anatomy, exposure and collimation differ with ``seed``; ``size`` is the number of
    rows and columns.
    """
    cases = []
    for index, plan in enumerate(_PLANS):
        rng = np.random.default_rng([seed, index])
        portable = plan.view is View.AP
        border = tuple(float(b) for b in rng.uniform(0.0, 9.0, 4)) if rng.random() < 0.4 else (0.0, 0.0, 0.0, 0.0)
        cases.append(
            RadiographCase(
                key=plan.key,
                patient=PhantomPatient(
                    patient_id=f"PHANTOM-{seed:03d}-{index + 1:02d}",
                    name=f"PHANTOM^{plan.given_name}",
                    sex=plan.sex,
                    age=int(rng.integers(24, 85)),
                ),
                seed=int(rng.integers(2**31)),
                findings=plan.findings,
                heart=plan.heart,
                geometry=Geometry(
                    view=plan.view,
                    size=size,
                    field_mm=float(rng.uniform(385.0, 425.0)),
                    distance_mm=1100.0 if portable else 1800.0,
                    centre_mm=(float(rng.normal(0.0, 4.0)), float(rng.normal(70.0, 6.0))),
                ),
                exposure=Exposure(
                    photons_per_mm2=float(rng.uniform(4e5, 1.5e6)),
                    scatter=float(rng.uniform(0.1, 0.16)) * (1.5 if portable else 1.0),
                    flatten=float(rng.uniform(0.3, 0.5)),
                    detail=float(rng.uniform(0.4, 0.7)),
                    contrast=float(rng.uniform(0.9, 1.15)),
                    lung_grey=float(rng.uniform(0.18, 0.32)),
                    inverted=plan.inverted,
                    marker="R" if rng.random() < 0.5 else "L",
                    border_mm=(border[0], border[1], border[2], border[3]),
                ),
            )
        )
    return tuple(cases)
