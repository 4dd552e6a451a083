"""A CT series as one array in the patient's space, and the geometry of it. `dicom.series` makes it from files.

Axes of the array are (slices, rows, columns). Coordinates are the patient's, in mm: x to the left, y to the back, z to
the head (LPS+, DICOM PS3.3 C.7.6.2.1.1). The affine maps the index of a voxel to the centre of that voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from overread.domain.errors import InvalidDicom

Floats = NDArray[np.float64]
Hounsfield = NDArray[np.int16] | NDArray[np.float32]

#: Hounsfield units of air, and of what lies outside the scanner's field of view.
AIR_HU = -1000
#: Directions of array axes 0, 1, 2 after `to_lps`: to the head, to the back, to the left.
_LPS_AXES = (2, 1, 0)


class VolumeError(InvalidDicom):
    """Images that make no volume. Subclasses say why; `details` names files and positions."""

    code = "UNUSABLE_SERIES"


class MissingRescale(VolumeError):
    """CT without RescaleSlope (0028,1053) and RescaleIntercept (0028,1052): the values are no Hounsfield units."""

    code = "MISSING_RESCALE"


class NotHounsfield(VolumeError):
    """RescaleType (0028,1054) names another unit than HU, as iodine maps and effective Z do."""

    code = "NOT_HOUNSFIELD"


class MissingPosition(VolumeError):
    """Without ImagePositionPatient, ImageOrientationPatient or PixelSpacing that can be used."""

    code = "MISSING_POSITION"


class DuplicatePositions(VolumeError):
    """Different images at the same position, and nothing that tells which belong together."""

    code = "DUPLICATE_POSITIONS"


class IrregularSpacing(VolumeError):
    """So many gaps or changes of the distance between slices that no regular part is worth measuring."""

    code = "IRREGULAR_SPACING"


class InconsistentPositions(VolumeError):
    """The slices do not lie on one straight line: no affine describes them."""

    code = "INCONSISTENT_POSITIONS"


class TooFewSlices(VolumeError):
    """Fewer slices than a distance between slices can be checked with."""

    code = "TOO_FEW_SLICES"


class WarningCode(StrEnum):
    """What is odd about a volume that could be made nevertheless."""

    #: Slices are missing next to this volume: the series was cut there. Positions are those of the missing slices.
    MISSING_SLICES = "missing_slices"
    #: The distance between slices changes within the series: this is one of its regular parts.
    VARIABLE_SPACING = "variable_spacing"
    #: The series holds images of other orientations; they are volumes of their own or left out.
    MIXED_ORIENTATIONS = "mixed_orientations"
    #: The series holds images of another size, pixel spacing, kernel or frame of reference.
    MIXED_IMAGES = "mixed_images"
    #: One of several stacks of the series over the same part of the body.
    SEVERAL_ACQUISITIONS = "several_acquisitions"
    #: Slices are shifted against each other, as by a tilted gantry: the affine is sheared. See `straighten`.
    GANTRY_TILT = "gantry_tilt"
    #: GantryDetectorTilt (0018,1120) says tilted, positions and orientation say upright. Geometry is believed.
    TILT_CONTRADICTED = "tilt_contradicted"
    #: Slices are thinner than their distance: what lies between them was not imaged.
    NOT_CONTIGUOUS = "not_contiguous"
    #: Images were left out of the series: localizers, duplicates, damaged files. `SeriesVolumes.left_out` says which.
    IMAGES_LEFT_OUT = "images_left_out"
    #: The same SOPInstanceUID (0008,0018) in several different images, or none that can be used.
    BROKEN_UIDS = "broken_uids"
    #: PixelPaddingValue (0028,0120) is a value that tissue has; it was not taken for padding.
    PADDING_IGNORED = "padding_ignored"
    #: RescaleType (0028,1054) is US, unspecified; CT values were taken for Hounsfield units.
    UNIT_UNSPECIFIED = "unit_unspecified"


@dataclass(frozen=True, kw_only=True)
class VolumeWarning:
    """One oddity, as a sentence for a person."""

    code: WarningCode
    message: str
    #: Where, mm along the normal of the slices (for axial slices z); empty where it is everywhere.
    positions_mm: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """A regular stack of slices. Frozen: `hu` and `affine` are made read-only.

    Raises ValueError for arrays of another shape or type, or an affine that is singular.
    """

    #: Hounsfield units, int16 or float32 (slices, rows, columns).
    hu: Hounsfield
    #: 4 x 4: (index of axis 0, 1, 2, 1) to (x, y, z, 1) in mm, LPS+. Sheared where the gantry was tilted.
    affine: Floats
    series_instance_uid: str
    #: FrameOfReferenceUID (0020,0052); "" if unknown. Coordinates of two volumes compare only if it is the same.
    frame_of_reference_uid: str
    #: SOPInstanceUID (0008,0018) of each slice along `slice_axis`; the same for all frames of an enhanced image.
    sop_instance_uids: tuple[str, ...]
    #: Frame of each slice in its instance, from 1.
    frame_numbers: tuple[int, ...]
    #: Array axis along which the scanner's slices lie: 0 unless `to_lps` moved it.
    slice_axis: int = 0
    #: SliceThickness (0018,0050), mm, the median; None if unknown. The distance of slices is `spacing_mm`, not this.
    slice_thickness_mm: float | None = None
    warnings: tuple[VolumeWarning, ...] = ()

    def __post_init__(self) -> None:
        if self.hu.ndim != 3 or self.hu.dtype not in (np.int16, np.float32):
            raise ValueError(f"expected int16 or float32 (slices, rows, columns), got {self.hu.dtype} {self.hu.shape}")
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise ValueError("expected a finite 4 x 4 affine")
        if abs(float(np.linalg.det(self.affine[:3, :3]))) < 1e-9:
            raise ValueError("the affine is singular")
        slices = self.hu.shape[self.slice_axis]
        if len(self.sop_instance_uids) != slices or len(self.frame_numbers) != slices:
            raise ValueError(f"{slices} slices need as many SOPInstanceUIDs and frame numbers")
        for array in (self.hu, self.affine):
            array.flags.writeable = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along axes 0, 1, 2."""
        first, second, third = self.hu.shape
        return first, second, third

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along axes 0, 1, 2, mm; across a sheared axis, the slanted one."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(first), float(second), float(third)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, mL; right for sheared volumes too."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def tilt_degrees(self) -> float:
        """Angle between the line through the slices and their normal, 0 for an upright gantry."""
        step = self.affine[:3, self.slice_axis]
        one, two = (self.affine[:3, axis] for axis in range(3) if axis != self.slice_axis)
        normal = np.cross(one, two)
        cosine = abs(float(step @ normal)) / float(np.linalg.norm(step) * np.linalg.norm(normal))
        return float(np.degrees(np.arccos(min(cosine, 1.0))))

    def has(self, code: WarningCode) -> bool:
        """Whether this was warned of."""
        return any(warning.code is code for warning in self.warnings)

    def to_mm(self, indices: Sequence[float] | Floats) -> Floats:
        """(..., 3) indices along axes 0, 1, 2 (0.0 is the first voxel's centre) to (..., 3) LPS+ mm."""
        points: Floats = np.asarray(indices, np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return points

    def to_index(self, points_mm: Sequence[float] | Floats) -> Floats:
        """(..., 3) LPS+ mm to (..., 3) indices, not rounded and not checked to lie inside."""
        moved = np.asarray(points_mm, np.float64) - self.affine[:3, 3]
        indices: Floats = moved @ np.linalg.inv(self.affine[:3, :3]).T
        return indices


def affine_of(
    position: Sequence[float], orientation: Sequence[float], pixel_spacing: Sequence[float], step: Sequence[float]
) -> Floats:
    """The affine of a stack (PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1, with the axes as (slices, rows, columns)).

    `position` is ImagePositionPatient of the first slice, `orientation` ImageOrientationPatient (direction of a row,
    then of a column), `pixel_spacing` PixelSpacing (between rows, between columns), `step` the vector from one slice to
    the next; all in mm.
    """
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = np.asarray(orientation[3:6]) * pixel_spacing[0]
    affine[:3, 2] = np.asarray(orientation[0:3]) * pixel_spacing[1]
    affine[:3, 3] = position
    return affine


def to_lps(volume: Volume) -> Volume:
    """The same voxels with axis 0 to the head, axis 1 to the back and axis 2 to the left, as nearly as they lie.

    Only transposes and flips: no voxel changes, nothing is copied, and each keeps its place in mm. For axial slices
    the axes stay (slices, rows, columns). An oblique volume stays oblique.
    """
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    order = max(
        permutations(range(3)),
        key=lambda axes: sum(abs(directions[_LPS_AXES[new], old]) for new, old in enumerate(axes)),
    )
    affine = volume.affine.copy()
    affine[:, :3] = volume.affine[:, list(order)]
    hu = volume.hu.transpose(order)
    uids, frames = volume.sop_instance_uids, volume.frame_numbers
    slice_axis = order.index(volume.slice_axis)
    for axis in range(3):
        if affine[_LPS_AXES[axis], axis] >= 0:
            continue
        affine[:, 3] += affine[:, axis] * (hu.shape[axis] - 1)
        affine[:, axis] *= -1
        hu = np.flip(hu, axis)
        if axis == slice_axis:
            uids, frames = uids[::-1], frames[::-1]
    return replace(volume, hu=hu, affine=affine, sop_instance_uids=uids, frame_numbers=frames, slice_axis=slice_axis)


def straighten(volume: Volume) -> Volume:
    """A sheared volume (tilted gantry) with its slices pushed in their plane until they stand above each other.

    Linear interpolation within each slice, none between slices; the middle slice stays where it is, and what comes in
    at a border is air. The step is then along the normal and volumes stay the same. Returns `volume` itself if it is
    upright. Raises ValueError if the slices do not lie along axis 0 (call it before `to_lps`).
    """
    if volume.slice_axis != 0:
        raise ValueError("slices must lie along axis 0")
    row_step, column_step = volume.affine[:3, 1], volume.affine[:3, 2]
    normal = np.cross(row_step, column_step)
    normal /= np.linalg.norm(normal)
    step = volume.affine[:3, 0]
    upright = normal * float(step @ normal)
    slide = step - upright
    per_slice = (
        float(slide @ row_step / (row_step @ row_step)),
        float(slide @ column_step / (column_step @ column_step)),
    )
    if max(map(abs, per_slice)) * (len(volume.hu) - 1) < 1e-3:
        return volume
    middle = (len(volume.hu) - 1) / 2
    out = np.empty_like(volume.hu)
    for index, plane in enumerate(volume.hu):
        moved = plane.astype(np.float32)
        for axis, shift in enumerate(per_slice):
            moved = _shifted(moved, shift * (index - middle), axis)
        out[index] = np.rint(moved) if out.dtype == np.int16 else moved
    affine = volume.affine.copy()
    affine[:3, 0] = upright
    affine[:3, 3] += slide * middle
    return replace(volume, hu=out, affine=affine)


def _shifted(plane: NDArray[np.float32], shift: float, axis: int) -> NDArray[np.float32]:
    """`plane` moved by `shift` pixels along `axis`, linear, air where nothing was."""
    count = plane.shape[axis]
    source = np.arange(count) - shift
    low = np.floor(source).astype(np.intp)
    share = np.expand_dims((source - low).astype(np.float32), 1 - axis)
    moved = np.zeros_like(plane)
    for at, weight in ((low, 1 - share), (low + 1, share)):
        inside = np.expand_dims((at >= 0) & (at < count), 1 - axis)
        values = np.take(plane, np.clip(at, 0, count - 1), axis)
        moved += weight * np.where(inside, values, np.float32(AIR_HU))
    return moved
