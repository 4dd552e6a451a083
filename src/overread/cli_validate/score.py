"""What a model says of each image of a data set, on the product's own way: read, recognise, prepare, run, calibrate.

Scores can be kept in a file and judged again, or compared with another model's, without running anything.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from overread.cli_validate.dataset import Dataset, Row
from overread.cli_validate.overlap import Mask, Overlap, compare
from overread.cli_validate.reading import SAID, Answer, ImageReader, PackageReader
from overread.dicom.picture import is_picture, picture
from overread.dicom.read import PydicomParser
from overread.domain.errors import (
    InferenceError,
    InvalidDicom,
    InvalidRequest,
    NotFound,
    OverreadError,
    UnsupportedFile,
)
from overread.domain.evidence import ModelIdentity
from overread.domain.image import BoundingBox, ImageInstance
from overread.inference.card import Card
from overread.pipeline.ports import Model

FORMAT = "overread-scores/1"
#: Name of what `masks/` outlines.
OUTLINE = "outline"
#: What tells images apart without reading them: see `_cues`.
CUES = ("mean brightness", "contrast", "brightness of the border", "rows", "columns", "bytes per pixel")
#: Decoded images that wait for the model.
_AHEAD = 8
_DECODERS = 2


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An image that could not be used."""

    image: str
    code: str
    message: str


@dataclass
class Scores:
    """What one model said of a data set."""

    identity: ModelIdentity
    task: str
    #: Finding key -> (threshold to show, threshold to raise urgency), as the card says.
    thresholds: Mapping[str, tuple[float, float]]
    #: Whether images had to pass the view gate.
    gated: bool
    #: image -> finding key -> calibrated confidence, 0..1.
    confidence: dict[str, dict[str, float]] = field(default_factory=dict)
    #: image -> finding key -> where the evidence is, whatever the confidence; only of images with true boxes, or
    #: without the finding, and only if the data set has boxes.
    boxes: dict[str, dict[str, BoundingBox]] = field(default_factory=dict)
    #: image -> values of `CUES`.
    cues: dict[str, tuple[float, ...]] = field(default_factory=dict)
    #: image -> why the gate refused it.
    not_assessed: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    #: image -> column of labels.csv -> what was measured, in its unit.
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    #: image -> outline -> how it agrees with the true one; only where there is a true one. `OUTLINE` in `masks/`.
    overlaps: dict[str, dict[str, Overlap]] = field(default_factory=dict)

    def settle(self) -> None:
        """Give findings that only showed while reading (an analyser's) the threshold of having been said."""
        said = dict.fromkeys(key for of_image in self.confidence.values() for key in of_image)
        self.thresholds = {**dict.fromkeys(said, SAID), **self.thresholds}


def score(
    dataset: Dataset, card: Card, model: Model, view_model: Model | None, *, gate: bool,
    on_image: Callable[[], None] = lambda: None,
) -> Scores:  # fmt: skip
    """Run `model` on every image. What cannot be read is noted in `problems`, and the rest goes on.

    `gate`: leave out what the pipeline would not give to this model (views, other body parts). Raises what is not the
    image's fault: a package that cannot be used, a model that ran out of time or memory.
    """
    reader = PackageReader(card, model, view_model, gate=gate, boxes=dataset.boxes is not None)
    return score_by(dataset, reader, on_image=on_image)


def score_by(dataset: Dataset, reader: ImageReader, *, on_image: Callable[[], None] = lambda: None) -> Scores:
    """The same with whatever answers for an image."""
    scores = empty(reader.identity, reader.task, reader.thresholds, gated=reader.gated)
    for row, loaded in _one_by_one(dataset):
        if isinstance(loaded, Problem):
            scores.problems.append(loaded)
        else:
            instance, size = loaded
            scores.cues[row.image] = _cues(instance, size)
            try:
                answer = reader.read(instance)
                truth = dataset.mask(row, instance)
            except (InferenceError, InvalidDicom) as error:  # of the model, of the mask
                if error.transient:
                    raise
                scores.problems.append(Problem(image=row.image, code=error.code, message=str(error)))
            else:
                keep(scores, dataset, row, answer)
                if truth is not None and not answer.refused:
                    scores.overlaps[row.image] = {OUTLINE: _compared(truth, answer.outlines, instance)}
        on_image()
    scores.settle()
    return scores


def empty(identity: ModelIdentity, task: str, thresholds: Mapping[str, tuple[float, float]], *, gated: bool) -> Scores:
    """Before anything was read."""
    return Scores(identity=identity, task=task, thresholds=dict(thresholds), gated=gated)


def keep(scores: Scores, dataset: Dataset, row: Row, answer: Answer) -> None:
    """Note what was said of an image or a series, but for outlines."""
    if answer.refused:
        scores.not_assessed[row.image] = answer.refused
        return
    scores.confidence[row.image] = dict(answer.confidence)
    scores.measured[row.image] = dict(answer.measured)
    if dataset.boxes is None:
        return
    boxed = {key for found in dataset.boxes.values() for key in found}
    for key, box in answer.boxes.items():
        if key in boxed and (key in dataset.boxes.get(row.image, {}) or row.truth.get(key) is False):
            scores.boxes.setdefault(row.image, {})[key] = box


