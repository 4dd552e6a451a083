"""What is odd about the slices of a CT series, and what forbids a volume of them. Pure, on headers."""

from __future__ import annotations

from math import isclose
from statistics import median

import numpy as np

from overread.dicom.series_spacing import Floats, missing_positions, tolerance_mm
from overread.dicom.slice_header import SliceHeader
from overread.domain.volume import MissingRescale, NotHounsfield, VolumeWarning, WarningCode

#: Directions that differ by less are the same: text is rounded.
_SAME_DIRECTION = 1e-3
#: Beyond this a stack counts as tilted.
_TILT_DEGREES = 0.5
_NO_TILT_DEGREES = 0.1
_HOUNSFIELD_TYPES = frozenset({"", "HU", "US"})


def parallel(one: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices have the same orientation."""
    pairs = zip(one.orientation or (), other.orientation or (), strict=True)
    return all(abs(a - b) <= _SAME_DIRECTION for a, b in pairs)


def alike(one: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices have the same size, pixel spacing, kernel, series and frame of reference."""
    return (
        (one.series_instance_uid, one.frame_of_reference_uid, one.rows, one.columns, one.kernel)
        == (other.series_instance_uid, other.frame_of_reference_uid, other.rows, other.columns, other.kernel)
    ) and all(
        isclose(a, b, rel_tol=1e-3) for a, b in zip(one.pixel_spacing or (), other.pixel_spacing or (), strict=True)
    )


def about_series(group: list[SliceHeader], groups: list[list[SliceHeader]]) -> list[VolumeWarning]:
    """What the volumes of `group` have to be told of the other groups of their series."""
    others = [g for g in groups if g is not group and g[0].series_instance_uid == group[0].series_instance_uid]
    warnings = []
    turned = sum(len(g) for g in others if not parallel(g[0], group[0]))
    if turned:
        text = f"{turned} image(s) of the series have another orientation."
        warnings.append(VolumeWarning(code=WarningCode.MIXED_ORIENTATIONS, message=text))
    unlike = sum(len(g) for g in others if not alike(g[0], group[0]))
    if unlike:
        text = f"{unlike} image(s) of the series have another size, pixel spacing, kernel or frame of reference."
        warnings.append(VolumeWarning(code=WarningCode.MIXED_IMAGES, message=text))
    uids = {s.sop_instance_uid + f":{s.frame}" for s in group}
    replaced = sum(bool(s.uid_warnings) for s in group)
    if len(uids) < len(group) or replaced:
        text = f"{len(group) - len(uids)} SOPInstanceUID(s) are used twice, {replaced} image(s) have unusable UIDs."
        warnings.append(VolumeWarning(code=WarningCode.BROKEN_UIDS, message=text))
    return warnings


def check_units(slices: tuple[SliceHeader, ...]) -> list[VolumeWarning]:
    """What is odd about the units. Raises `MissingRescale` and `NotHounsfield`."""
    lacking = [s for s in slices if s.slope is None or s.intercept is None]
    if lacking:
        raise MissingRescale(
            f"{len(lacking)} of {len(slices)} CT images have no usable RescaleSlope (0028,1053) and RescaleIntercept "
            f"(0028,1052), so their values are no Hounsfield units. The first is {lacking[0].name}.",
            remedy="Send the original images of the scanner.",
            files=tuple(s.name for s in lacking),
        )
    foreign = sorted({s.rescale_type for s in slices} - _HOUNSFIELD_TYPES)
    if foreign:
        raise NotHounsfield(
            f"RescaleType (0028,1054) is {', '.join(foreign)}: these are no Hounsfield units.",
            remedy="Send the CT images that this was computed from.",
            files=tuple(s.name for s in slices if s.rescale_type in foreign),
        )
    if any(s.rescale_type == "US" for s in slices):
        text = "RescaleType (0028,1054) is US, unspecified; the values were taken for Hounsfield units."
        return [VolumeWarning(code=WarningCode.UNIT_UNSPECIFIED, message=text)]
    return []


def about_gaps(positions: Floats, spacing: float, parts: int) -> list[VolumeWarning]:
    """Missing slices and changed distances of a stack that was cut into `parts`; `spacing` is the usual one, mm."""
    missing = missing_positions(positions, spacing)
    warnings = []
    if missing:
        text = f"{len(missing)} slice(s) are missing in the series, which was cut there into {parts} part(s)."
        warnings.append(VolumeWarning(code=WarningCode.MISSING_SLICES, message=text, positions_mm=missing))
    distances = np.diff(positions)
    steps = np.maximum(np.rint(distances / spacing), 1)
    odd = np.abs(distances - steps * spacing) > tolerance_mm(spacing)
    if odd.any() or not missing:
        found = sorted({round(float(d), 2) for d in distances})
        text = (
            f"The distance between slices is not the same throughout ({found[0]:g} to {found[-1]:g} mm); "
            f"the series was cut into {parts} regular part(s)."
        )
        places = tuple(round(float(p), 3) for p in positions[:-1][odd])[:100]
        warnings.append(VolumeWarning(code=WarningCode.VARIABLE_SPACING, message=text, positions_mm=places))
    return warnings


def about_tilt(slices: tuple[SliceHeader, ...], step: Floats, normal: Floats) -> list[VolumeWarning]:
    """Slices shifted against each other, or said to be; `step` leads from one to the next, mm."""
    cosine = min(float(step @ normal) / float(np.linalg.norm(step)), 1.0)
    degrees = float(np.degrees(np.arccos(cosine)))
    if degrees > _NO_TILT_DEGREES:
        text = f"The slices are shifted against each other by {degrees:.1f} degrees, as by a tilted gantry."
        return [VolumeWarning(code=WarningCode.GANTRY_TILT, message=text)]
    declared = max((abs(s.gantry_tilt_degrees or 0.0) for s in slices), default=0.0)
    if declared > _TILT_DEGREES and abs(abs(float(normal[2])) - 1) < 1e-6:
        text = f"GantryDetectorTilt (0018,1120) is {declared:g} degrees, but the slices lie straight above each other."
        return [VolumeWarning(code=WarningCode.TILT_CONTRADICTED, message=text)]
    return []


def about_thickness(slices: tuple[SliceHeader, ...], step: Floats, normal: Floats) -> list[VolumeWarning]:
    """Slices with something unseen between them."""
    known = [s.slice_thickness_mm for s in slices if s.slice_thickness_mm is not None]
    distance = float(step @ normal)
    if not known or distance <= 1.25 * median(known) + 0.05:
        return []
    text = f"Slices of {median(known):g} mm lie {distance:g} mm apart: what lies between them was not imaged."
    return [VolumeWarning(code=WarningCode.NOT_CONTIGUOUS, message=text)]
