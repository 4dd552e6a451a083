"""Slices of one kind that lie at the same positions: which belong together. Pure, on headers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from overread.dicom.series_spacing import MIN_SLICES, SAME_PLACE_MM, Floats, repeats
from overread.dicom.slice_header import SliceHeader
from overread.domain.volume import DuplicatePositions

_ACQUISITION = "AcquisitionNumber (0020,0012)"
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Sorted:
    """Slices in order, and what told them from others at the same positions ("" if nothing had to)."""

    slices: tuple[SliceHeader, ...]
    told_apart_by: str = ""


def normal_of(orientation: Sequence[float]) -> Floats:
    """Unit normal of a slice, to the head for ordinary axial ones."""
    normal: Floats = np.cross(np.asarray(orientation[:3]), np.asarray(orientation[3:6]))
    return normal


def along_normal(slices: Sequence[SliceHeader]) -> Floats:
    """Position of each slice along the normal of the first, mm. All need position and orientation."""
    return np.array([s.position for s in slices], np.float64) @ normal_of(slices[0].orientation or ())


def sort(slices: Sequence[SliceHeader]) -> tuple[SliceHeader, ...]:
    """By position along the normal, and where it is the same by file and frame, so that order in is no order out."""
    positions = along_normal(slices)
    order = sorted(range(len(slices)), key=lambda i: (positions[i], slices[i].sop_instance_uid, slices[i].frame))
    return tuple(slices[i] for i in order)


def separate(slices: Sequence[SliceHeader]) -> list[Sorted]:
    """Slices of one orientation, size and kernel, as stacks that have one slice at each position.

    Acquisitions whose ranges overlap are stacks of their own, also where no position repeats; those that follow each
    other (step and shoot) are one. Where positions repeat, the attributes of `SliceHeader.distinctions` are tried, then
    the place in the plane, then whole repetitions in the order of InstanceNumber.

    Raises `DuplicatePositions` if nothing tells the slices apart.
    """
    ordered = sort(slices)
    by_acquisition = _partition(ordered, lambda s: None if s.acquisition is None else str(s.acquisition))
    if len(by_acquisition) > 1 and _enough(by_acquisition, len(ordered)) and _overlap(by_acquisition.values()):
        return [
            Sorted(slices=found.slices, told_apart_by=found.told_apart_by or f"{_ACQUISITION} = {value or 'none'}")
            for value, part in by_acquisition.items()
            for found in _without_repeats(part)
        ]
    return _without_repeats(ordered)


def _without_repeats(ordered: tuple[SliceHeader, ...], tried: frozenset[str] = frozenset()) -> list[Sorted]:
    again = repeats(along_normal(ordered))
    if not again:
        return [Sorted(slices=ordered)]
    for label in dict.fromkeys(label for s in ordered for label, _ in s.distinctions):
        if label in tried:
            continue
        parts = _partition(ordered, _value_of(label))
        if _enough(parts, len(ordered)) and sum(map(_surplus, parts.values())) < _surplus(ordered):
            return [
                Sorted(slices=found.slices, told_apart_by=found.told_apart_by or f"{label} = {value or 'none'}")
                for value, part in parts.items()
                for found in _without_repeats(part, tried | {label})
            ]
    parts = _partition(ordered, lambda s: str(_in_plane(s)))
    if _enough(parts, len(ordered)) and not any(map(_surplus, parts.values())):
        label = "the place in the plane of ImagePositionPatient (0020,0032)"
        return [Sorted(slices=part, told_apart_by=label) for part in parts.values()]
    rounds = _rounds(ordered)
    if rounds:
        label = "whole repetitions in the order of InstanceNumber (0020,0013), number"
        return [Sorted(slices=part, told_apart_by=f"{label} {n}") for n, part in enumerate(rounds, start=1)]
    raise DuplicatePositions(
        f"Different images lie at the same position ({_listed(again)} mm along the normal), and no attribute "
        "tells which belong together.",
        remedy="Send each acquisition or reconstruction as a series of its own.",
        positions_mm=again,
        files=tuple(s.name for s in ordered),
    )


def _partition(
    ordered: Sequence[SliceHeader], key: Callable[[SliceHeader], str | None]
) -> dict[str | None, tuple[SliceHeader, ...]]:
    parts: dict[str | None, list[SliceHeader]] = {}
    for header in ordered:
        parts.setdefault(key(header), []).append(header)
    return {value: tuple(part) for value, part in parts.items()}


def _enough(parts: dict[str | None, tuple[SliceHeader, ...]], count: int) -> bool:
    """Whether it divides into stacks, and not into single slices as a time or a slice's own number would."""
    return count >= MIN_SLICES * len(parts)


def _surplus(ordered: tuple[SliceHeader, ...]) -> int:
    """Slices beyond one at each position."""
    return int(np.count_nonzero(np.diff(along_normal(ordered)) < SAME_PLACE_MM))


def _overlap(parts: Iterable[tuple[SliceHeader, ...]]) -> bool:
    """Whether the ranges of two parts share more than a point."""
    parts = tuple(parts)
    normal = normal_of(parts[0][0].orientation or ())
    places = [np.array([s.position for s in part], np.float64) @ normal for part in parts]
    ranges = sorted((float(place.min()), float(place.max())) for place in places)
    return any(second[0] < first[1] - SAME_PLACE_MM for first, second in pairwise(ranges))


def _value_of(label: str) -> Callable[[SliceHeader], str | None]:
    return lambda header: dict(header.distinctions).get(label)


def _in_plane(header: SliceHeader) -> tuple[float, float]:
    """Place of the first pixel in the plane of the slice, to 0.1 mm."""
    position, orientation = np.asarray(header.position), np.asarray(header.orientation)
    return round(float(position @ orientation[:3]), 1), round(float(position @ orientation[3:]), 1)


def _rounds(ordered: tuple[SliceHeader, ...]) -> list[tuple[SliceHeader, ...]]:
    """Whole repetitions of the same positions, one after the other by InstanceNumber; empty if it is not so."""
    if any(s.instance_number is None for s in ordered):
        return []
    positions = along_normal(ordered)
    numbered = sorted(range(len(ordered)), key=lambda i: (ordered[i].instance_number or 0, ordered[i].frame))
    count = int(np.count_nonzero(positions - positions[0] < SAME_PLACE_MM))
    length, rest = divmod(len(ordered), count)
    if count < 2 or rest or length < MIN_SLICES:
        return []
    rounds = [sorted(numbered[n * length : (n + 1) * length]) for n in range(count)]
    places = np.array([positions[part] for part in rounds])
    if (np.ptp(places, axis=0) >= SAME_PLACE_MM).any() or (np.diff(places, axis=1) < SAME_PLACE_MM).any():
        return []
    return [tuple(ordered[i] for i in part) for part in rounds]


def _listed(positions: tuple[float, ...]) -> str:
    shown = ", ".join(f"{p:g}" for p in positions[:_SHOWN])
    return shown if len(positions) <= _SHOWN else f"{shown} and {len(positions) - _SHOWN} more"