def _compared(truth: Mask, outlines: Mapping[str, Mask], instance: ImageInstance) -> Overlap:
    """One mask an image, so all that was outlined counts as one."""
    ours = np.zeros_like(truth)
    for mask in outlines.values():
        ours |= mask
    return compare(truth, ours, instance.image.spacing_mm)


def _one_by_one(dataset: Dataset) -> Iterator[tuple[Row, tuple[ImageInstance, int] | Problem]]:
    """Images in order, a few decoded ahead: never many in memory."""
    waiting: deque[tuple[Row, Future[tuple[ImageInstance, int] | Problem]]] = deque()
    with ThreadPoolExecutor(_DECODERS) as pool:
        for row in dataset.rows:
            waiting.append((row, pool.submit(_load, dataset.file(row), row)))
            if len(waiting) > _AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def _load(file: Path, row: Row) -> tuple[ImageInstance, int] | Problem:
    """The image and the size of its file in bytes. A spacing in labels.csv is that of an image that says none."""
    name = row.image
    try:
        data = file.read_bytes()
        image = picture(data, name=name) if is_picture(data) else PydicomParser().image(data, name=name)
    except FileNotFoundError:
        return Problem(image=name, code=NotFound.code, message=f"{name} is not in the data set's folder of images.")
    except OSError as error:
        return Problem(image=name, code=UnsupportedFile.code, message=f"{name} cannot be read: {error.strerror}.")
    except OverreadError as error:
        return Problem(image=name, code=error.code, message=str(error))
    if image.image.spacing_mm is None and row.spacing_mm is not None:
        image = replace(image, image=replace(image.image, spacing_mm=(row.spacing_mm, row.spacing_mm)))
    return image, len(data)


def _cues(instance: ImageInstance, size: int) -> tuple[float, ...]:
    pixels = instance.image.pixels
    edge = max(2, min(pixels.shape) // 20)
    border = np.concatenate(
        [part.ravel() for part in (pixels[:edge], pixels[-edge:], pixels[:, :edge], pixels[:, -edge:])]
    )
    values = (pixels.mean(), pixels.std(), border.mean(), *pixels.shape, size / pixels.size)
    return tuple(float(v) for v in values)


# --- the file -----------------------------------------------------------------------------------------------------


def write(scores: Scores, file: Path) -> None:
    """Keep scores. Raises OSError."""
    identity = scores.identity
    raw = {
        "format": FORMAT,
        "model": {"name": identity.name, "version": identity.version, "sha256": identity.sha256},
        "task": scores.task,
        "thresholds": {key: list(pair) for key, pair in scores.thresholds.items()},
        "gated": scores.gated,
        "confidence": scores.confidence,
        "boxes": {
            image: {key: [b.x, b.y, b.width, b.height] for key, b in found.items()}
            for image, found in scores.boxes.items()
        },
        "measured": scores.measured,
        "overlaps": {image: {key: asdict(o) for key, o in found.items()} for image, found in scores.overlaps.items()},
        "cues": scores.cues,
        "not_assessed": scores.not_assessed,
        "problems": [{"image": p.image, "code": p.code, "message": p.message} for p in scores.problems],
    }
    file.write_text(json.dumps(raw) + "\n", encoding="utf-8")


def read(file: Path) -> Scores:
    """Scores from a file. Raises `InvalidRequest` if it is none."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise InvalidRequest(f"{file} has the format {raw['format']!r}, not {FORMAT!r}.")
        return _scores(raw)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(
            f"{file} is no file of scores: {error}.", remedy="`overread validate --scores FILE` writes one."
        ) from error


def _scores(raw: dict[str, Any]) -> Scores:
    model = raw["model"]
    scores = Scores(
        identity=ModelIdentity(name=str(model["name"]), version=str(model["version"]), sha256=str(model["sha256"])),
        task=str(raw["task"]),
        thresholds={str(key): (float(show), float(up)) for key, (show, up) in raw["thresholds"].items()},
        gated=bool(raw["gated"]),
        confidence={i: {k: float(p) for k, p in said.items()} for i, said in raw["confidence"].items()},
        boxes={
            image: {key: BoundingBox(x=x, y=y, width=w, height=h) for key, (x, y, w, h) in found.items()}
            for image, found in raw["boxes"].items()
        },
        cues={image: tuple(float(v) for v in values) for image, values in raw["cues"].items()},
        not_assessed={image: str(reason) for image, reason in raw["not_assessed"].items()},
        problems=[Problem(**{k: str(v) for k, v in p.items()}) for p in raw["problems"]],
        measured={i: {k: float(v) for k, v in said.items()} for i, said in raw.get("measured", {}).items()},
        overlaps={i: {k: Overlap(**o) for k, o in found.items()} for i, found in raw.get("overlaps", {}).items()},
    )
    wrong = next((i for i, s in scores.confidence.items() if not set(s) <= set(scores.thresholds)), None)
    if wrong is not None:
        raise ValueError(f"{wrong} has a confidence for a finding without thresholds")
    return scores
