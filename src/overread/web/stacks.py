"""A study as one looks through it: its series as stacks of slices, in the order in which the body lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from overread.domain.modality import modality_of
from overread.domain.study import InstanceRecord, StoredInstance

#: A file may declare any NumberOfFrames (0028,0008): more than these are not offered.
MAX_FRAMES: Final = 4000
#: Slices closer than this lie at the same place, mm: several phases of one region.
_SAME_PLACE_MM: Final = 0.01
#: Slices belong to one stack while their normals agree to 2.5 degrees.
_SAME_DIRECTION: Final = 0.999
#: A direction is named by an axis of the patient if it runs along it by at least this much.
_ALONG: Final = 0.35

Vector = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image that a person looks at: a slice, a radiograph, a frame."""

    #: From 1 over the whole study, as `?image=` counts.
    number: int
    record: InstanceRecord
    #: From 1.
    frame: int
    #: From 1 in the series; for slices as the sorted volume counts (`Finding.slice_number`).
    slice_number: int
    #: Along the slices' normal, mm; for axial slices z. None where it is not known.
    place_mm: float | None


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The pictures of one series."""

    series_uid: str
    series_number: int | None
    description: str
    #: DICOM Modality (0008,0060), "" when missing.
    modality: str
    #: "Slice", "Frame" or "Image".
    word: str
    #: "z" for axial slices, else x, y or "" for oblique ones and where the place is not known.
    axis: str
    #: From the top of the body to its feet, where that is known; else by instance number and frame.
    pictures: tuple[Picture, ...]

    @property
    def is_filed_only(self) -> bool:
        """Localizers, dose pages, captures: nothing that was looked at by an analyser."""
        return all(p.record.filed_only_reason for p in self.pictures)


def stacks_of(images: Sequence[StoredInstance]) -> tuple[Stack, ...]:
    """The series of `images` (those that can be shown), in the order in which they first come."""
    series: dict[str, list[InstanceRecord]] = {}
    for image in images:
        series.setdefault(image.record.series_instance_uid, []).append(image.record)
    stacks: list[Stack] = []
    count = 0
    for records in series.values():
        stack = _stack(records, count)
        stacks.append(stack)
        count += len(stack.pictures)
    return tuple(stacks)


def _stack(records: Sequence[InstanceRecord], before: int) -> Stack:
    sorted_records, others = _sorted(records)
    direction = _normal(sorted_records[0]) if sorted_records else None
    axis = _axis(direction) if direction else ""
    # Volumes are sorted along the normal; people begin at the head.
    upside_down = axis == "z" and direction is not None and direction[2] > 0
    entries: list[tuple[InstanceRecord, int, int, float | None]] = [
        (r, 1, i, _place(r)) for i, r in enumerate(sorted_records, start=1)
    ]
    if upside_down:
        entries.reverse()
    slice_number = len(entries)
    for record in others:
        for frame in range(1, min(record.number_of_frames, MAX_FRAMES) + 1):
            slice_number += 1
            entries.append((record, frame, slice_number, None))
    first = records[0]
    return Stack(
        series_uid=first.series_instance_uid,
        series_number=first.series_number,
        description=next((r.series_description for r in records if r.series_description), ""),
        modality=first.modality or "",
        word=_word(len(sorted_records), records),
        axis=axis,
        pictures=tuple(
            Picture(number=before + i, record=r, frame=frame, slice_number=n, place_mm=place)
            for i, (r, frame, n, place) in enumerate(entries, start=1)
        ),
    )


def _word(sorted_count: int, records: Sequence[InstanceRecord]) -> str:
    if sorted_count > 1:
        return "Slice"
    if any(r.number_of_frames > 1 for r in records):
        return "Slice" if modality_of(records[0].modality) in ("CT", "MRI") else "Frame"
    return "Image"


def _sorted(records: Sequence[InstanceRecord]) -> tuple[list[InstanceRecord], list[InstanceRecord]]:
    """The slices that lie one behind the other, along their normal, and the rest as it came.

    All are the rest where that makes no order: places are missing, or several phases share them.
    """
    placed = [r for r in records if r.number_of_frames == 1 and r.position_mm and r.orientation]
    groups: list[list[InstanceRecord]] = []
    for record in placed:
        for group in groups:
            if _dot(_normal(group[0]), _normal(record)) >= _SAME_DIRECTION:
                group.append(record)
                break
        else:
            groups.append([record])
    stack = max(groups, key=len, default=[])
    by_place = sorted(stack, key=lambda r: (_place_along(r, _normal(stack[0])), r.sop_instance_uid))
    places = [_place_along(r, _normal(stack[0])) for r in by_place]
    if len(stack) < 2 or any(b - a < _SAME_PLACE_MM for a, b in pairwise(places)):
        return [], list(records)
    chosen = {r.sop_instance_uid for r in stack}
    return by_place, [r for r in records if r.sop_instance_uid not in chosen]


def _normal(record: InstanceRecord) -> Vector:
    """Of a slice with an orientation: the cross product of its row and its column."""
    a, b, c, d, e, f = record.orientation or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return b * f - c * e, c * d - a * f, a * e - b * d


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _place_along(record: InstanceRecord, normal: Vector) -> float:
    return _dot(record.position_mm or (0.0, 0.0, 0.0), normal)


def _place(record: InstanceRecord) -> float:
    """For a person: in mm to the left, to the back or to the head, whatever way the normal points."""
    normal = _normal(record)
    along = _place_along(record, normal)
    return -along if max(normal, key=abs) < 0 else along


def _axis(direction: Vector) -> str:
    axis = max(range(3), key=lambda i: abs(direction[i]))
    return "xyz"[axis] if abs(direction[axis]) > 0.95 else ""


@dataclass(frozen=True, kw_only=True)
class Sides:
    """What lies at each edge of a picture: R, L, A, P, H, F, or two letters where it is oblique."""

    left: str
    right: str
    top: str
    bottom: str


def sides_of(record: InstanceRecord) -> Sides | None:
    """From ImageOrientationPatient; None where it is missing."""
    if not record.orientation:
        return None
    row, column = record.orientation[:3], record.orientation[3:]
    return Sides(
        left=_letters([-v for v in row]),
        right=_letters(row),
        top=_letters([-v for v in column]),
        bottom=_letters(column),
    )


def _letters(direction: Sequence[float]) -> str:
    strongest = sorted(range(3), key=lambda i: -abs(direction[i]))
    return "".join(("LPH" if direction[i] > 0 else "RAF")[i] for i in strongest if abs(direction[i]) >= _ALONG)
