"""What is asked of a model under test: one image or volume in, one `Answer` out. A package answers by its outputs; an
analyser by its findings, measurements and segments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable
from uuid import UUID, uuid5

import numpy as np

from overread.cli_validate.overlap import Mask
from overread.cli_validate.truth import column_of
from overread.domain.evidence import EvidenceBar, ModelIdentity
from overread.domain.image import BoundingBox, GreyImage, ImageInstance
from overread.domain.modality import Modality
from overread.domain.segment import Segment
from overread.domain.volume import Floats
from overread.inference.card import Card
from overread.pipeline.analysers.contract import ReadingContext, VolumeReading
from overread.pipeline.detect import confidences, locate
from overread.pipeline.ports import Model
from overread.pipeline.preprocess import prepare
from overread.pipeline.recognise import CHEST_XRAY_TASK, recognise
from overread.pipeline.triage import TriageTable

#: Tasks that `pipeline.recognise` lets an image through to; models of other tasks have no gate to pass.
GATED = frozenset({CHEST_XRAY_TASK})
#: Thresholds of an analyser's findings: it says a finding or it does not.
SAID = (1e-6, 1e-6)
_ONE_SPACE = UUID("6f0e3a86-6e6d-4e7b-9f14-0f6b1f1d2a55")


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What was said of one image or volume."""

    #: Why it was not assessed; "" if it was. The rest is then empty.
    refused: str = ""
    #: Finding key -> calibrated confidence, 0..1, of the findings that were looked for.
    confidence: Mapping[str, float] = field(default_factory=dict)
    #: Finding key -> where the evidence is, whatever the confidence.
    boxes: Mapping[str, BoundingBox] = field(default_factory=dict)
    #: Key of a finding or a structure -> outline, bool, of the image's or the volume's shape. Things of one key are
    #: united.
    outlines: Mapping[str, Mask] = field(default_factory=dict)
    #: What was measured, by column (`truth.column_of`). Of things that occur more than once (nodules) the largest.
    measured: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class ImageAnalyser(Protocol):
    """An analyser of single images that outlines or measures; `Segment.mask` is one slice of (1, rows, columns)."""

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def modality(self) -> Modality: ...

    def read_image(self, instance: ImageInstance, context: ReadingContext) -> VolumeReading:
        """Read one image. Affines of segments are on `image_affine`. Raises `InferenceError` for what went wrong."""
        ...


class ImageReader(Protocol):
    """Answers for one image after another."""

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def task(self) -> str: ...

    @property
    def gated(self) -> bool: ...

    @property
    def thresholds(self) -> Mapping[str, tuple[float, float]]:
        """Finding key -> (to show, to raise urgency), of the findings known before anything is read."""
        ...

    def read(self, instance: ImageInstance) -> Answer:
        """Raises `InferenceError`."""
        ...


class PackageReader:
    """A model package, on the pipeline's own way: gate, prepare, run, calibrate, locate."""

    def __init__(self, card: Card, model: Model, view_model: Model | None, *, gate: bool, boxes: bool = True) -> None:
        """`boxes`: whether anybody wants to know where the evidence is."""
        self._model, self._view_model, self._boxes = model, view_model, boxes
        self.identity, self.task = card.identity, card.task
        self.gated = gate and card.task in GATED
        self.thresholds = {o.finding: (o.threshold_show, o.threshold_raise) for o in model.outputs}

    def read(self, instance: ImageInstance) -> Answer:
        """One image. Raises `InferenceError`."""
        if self.gated:
            known = recognise(instance, self._view_model)
            if known.task != self.task:
                return Answer(refused=known.reason)
        prepared = prepare(instance.image.pixels, self._model.input)
        prediction = self._model.predict(prepared.tensor)
        boxes: dict[str, BoundingBox] = {}
        maps = prediction.maps if self._boxes else None
        for output, evidence in zip(self._model.outputs, maps, strict=True) if maps is not None else ():
            box = locate(evidence, prepared.frame)
            if box is not None:
                boxes[output.finding] = box
        return Answer(confidence=dict(confidences(self._model.outputs, prediction)), boxes=boxes)


class AnalyserReader:
    """An `ImageAnalyser` under test."""

    gated = True

    def __init__(self, analyser: ImageAnalyser) -> None:
        self._analyser = analyser
        self.identity, self.task = analyser.identity, analyser.identity.name
        self.thresholds: Mapping[str, tuple[float, float]] = {}

    def read(self, instance: ImageInstance) -> Answer:
        """One image. Raises `InferenceError`."""
        reading = self._analyser.read_image(instance, context())
        image = instance.image
        return answer_of(reading, image_affine(image), (1, image.rows, image.columns))


def image_affine(image: GreyImage) -> Floats:
    """Of a single image: index (0, row, column, 1) to (x, y, 0, 1), in mm where the spacing is known, else pixels."""
    down, across = image.spacing_mm or (1.0, 1.0)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 1.0, down, across, 1.0
    return affine


def context() -> ReadingContext:
    """What an analyser is given; ids are the same in each run."""
    numbers = iter(range(1 << 62))
    return ReadingContext(
        bar=EvidenceBar(),
        table=TriageTable.from_catalogue(),
        new_id=lambda: uuid5(_ONE_SPACE, str(next(numbers))),
    )


def answer_of(reading: VolumeReading, affine: Floats, shape: tuple[int, int, int]) -> Answer:
    """An analyser's reading as an answer; outlines on the grid of `affine` and `shape` (2-D where it is one slice)."""
    if reading.refused:
        return Answer(refused=reading.refused)
    said = dict.fromkeys(reading.assessed, 0.0)
    boxes: dict[str, BoundingBox] = {}
    for finding in reading.findings:
        if finding.confidence >= said.get(finding.finding_type, 0.0):
            said[finding.finding_type] = max(finding.confidence, SAID[0])
            if finding.bounding_box is not None:
                boxes[finding.finding_type] = finding.bounding_box
    measured: dict[str, float] = {}
    for one in reading.measurements:
        column = column_of(one.measurement_type, one.unit)
        measured[column] = max(measured.get(column, one.value), one.value)
    outlines = {
        key: on_grid([s for s in reading.segments if s.key == key], affine, shape)
        for key in dict.fromkeys(s.key for s in reading.segments)
    }
    flat = shape[0] == 1
    return Answer(
        confidence=said,
        boxes=boxes,
        outlines={key: mask[0] if flat else mask for key, mask in outlines.items()},
        measured=measured,
    )


def on_grid(segments: Sequence[Segment], affine: Floats, shape: tuple[int, int, int]) -> Mask:
    """All of `segments` in one mask of `shape`, whose voxels lie where `affine` says.

    Each voxel of a segment goes to the voxel that its centre falls into; grids that are turned against each other by
    quarters, flipped or shifted by whole voxels lose nothing. What lies outside is left out.
    """
    whole = np.zeros(shape, bool)
    to_index = np.linalg.inv(affine)
    for segment in segments:
        matrix = to_index @ segment.affine
        for number, plane in enumerate(segment.mask):  # a lung has millions of voxels: not all at once
            inside = np.argwhere(plane) @ matrix[:3, 1:3].T + (matrix[:3, 3] + number * matrix[:3, 0])
            index = np.floor(inside + 0.5).astype(np.intp)
            index = index[((index >= 0) & (index < np.array(shape))).all(axis=1)]
            whole[tuple(index.T)] = True
    return whole
