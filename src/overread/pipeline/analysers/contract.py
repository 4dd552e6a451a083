"""What an analyser of volumes is: it says whether a volume is its kind, and reads it. `docs/how-to/add-an-analyser.md`.

An analyser does no I/O, knows no clock and no randomness, and keeps nothing between two volumes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from overread.domain.analysis import Finding, Measurement, NotAssessed
from overread.domain.evidence import EvidenceBar, ModelIdentity
from overread.domain.image import ImageHeader
from overread.domain.modality import Modality
from overread.domain.segment import Segment
from overread.domain.volume import Volume
from overread.pipeline.triage import TriageTable


@dataclass(frozen=True, kw_only=True)
class ReadingContext:
    """What an analyser is given besides the volume."""

    bar: EvidenceBar
    table: TriageTable
    new_id: Callable[[], UUID]


@dataclass(frozen=True, kw_only=True)
class VolumeReading:
    """What an analyser says of one volume."""

    #: Why the volume was not read, one clear sentence part ("the lungs are cut off above ..."); "" if it was.
    refused: str = ""
    #: BodyPartExamined term of what the volume shows, by its voxels; None if the analyser cannot tell.
    body_part: str | None = None
    findings: tuple[Finding, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    segments: tuple[Segment, ...] = ()
    #: Finding types that were looked for.
    assessed: tuple[str, ...] = ()
    #: Finding types that were not, each with its reason.
    not_assessed: tuple[NotAssessed, ...] = ()


class VolumeAnalyser(Protocol):
    """Reads volumes of one modality. Register it in the entry-point group "overread.analysers"."""

    @property
    def identity(self) -> ModelIdentity:
        """Name and version, as they stand beside each finding ("chest_ct 1.0.0")."""
        ...

    @property
    def modality(self) -> Modality: ...

    def read(self, volume: Volume, header: ImageHeader, context: ReadingContext) -> VolumeReading:
        """Read `volume`, as `dicom.series` made it from the files (axes: slices, rows, columns as stored).

        `header` is that of its first image; its tags may be missing or wrong, so that the voxels decide. A volume of
        another kind is refused with a reason, never guessed at. Boxes of findings are in pixels of the stored slice
        (`domain.segment.box_on_slice`); segments carry their own affine. Raises `InferenceError` for what went wrong.
        """
        ...
