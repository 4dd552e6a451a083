"""A cross-sectional series before and after its slices became volumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from overread.domain.analysis import InstanceProblem
from overread.domain.errors import OverreadError
from overread.domain.image import ImageHeader
from overread.domain.volume import Volume


@dataclass(frozen=True, kw_only=True, eq=False)
class StackedSeries:
    """What the files of a series gave."""

    #: The one with most slices first; axis 0 runs through the slices, axes 1 and 2 are rows and columns of the files.
    volumes: tuple[Volume, ...]
    #: Why stacks of slices gave no volume.
    problems: tuple[OverreadError, ...] = ()
    #: Files or frames that could not be used; expected ones (localizers, duplicates) are not among them.
    unusable: tuple[InstanceProblem, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesToRead:
    """A series that is to be read as a volume. Nothing is decoded until `load`."""

    #: Of its first image; tags may be missing or wrong.
    header: ImageHeader
    #: SeriesNumber (0020,0011).
    number: int | None
    #: Images or frames.
    slices: int
    #: Decodes it; called at most once. Raises transient errors only (`StoreUnavailable`).
    load: Callable[[], StackedSeries]

    @property
    def name(self) -> str:
        """As a person finds it again: "series 3 (Lung 1.0)"."""
        number = "a series" if self.number is None else f"series {self.number}"
        return f"{number} ({self.header.series_description})" if self.header.series_description else number
