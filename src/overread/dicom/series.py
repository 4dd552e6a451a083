"""CT series to volumes: read the headers, plan, decode slice by slice into one array.

`volumes_of` does it all. `plan_of` and `read_stack` are its two halves, for a caller that wants one volume at a time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import median

import numpy as np
from numpy.typing import NDArray

from overread.dicom.scan import scan
from overread.dicom.series_plan import plan
from overread.dicom.series_values import MAX_VOLUME_BYTES, LeftOut, SeriesPlan, Stack, too_large
from overread.dicom.slice_header import SliceHeader, headers_of
from overread.dicom.slice_pixels import SlicePixels
from overread.domain.errors import OverreadError
from overread.domain.volume import Volume, VolumeError, VolumeWarning, WarningCode

#: A file's bytes, or what reads them. A reader is called twice, from the caller's thread, and nothing of it is kept.
Source = bytes | memoryview | Callable[[], bytes | memoryview]
File = tuple[str, Source]


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesVolumes:
    """What a series gave: `volumes`, the one with most slices first; images in none; why stacks gave none."""

    volumes: tuple[Volume, ...]
    left_out: tuple[LeftOut, ...]
    #: `domain.volume.VolumeError`, `TooLarge`: not raised, since other stacks may be good.
    problems: tuple[OverreadError, ...]

    def main(self) -> Volume:
        """The volume with most slices. Raises the first problem if there is none; `VolumeError` if nothing was CT."""
        if self.volumes:
            return self.volumes[0]
        if self.problems:
            raise self.problems[0]
        reason = f" The first of {len(self.left_out)}: {self.left_out[0].reason}." if self.left_out else ""
        raise VolumeError(f"There is no CT slice among the images.{reason}", remedy="Send a CT series.")


class SlicesFailed(Exception):
    """Slices of a stack that could not be decoded, each with its error."""

    def __init__(self, failed: dict[int, OverreadError]) -> None:
        super().__init__(f"{len(failed)} slices could not be decoded")
        #: Place in `Stack.slices` to error.
        self.failed = failed


def volumes_of(files: Sequence[File], *, max_bytes: int = MAX_VOLUME_BYTES) -> SeriesVolumes:
    """The CT volumes of the files of a series, in any order.

    Hounsfield units as int16, sorted by position, spacing from positions, LPS+. Never raises for what is in a file:
    see `left_out` and `problems`; a transient error of a reader of bytes goes through. All volumes together have at
    most `max_bytes`; the array of each is allocated once and filled slice by slice, so that the peak is the result and
    a few slices. A slice that cannot be decoded is left out and the rest planned anew, as if it were missing.
    """
    planned = plan_of(files, max_bytes=max_bytes)
    left_out, problems = list(planned.left_out), list(planned.problems)
    volumes: list[Volume] = []
    room = max_bytes
    todo = deque(planned.stacks)
    while todo:
        stack = todo.popleft()
        if stack.nbytes > room:
            problems.append(too_large(stack, max_bytes))
            continue
        try:
            volumes.append(read_stack(stack, files))
            room -= stack.nbytes
        except SlicesFailed as failure:
            damaged = [_damaged(stack.slices[at], error) for at, error in failure.failed.items()]
            rest = plan([s for at, s in enumerate(stack.slices) if at not in failure.failed], max_bytes=max_bytes)
            left_out += [*damaged, *rest.left_out]
            problems += rest.problems
            text = f"{len(damaged)} slice(s) could not be decoded; the first: {damaged[0].reason}"
            odd = VolumeWarning(code=WarningCode.IMAGES_LEFT_OUT, message=text)
            todo.extendleft(
                replace(s, warnings=tuple(dict.fromkeys((*stack.warnings, odd, *s.warnings))))
                for s in reversed(rest.stacks)
            )
    volumes.sort(key=lambda v: -len(v.sop_instance_uids))
    return SeriesVolumes(volumes=tuple(volumes), left_out=tuple(left_out), problems=tuple(problems))


def plan_of(files: Sequence[File], *, max_bytes: int = MAX_VOLUME_BYTES) -> SeriesPlan:
    """The plan of a series from its files' headers; nothing is decoded. Unreadable files are left out."""
    headers: list[SliceHeader] = []
    unreadable: list[LeftOut] = []
    for number, (name, source) in enumerate(files):
        try:
            headers += headers_of(_bytes(source), name=name, file=number)
        except OverreadError as error:
            if error.transient:
                raise
            unreadable.append(LeftOut(name=name, code=error.code, reason=str(error)))
    planned = plan(headers, max_bytes=max_bytes)
    if not unreadable:
        return planned
    text = f"{len(unreadable)} file(s) could not be read; the first: {unreadable[0].reason}"
    odd = VolumeWarning(code=WarningCode.IMAGES_LEFT_OUT, message=text)
    return SeriesPlan(
        stacks=tuple(replace(stack, warnings=(*stack.warnings, odd)) for stack in planned.stacks),
        left_out=(*unreadable, *planned.left_out),
        problems=planned.problems,
    )


