"""The picture in front, and what the AI marked on it: boxes, outlines, and labels that hide none another."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from overread.domain.analysis import Finding
from overread.domain.image import BoundingBox
from overread.http.lookups import image_address
from overread.render.outlines import Ring, SliceOutline
from overread.services.values import AnalysisRow, OutlinedSegment
from overread.web import figures, words
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
#: Outlines up to so many heights of a label get a ring.
_SMALL: Final = 1.3
#: Pictures that are drawn with a bar in cm.
_SCALE_FROM: Final = 256


@dataclass(frozen=True, kw_only=True)
class ShownFinding:
    """A finding with the number that it bears in the list and on the image."""

    number: int
    finding: Finding
    #: "slice 57", "image 2".
    place: str
    #: Where to look at it; None if its image is not among those that can be shown.
    picture: Picture | None
    #: Numbers of the pictures between which it is outlined, as they are scrolled; None without an outline.
    span: tuple[int, int] | None
    #: "right", "left" or "".
    side: str
    #: "6.1 × 5.2 mm · 0.12 mL"; "" where nothing was measured.
    size: str

    @property
    def is_marked(self) -> bool:
        """Whether it can be seen on an image."""
        return self.picture is not None and (self.finding.bounding_box is not None or self.span is not None)

    @property
    def image_number(self) -> int | None:
        """As `?image=` counts."""
        return None if self.picture is None else self.picture.number


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A finding on the picture in front, and where its label stands in pixels of the image."""

    shown: ShownFinding
    box: BoundingBox | None
    #: SVG path of its outline; "" without one.
    path: str
    #: Around what is so small that a line on its border would hide it: centre and radius, pixels.
    ring: tuple[float, float, float] | None
    text: str
    #: What stands there until one looks at it, so that labels do not hide the lung; "" for the whole label at once.
    short: str
    text_x: float
    text_y: float
    size: float
    width: float
    short_width: float


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """An organ's outline on the picture in front."""

    number: int
    name: str
    path: str


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


def number_findings(
    row: AnalysisRow | None, stacks: Sequence[Stack], segments: Sequence[OutlinedSegment]
) -> tuple[ShownFinding, ...]:
    """Most severe first, then most confident; numbered from 1."""
    if row is None or row.outcome is None:
        return ()
    at = {(p.record.sop_instance_uid, p.frame): p for s in stacks for p in s.pictures}
    stack_of = {s.series_uid: s for s in stacks}
    outlined = {s.finding_id: s for s in segments if s.finding_id is not None}
    shown = []
    for i, finding in enumerate(words.by_weight(row.outcome.findings), start=1):
        segment = outlined.get(finding.id)
        picture = _picture_of(finding, segment, at)
        stack = stack_of[picture.record.series_instance_uid] if picture is not None else None
        shown.append(
            ShownFinding(
                number=i,
                finding=finding,
                place="" if stack is None or picture is None else _place(stack, picture),
                picture=picture,
                span=_span(segment, at),
                side=figures.side_of(row.outcome.measurements, finding.id),
                size=figures.size_of(row.outcome.measurements, finding.id),
            )
        )
    return tuple(shown)


def _place(stack: Stack, picture: Picture) -> str:
    number = picture.number if len(stack.pictures) == 1 else picture.slice_number
    return f"{stack.word.lower()} {number}"


def _picture_of(
    finding: Finding, segment: OutlinedSegment | None, at: Mapping[tuple[str, int], Picture]
) -> Picture | None:
    """A finding names its image, not the frame: that is where it is outlined most, else what its slice number says."""
    uid = finding.sop_instance_uid
    first = at.get((uid, 1))
    if first is None or first.record.number_of_frames == 1:
        return first
    if segment is not None and segment.largest.sop_instance_uid == uid:
        return at.get((uid, segment.largest.frame_number), first)
    return at.get((uid, finding.slice_number or 1), first)


def _span(segment: OutlinedSegment | None, at: Mapping[tuple[str, int], Picture]) -> tuple[int, int] | None:
    if segment is None:
        return None
    ends = [at.get((place.sop_instance_uid, place.frame_number)) for place in (segment.first, segment.last)]
    numbers = sorted(end.number for end in ends if end is not None)
    return (numbers[0], numbers[-1]) if numbers else None


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
        marks=_marks(found, picture, outlines, rows, columns),
        anatomy=tuple(
            Anatomy(number=o.segment_number, name=o.name, path=_path(o.rings)) for o in outlines if not o.finding_id
        ),
        sides=sides_of(picture.record),
    )


def _marks(
    found: Sequence[ShownFinding], picture: Picture, outlines: Sequence[SliceOutline], rows: int, columns: int
) -> tuple[Mark, ...]:
    """A label stands above its box or outline, else inside it, and never on another label."""
    size = max(rows, columns) / 46
    taken: list[tuple[float, float, float]] = []
    marks = []
    for shown in found:
        rings = [ring for o in outlines if o.finding_id == shown.finding.id for ring in o.rings]
        own = shown.picture is not None and shown.picture.number == picture.number
        box = shown.finding.bounding_box if own else None
        around = (box.x, box.y, box.x + box.width, box.y + box.height) if box is not None else _bounds(rings)
        if around is None:
            continue
        left, top = around[:2]
        ring = _ring(rings, size)
        if ring is not None:
            left, top = ring[0] - ring[2], ring[1] - ring[2]
        text = _label(shown)
        short = f"{words.SIGN[shown.finding.severity]} {shown.number}" if rings else ""
        width, short_width = (len(t) * size * 0.62 + size * 0.6 for t in (text, short))
        own_width = short_width if short else width
        x = min(max(0.0, left), max(0.0, columns - width))
        y = top - size * 1.45
        if y < 0:
            y = top + size * 0.2
        while any(abs(y - ty) < size * 1.45 and x < tx + tw and tx < x + own_width for tx, ty, tw in taken):
            y += size * 1.5
        y = min(y, rows - size * 1.45)
        taken.append((x, y, own_width))
        marks.append(
            Mark(
                shown=shown,
                box=box,
                path=_path(rings),
                ring=ring,
                text=text,
                short=short,
                text_x=x,
                text_y=y,
                size=size,
                width=width,
                short_width=short_width,
            )
        )
    return tuple(marks)


def _label(shown: ShownFinding) -> str:
    said = shown.size.split(" · ")[0] if shown.size else words.percent(shown.finding.confidence)
    return f"{shown.number} {words.finding_name(shown.finding.finding_type)} {said}"


def _bounds(rings: Sequence[Ring]) -> tuple[float, float, float, float] | None:
    """Left, top, right, bottom."""
    xs = [x for ring in rings for x, _ in ring]
    ys = [y for ring in rings for _, y in ring]
    return (min(xs), min(ys), max(xs), max(ys)) if xs else None


def _ring(rings: Sequence[Ring], size: float) -> tuple[float, float, float] | None:
    around = _bounds(rings)
    if around is None or max(around[2] - around[0], around[3] - around[1]) > _SMALL * size:
        return None
    left, top, right, bottom = around
    radius = math.hypot(right - left, bottom - top) / 2 + size / 2
    return (left + right) / 2 + 0.5, (top + bottom) / 2 + 0.5, radius


def _path(rings: Sequence[Ring]) -> str:
    """Rings have whole numbers at pixel centres, SVG has them at pixel corners: half a pixel to the right and down."""
    return "".join(
        "M" + "L".join(f"{x + 0.5:.2f} {y + 0.5:.2f}" for x, y in ring) + "Z" for ring in rings if len(ring) > 2
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
