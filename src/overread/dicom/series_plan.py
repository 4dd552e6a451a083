"""From the headers of a CT series to the volumes that it holds. Pure: no file, no pixel, so that it is tested without.

What is done with each oddity, and why, stands in docs/explanation/volumes.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from overread.dicom.series_checks import (
    about_gaps,
    about_series,
    about_thickness,
    about_tilt,
    alike,
    check_units,
    parallel,
)
from overread.dicom.series_repeats import Sorted, along_normal, normal_of, separate
from overread.dicom.series_spacing import (
    MAX_PARTS,
    MIN_SLICES,
    missing_positions,
    regular_parts,
)
from overread.dicom.series_values import MAX_VOLUME_BYTES, LeftOut, SeriesPlan, Stack, too_large
from overread.dicom.slice_header import SliceHeader
from overread.domain.errors import OverreadError
from overread.domain.volume import (
    InconsistentPositions,
    IrregularSpacing,
    MissingPosition,
    TooFewSlices,
    VolumeWarning,
    WarningCode,
    affine_of,
)


def plan(headers: Sequence[SliceHeader], *, max_bytes: int = MAX_VOLUME_BYTES) -> SeriesPlan:
    """The volumes of slices in any order. Raises nothing: what cannot be used is in `left_out` or `problems`.

    Problems are instances of `VolumeError` and `TooLarge` (a volume of more than `max_bytes` of int16).
    """
    left_out: list[LeftOut] = []
    problems: list[OverreadError] = []
    usable = _usable(headers, left_out)
    groups = _groups(usable)
    stacks: list[Stack] = []
    for group in groups:
        if len(group) < MIN_SLICES:
            left_out += [_alone(header) for header in group]
            continue
        shared = about_series(group, groups)
        try:
            separated = separate(group)
        except OverreadError as error:
            problems.append(error)
            continue
        for found in separated:
            try:
                stacks += _stacks(found, shared, left_out, problems, max_bytes)
            except OverreadError as error:
                problems.append(error)
    if not stacks and not problems and (none := _why_none(usable, left_out)):
        problems.append(none)
    if left_out:
        odd = VolumeWarning(code=WarningCode.IMAGES_LEFT_OUT, message=_sum_up(left_out))
        stacks = [Stack(slices=s.slices, affine=s.affine, warnings=(*s.warnings, odd)) for s in stacks]
    stacks.sort(key=lambda s: (-len(s.slices), s.slices[0].sop_instance_uid, s.slices[0].frame))
    return SeriesPlan(stacks=tuple(stacks), left_out=tuple(left_out), problems=tuple(problems))


def _left(header: SliceHeader, code: str, reason: str) -> LeftOut:
    return LeftOut(
        name=header.name,
        frame_number=header.frame + 1,
        sop_instance_uid=header.sop_instance_uid,
        code=code,
        reason=reason,
    )


def _usable(headers: Sequence[SliceHeader], left_out: list[LeftOut]) -> list[SliceHeader]:
    """Slices with a place, each once."""
    usable = []
    seen: dict[object, SliceHeader] = {}
    for header in headers:
        if header.localizer:
            left_out.append(_left(header, "LOCALIZER", "a localizer is no slice"))
        elif header.excluded:
            left_out.append(_left(header, "NOT_CT", header.excluded))
        elif header.position is None or header.orientation is None or header.pixel_spacing is None:
            lacking = [
                keyword
                for keyword, value in (
                    ("ImagePositionPatient (0020,0032)", header.position),
                    ("ImageOrientationPatient (0020,0037)", header.orientation),
                    ("PixelSpacing (0028,0030)", header.pixel_spacing),
                )
                if value is None
            ]
            left_out.append(_left(header, MissingPosition.code, f"no usable {' and '.join(lacking)}"))
        else:
            same = (header.series_instance_uid, header.pixel_hash, header.position, header.orientation)
            first = seen.get(same)
            if first is None:
                seen[same] = header
                usable.append(header)
            else:
                left_out.append(_left(header, "DUPLICATE", f"the same pixels at the same place as {first.name}"))
    return usable


def _groups(slices: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Slices that could lie in one volume, the largest group first."""
    groups: list[list[SliceHeader]] = []
    for header in slices:
        group = next((group for group in groups if _fits(group[0], header)), None)
        if group is None:
            groups.append([header])
        else:
            group.append(header)
    return sorted(groups, key=len, reverse=True)


def _fits(one: SliceHeader, other: SliceHeader) -> bool:
    return parallel(one, other) and alike(one, other)


