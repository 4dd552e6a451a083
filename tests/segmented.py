"""A small CT series with segments of known place, for tests of outlines, SEG, SR and routes."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from overread.dicom.series import volumes_of
from overread.domain.analysis import (
    AnalysisOutcome,
    Finding,
    Measurement,
    QualityAssessment,
    TriageDecision,
)
from overread.domain.catalogue import Code
from overread.domain.evidence import ModelIdentity
from overread.domain.image import BoundingBox
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.segment import Segment, cut_out
from overread.domain.volume import Volume, affine_of
from overread.services.values import SegRequest
from tests.unit.ct_series import AXIAL, ct, files

LUNG = Code(value="3341006", scheme="SCT", meaning="Right lung")
NODULE = Code(value="786838002", scheme="SCT", meaning="Pulmonary nodule")
NODULE_ID = UUID(int=5)
CHEST_CT = ModelIdentity(name="chest_ct", version="1.2.0", sha256="")
WHEN = datetime(2026, 5, 1, 10, 30, tzinfo=UTC)
#: A gantry tilted by about 15 degrees: each slice is shifted to the back.
TILTED = (0.0, 0.7, 2.5)


def grid(
    step: tuple[float, float, float] = (0.0, 0.0, 2.5),
    shape: tuple[int, int, int] = (20, 64, 60),
    orientation: tuple[float, ...] = AXIAL,
    spacing: tuple[float, float] = (0.8, 0.6),
) -> Volume:
    """A volume of air; voxels are `spacing` (rows, columns) and `step` apart, mm."""
    return Volume(
        hu=np.full(shape, -1000, np.int16),
        affine=affine_of((-20, -30, 100), orientation, spacing, step),
        series_instance_uid="1.2",
        frame_of_reference_uid="1.3",
        sop_instance_uids=tuple(f"1.2.{number}" for number in range(1, shape[0] + 1)),
        frame_numbers=(1,) * shape[0],
    )


def ball(volume: Volume, centre_mm: NDArray[np.float64], radius_mm: float) -> NDArray[np.bool_]:
    """Voxels of `volume` whose centre is within the ball."""
    points = volume.to_mm(np.moveaxis(np.indices(volume.shape), 0, -1))
    return np.asarray(((points - centre_mm) ** 2).sum(axis=-1) <= radius_mm**2)


def lung(volume: Volume, mask: NDArray[np.bool_]) -> Segment:
    """`mask` as the right lung."""
    made = cut_out(mask, volume, key="lung_right", name="Right lung", code=LUNG)
    assert made is not None
    return made


def nodule(volume: Volume, mask: NDArray[np.bool_], finding_id: UUID = NODULE_ID) -> Segment:
    """`mask` as a nodule that was found."""
    made = cut_out(mask, volume, key="lung_nodule", name="Nodule 1, right", code=NODULE, finding_id=finding_id)
    assert made is not None
    return made


def series(places: tuple[float, ...] = tuple(range(0, 24, 2))) -> tuple[Volume, list[tuple[str, bytes]]]:
    """A series of axial 32 x 36 slices, as read, and its files."""
    made = files([ct(float(place)) for place in places])
    return volumes_of(made).main(), made


def boxes(volume: Volume) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """A lung and a nodule within it: boxes of voxels of `series()`."""
    one = np.zeros(volume.shape, np.bool_)
    one[2:9, 5:20, 6:30] = True
    other = np.zeros(volume.shape, np.bool_)
    other[4:6, 7:10, 9:13] = True
    return one, other


def request_of(segments: list[Segment], stored: Volume, evidence: bytes) -> SegRequest:
    """A SEG request with fixed UIDs."""
    return SegRequest(
        analysis_id=UUID(int=1),
        segments=segments,
        stored=stored,
        evidence=evidence,
        model=CHEST_CT,
        sop_instance_uid="2.25.10",
        series_instance_uid="2.25.11",
        dimension_uid="2.25.12",
        completed_at=WHEN,
        tracking_uids={NODULE_ID: "2.25.99"},
    )


def found(sop_instance_uid: str) -> Finding:
    """The nodule as a finding."""
    return Finding(
        id=NODULE_ID,
        finding_type="lung_nodule",
        severity=Level.ROUTINE,
        confidence=0.8,
        sop_instance_uid=sop_instance_uid,
        bounding_box=BoundingBox(x=9, y=7, width=4, height=3),
        slice_number=5,
        description="Nodule of 8 mm.",
        model=CHEST_CT,
        method="chest_ct",
    )


def outcome(sop_instance_uid: str) -> AnalysisOutcome:
    """The nodule measured, and both lungs, which are no finding."""

    def measured(number: int, kind: str, value: float, unit: str, **more: object) -> Measurement:
        return Measurement(
            id=UUID(int=100 + number), measurement_type=kind, value=value, unit=unit, method="voxel count", **more
        )  # type: ignore[arg-type]

    return AnalysisOutcome(
        modality=Modality.CT,
        body_part="CHEST",
        findings=(found(sop_instance_uid),),
        not_assessed=(),
        assessed=("lung_nodule",),
        quality=QualityAssessment(level=None, score=None),
        triage=TriageDecision(urgency=Level.ROUTINE, reason="Routine"),
        models=(CHEST_CT,),
        measurements=(
            measured(1, "nodule_longest_diameter", 8.25, "mm", finding_id=NODULE_ID, metadata={"site": "lung_right"}),
            measured(2, "lung_volume_right", 2890.125, "mL", metadata={"site": "lung_right"}),
            measured(3, "laa_950_right", 1.5, "%", metadata={"site": "lung_right", "threshold_hu": -950}),
            measured(4, "lung_volume_total", 5500.5, "mL"),
        ),
    )
