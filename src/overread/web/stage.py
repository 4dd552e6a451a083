"""The picture in front: how its series opens, in which window, and what is said of where one is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from overread.http.lookups import image_address
from overread.render.outlines import SliceOutline
from overread.services.values import OutlinedSegment
from overread.web.marks import Anatomy, Mark, anatomy_on, marks_on
from overread.web.shown import ShownFinding
from overread.web.stacks import Picture, Sides, Stack, sides_of

#: Windows of `api.images` in the order in which they are offered: (name, what it is called, key). "" is the file's own.
WINDOWS: Final = (
    ("lung", "Lung", "l"),
    ("mediastinum", "Mediastinum", "m"),
    ("bone", "Bone", "o"),
    ("", "Stored", "i"),
)
#: What a SeriesDescription (0008,103E) says of the tissue that the series was made for.
_MADE_FOR: Final = (
    ("lung", re.compile(r"\b(lung|lunge|pulm|parenchym)", re.IGNORECASE)),
    ("bone", re.compile(r"\b(bone|knochen|osteo)", re.IGNORECASE)),
    ("mediastinum", re.compile(r"\b(medias|soft|weichteil|std|standard)", re.IGNORECASE)),
)
#: Findings that one does not see in a lung window.
_SOFT: Final = frozenset(
    {
        "pleural_effusion",
        "pulmonary_embolism",
        "aortic_dissection",
        "aortic_calcification",
        "coronary_calcification",
        "lymphadenopathy",
        "cardiomegaly",
    }
)
#: Pictures that are drawn with a bar in cm.
_SCALE_FROM: Final = 256


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The picture in front."""

    picture: Picture
    stack: Stack
    #: Pictures in the study.
    count: int
    rows: int
    columns: int
    marks: tuple[Mark, ...]
    anatomy: tuple[Anatomy, ...]
    sides: Sides | None


def make_stage(
    stack: Stack, picture: Picture, count: int, found: Sequence[ShownFinding], outlines: Sequence[SliceOutline]
) -> Stage:
    """`picture` with what is marked on it."""
    rows, columns = picture.record.rows or 1, picture.record.columns or 1
    return Stage(
        picture=picture,
        stack=stack,
        count=count,
        rows=rows,
        columns=columns,
        marks=marks_on(found, picture, outlines, rows, columns),
        anatomy=anatomy_on(outlines),
        sides=sides_of(picture.record),
    )


def position_text(stack: Stack, picture: Picture, count: int) -> str:
    """ "Slice 57 of 148 · z -123.5 mm", "Image 1 of 2"."""
    if len(stack.pictures) == 1:
        return f"Image {picture.number} of {count}"
    place = "" if picture.place_mm is None or not stack.axis else f" · {stack.axis} {picture.place_mm + 0.0:.1f} mm"
    return f"{stack.word} {picture.slice_number} of {len(stack.pictures)}{place.replace('-', '−')}"


def picture_address(study_uid: str, picture: Picture) -> str:
    """Address of the picture in the file's own window; `&window=` may follow."""
    record = picture.record
    scale = "&scale=true" if max(record.rows or 0, record.columns or 0) >= _SCALE_FROM else ""
    return f"{image_address(study_uid, record.sop_instance_uid)}?frame={picture.frame}{scale}"


def default_window(stack: Stack, body_part: str | None, found: Sequence[ShownFinding]) -> str:
    """The window in which a series opens: a name of `WINDOWS`, by its description, then by what was found."""
    if stack.modality != "CT":
        return ""
    for name, pattern in _MADE_FOR:
        if pattern.search(stack.description):
            return name
    if body_part != "CHEST":
        return ""
    first = next((s for s in found if s.picture is not None), None)
    return "lung" if first is None else window_for(first.finding.finding_type)


def window_for(finding_type: str) -> str:
    """The window in which one sees a finding of the chest."""
    return "mediastinum" if finding_type in _SOFT else "lung"


def start_of(stack: Stack, found: Sequence[ShownFinding]) -> Picture:
    """Where a series opens: at its first finding, else in its middle, where slices show most."""
    numbers = {p.number for p in stack.pictures}
    place = next((s.picture for s in found if s.picture is not None and s.picture.number in numbers), None)
    if place is not None:
        return place
    return stack.pictures[len(stack.pictures) // 2 if stack.word == "Slice" else 0]


def first_stack(stacks: Sequence[Stack], found: Sequence[ShownFinding], segments: Sequence[OutlinedSegment]) -> Stack:
    """The series to begin with: that of the first finding, else that which was outlined, else the first real one."""
    uids = [s.picture.record.series_instance_uid for s in found if s.picture is not None]
    outlined = {s.largest.sop_instance_uid for s in segments}
    for uid in uids:
        return next(s for s in stacks if s.series_uid == uid)
    for stack in stacks:
        if outlined and any(p.record.sop_instance_uid in outlined for p in stack.pictures):
            return stack
    return next((s for s in stacks if not s.is_filed_only), stacks[0])