def _stacks(
    found: Sorted,
    shared: list[VolumeWarning],
    left_out: list[LeftOut],
    problems: list[OverreadError],
    max_bytes: int,
) -> list[Stack]:
    """The regular parts of one sorted stack, in Hounsfield units and on a straight line."""
    slices = found.slices
    if len(slices) < MIN_SLICES:
        left_out += [_alone(header) for header in slices]
        return []
    warnings = list(shared)
    if found.told_apart_by:
        text = f"The series holds several stacks over the same place; this one was told apart by {found.told_apart_by}."
        warnings.append(VolumeWarning(code=WarningCode.SEVERAL_ACQUISITIONS, message=text))
    warnings += check_units(slices)
    positions = along_normal(slices)
    parts = regular_parts(positions)
    spacing = float(median(np.diff(positions)))
    if not parts or len(parts) > MAX_PARTS:
        distances = sorted({round(float(d), 2) for d in np.diff(positions)})
        raise IrregularSpacing(
            f"{len(slices)} slices have no regular distance: {', '.join(f'{d:g}' for d in distances[:8])} mm"
            f"{' and others' if len(distances) > 8 else ''}.",
            remedy="Send the series again, complete.",
            distances_mm=tuple(distances),
            missing_positions_mm=missing_positions(positions, spacing),
            files=tuple(s.name for s in slices),
        )
    if [part.count for part in parts] != [len(slices)]:
        warnings += about_gaps(positions, spacing, len(parts))
    inside = {index for part in parts for index in range(part.first, part.last)}
    left_out += [
        _left(header, IrregularSpacing.code, "it lies at no regular distance from other slices")
        for index, header in enumerate(slices)
        if index not in inside
    ]
    stacks = []
    for part in parts:
        try:
            stacks.append(_stack(slices[part.first : part.last], tuple(warnings), max_bytes))
        except OverreadError as error:
            # The other parts may be good.
            problems.append(error)
    return stacks


def _stack(slices: tuple[SliceHeader, ...], warnings: tuple[VolumeWarning, ...], max_bytes: int) -> Stack:
    first = slices[0]
    places = np.array([s.position for s in slices], np.float64)
    step = (places[-1] - places[0]) / (len(slices) - 1)
    orientation, pixel_spacing = first.orientation or (), first.pixel_spacing or ()
    normal = normal_of(orientation)
    off = places - places[0] - np.outer(np.arange(len(slices)), step)
    aside = float(np.linalg.norm(off - np.outer(off @ normal, normal), axis=1).max())
    if aside > max(0.25 * min(pixel_spacing), 0.1):
        raise InconsistentPositions(
            f"The slices lie on no straight line: ImagePositionPatient (0020,0032) is up to {aside:.1f} mm aside.",
            remedy="Send the original series of the scanner.",
            files=tuple(s.name for s in slices),
            aside_mm=aside,
        )
    stack = Stack(
        slices=slices,
        affine=affine_of(first.position or (), orientation, pixel_spacing, step),
        warnings=(*warnings, *about_tilt(slices, step, normal), *about_thickness(slices, step, normal)),
    )
    if stack.nbytes > max_bytes:
        raise too_large(stack, max_bytes)
    return stack


def _alone(header: SliceHeader) -> LeftOut:
    return _left(header, TooFewSlices.code, f"fewer than {MIN_SLICES} slices of its kind")


def _why_none(usable: Sequence[SliceHeader], left_out: Sequence[LeftOut]) -> OverreadError | None:
    """Why there is no volume; None for a series without any CT slice, where nothing is wrong."""
    unplaced = [item for item in left_out if item.code == MissingPosition.code]
    if not usable and unplaced:
        return MissingPosition(
            f"No image of the series says where it lies: {unplaced[0].name} has {unplaced[0].reason}.",
            remedy="Send the original images of the scanner.",
            files=tuple(item.name for item in unplaced),
        )
    if usable:
        return TooFewSlices(
            f"{len(usable)} usable slice(s); a volume needs at least {MIN_SLICES} of one kind.",
            remedy="Send the whole series.",
            files=tuple(s.name for s in usable),
        )
    return None


def _sum_up(left_out: Sequence[LeftOut]) -> str:
    codes = sorted({item.code for item in left_out})
    counted = ", ".join(f"{sum(item.code == code for item in left_out)} {code}" for code in codes)
    return f"{len(left_out)} image(s) of the series are in no volume: {counted}."
