"""The findings of a result as the study page lists them: numbered, with their place among the pictures and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overread.domain.analysis import Finding
from overread.services.values import AnalysisRow, OutlinedSegment
from overread.web import figures, words
from overread.web.stacks import Picture, Stack


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
