"""Outlines of segments on the slices that a person looks at, as polygons: what the study page draws over a slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray

from overread.domain.segment import Segment
from overread.domain.volume import Floats, Volume
from overread.render.segment_slices import SegmentSlice, segment_slices

Ring = tuple[tuple[float, float], ...]

#: How far a simplified outline may lie beside the exact one, pixels; less for small ones.
TOLERANCE_PX = 0.5
#: Of the square root of the enclosed area: so that a nodule of a few pixels keeps its shape.
_TOLERANCE_SHARE = 0.1
#: Coordinates are rounded to so many decimals of a pixel.
_DECIMALS = 2


@dataclass(frozen=True, kw_only=True)
class SliceOutline:
    """A segment on one slice."""

    #: From 1, as in the SEG.
    segment_number: int
    #: `Segment.key`, `.name` and `.finding_id`.
    key: str
    name: str
    finding_id: UUID | None
    #: SOPInstanceUID (0008,0018) of the image, and its frame from 1.
    sop_instance_uid: str
    frame_number: int
    #: From 0 in the stored volume.
    slice_index: int
    #: Polygons of (x, y) = (column, row) in pixels of the stored slice, whole numbers at pixel centres. The last point
    #: joins the first, which is not repeated. Holes are rings too: draw with the even-odd rule.
    rings: tuple[Ring, ...]

    @property
    def area_px(self) -> float:
        """What the rings enclose, in pixels, holes taken out."""
        return abs(sum(_signed_area(np.array(ring)) for ring in self.rings))


def outlines(segments: Sequence[Segment], stored: Volume, *, first_number: int = 1) -> Iterator[SliceOutline]:
    """The outline of every segment on every slice of `stored`, as `dicom.series` read it, segment by segment.

    Segments may lie in a flipped or straightened copy of the volume: their affine says where. `first_number` is the
    number of the first segment, for an analysis that outlines several volumes.
    """
    for number, segment in enumerate(segments, start=first_number):
        for part in segment_slices(segment, stored):
            yield SliceOutline(
                segment_number=number,
                key=segment.key,
                name=segment.name,
                finding_id=segment.finding_id,
                sop_instance_uid=stored.sop_instance_uids[part.index],
                frame_number=stored.frame_numbers[part.index],
                slice_index=part.index,
                rings=_rings(part),
            )


def _rings(part: SegmentSlice) -> tuple[Ring, ...]:
    # A rim of nothing around it closes every line.
    field = np.pad(part.share, 1)
    # Half of the pixels' distance is the border between a pixel inside and one outside.
    lines = contour_generator(z=field, line_type=LineType.Separate).lines(0.5)
    shift = np.array([part.column - 1, part.row - 1], np.float64)
    rings: list[Ring] = []
    for line in lines:
        points = np.asarray(line, np.float64)[:-1]
        area = abs(_signed_area(points))
        kept = _simplified(points, min(TOLERANCE_PX, _TOLERANCE_SHARE * area**0.5)) + shift
        rings.append(tuple((round(float(x), _DECIMALS), round(float(y), _DECIMALS)) for x, y in kept))
    return tuple(rings)


def _signed_area(points: Floats) -> float:
    """The shoelace formula; the sign tells which way round, and holes go the other way."""
    x, y = points[:, 0], points[:, 1]
    return 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def _simplified(points: Floats, tolerance: float) -> Floats:
    """Douglas-Peucker on a ring, float (N, 2): points within `tolerance` of the line without them are left out."""
    if len(points) <= 4:
        return points
    far = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    closed = np.vstack([points, points[:1]])
    keep = np.zeros(len(closed), np.bool_)
    keep[[0, far]] = True
    todo = [(0, far), (far, len(points))]
    while todo:
        start, end = todo.pop()
        if end - start < 2:
            continue
        distances = _distances(closed[start + 1 : end], closed[start], closed[end])
        worst = int(np.argmax(distances))
        if distances[worst] > tolerance:
            middle = start + 1 + worst
            keep[middle] = True
            todo += [(start, middle), (middle, end)]
    return closed[:-1][keep[:-1]]


def _distances(points: Floats, start: Floats, end: Floats) -> NDArray[np.float64]:
    """Of each point to the line from `start` to `end`, which are not the same point."""
    along = end - start
    length = float(np.hypot(along[0], along[1]))
    offset = points - start
    if length == 0:
        return np.hypot(offset[:, 0], offset[:, 1])
    distances: NDArray[np.float64] = np.abs(offset[:, 0] * along[1] - offset[:, 1] * along[0]) / length
    return distances