def read_stack(stack: Stack, files: Sequence[File], *, workers: int | None = None) -> Volume:
    """Decode the slices of a stack. `files` are those that it was planned from.

    Raises `SlicesFailed` if any slice cannot be decoded. `workers` decode at the same time, by default one a core.
    """
    first = stack.slices[0]
    hu = np.empty((len(stack.slices), first.rows, first.columns), np.int16)
    failed: dict[int, OverreadError] = {}
    ignored = False
    for place, result in _decoded(stack, files, workers or os.cpu_count() or 1):
        if isinstance(result, OverreadError):
            failed[place] = result
        else:
            hu[place], odd = result
            ignored |= odd
    if failed:
        raise SlicesFailed(dict(sorted(failed.items())))
    warnings = stack.warnings
    if ignored:
        text = "PixelPaddingValue (0028,0120) is a value that tissue has; it was not taken for padding."
        warnings = (*warnings, VolumeWarning(code=WarningCode.PADDING_IGNORED, message=text))
    known = [s.slice_thickness_mm for s in stack.slices if s.slice_thickness_mm is not None]
    return Volume(
        hu=hu,
        affine=stack.affine.copy(),
        series_instance_uid=first.series_instance_uid,
        frame_of_reference_uid=first.frame_of_reference_uid,
        sop_instance_uids=tuple(s.sop_instance_uid for s in stack.slices),
        frame_numbers=tuple(s.frame + 1 for s in stack.slices),
        slice_thickness_mm=median(known) if known else None,
        warnings=warnings,
    )


Result = tuple[NDArray[np.int16], bool] | OverreadError


def _decoded(stack: Stack, files: Sequence[File], workers: int) -> Iterator[tuple[int, Result]]:
    """(place in the stack, Hounsfield units and whether padding was ignored, or the error) of each slice."""
    places = sorted(range(len(stack.slices)), key=lambda at: (stack.slices[at].file, stack.slices[at].frame))
    waiting: deque[tuple[int, Future[Result]]] = deque()
    with ThreadPoolExecutor(workers) as executor:
        for file, of_file in groupby(places, key=lambda at: stack.slices[at].file):
            group = list(of_file)
            name, source = files[file]
            try:
                # All frames of the file, whichever are in this stack.
                pixels = SlicePixels(scan(_bytes(source), name))
            except OverreadError as error:
                if error.transient:
                    raise
                yield from ((at, error) for at in group)
                continue
            for at in group:
                if not pixels.compressed:
                    yield at, _slice(pixels, stack.slices[at])
                    continue
                # Bounded, so that few decoded slices wait while others are slow.
                waiting.append((at, executor.submit(_slice, pixels, stack.slices[at])))
                if len(waiting) > 2 * workers:
                    place, future = waiting.popleft()
                    yield place, future.result()
        yield from ((place, future.result()) for place, future in waiting)


def _slice(pixels: SlicePixels, header: SliceHeader) -> Result:
    try:
        return pixels.hounsfield(header.frame, header), pixels.padding_of(header)[1]
    except OverreadError as error:
        return error


def _bytes(source: Source) -> bytes | memoryview:
    return source() if callable(source) else source


def _damaged(header: SliceHeader, error: OverreadError) -> LeftOut:
    return LeftOut(
        name=header.name,
        frame_number=header.frame + 1,
        sop_instance_uid=header.sop_instance_uid,
        code=error.code,
        reason=str(error),
    )
