"""From what the user named to scores: an installed package, a package's folder or ZIP, or a file of scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from overread.bootstrap import registry
from overread.cli_validate import score as scoring
from overread.cli_validate.dataset import Dataset
from overread.cli_validate.score import Problem, Scores
from overread.config import Settings
from overread.domain.errors import InvalidRequest, NotFound
from overread.inference.card import Card
from overread.inference.package import Package, open_package
from overread.inference.registry import Registry
from overread.inference.runtime_onnx import OnnxModel
from overread.pipeline.recognise import VIEW_TASK


@dataclass(frozen=True, kw_only=True)
class Source:
    """One of both."""

    package: Package | None = None
    scores: Scores | None = None

    @property
    def card(self) -> Card | None:
        return None if self.package is None else self.package.card


def resolve(name: str, settings: Settings) -> Source:
    """What `name` stands for: NAME or NAME@VERSION of an installed package, else a path.

    A file of scores gets the card of the very model that made them, if that is installed. Raises `InvalidRequest` if
    there is nothing of that name, `InvalidPackage` if a package cannot be used.
    """
    path = Path(name)
    shelf = registry(settings)
    if path.is_file() and path.suffix.lower() == ".json":
        scores = scoring.read(path)
        made_by = next((p for p in shelf.packages if p.card.identity == scores.identity), None)
        return Source(package=made_by, scores=scores)
    wanted, _, version = name.partition("@")
    found = [p for p in shelf.packages if p.card.identity.name == wanted and version in ("", p.card.identity.version)]
    if found:
        newest = max(p.card.sort_key for p in found)
        return Source(package=[p for p in found if p.card.sort_key == newest][-1])
    if path.exists():
        return Source(package=open_package(path))
    refused = next((r for r in shelf.refused if wanted in r.path.parts), None)
    if refused is not None:
        raise InvalidRequest(f"The package {refused.path} cannot be used: {refused.reason}")
    names = sorted({p.card.identity.name for p in shelf.packages})
    raise InvalidRequest(
        f"There is no model package {name!r} and no such path.",
        remedy=f"Installed: {', '.join(names) or 'none'}.",
    )


def scores_of(
    source: Source, dataset: Dataset, settings: Settings, *, gate: bool, on_image: Callable[[], None]
) -> Scores:
    """The file's scores, cut to the data set, or those of running the model."""
    if source.scores is not None:
        return _cut(source.scores, dataset)
    if source.package is None:
        raise ValueError("a source is a package or a file of scores")
    model = OnnxModel(
        source.package,
        threads=settings.model_threads or None,
        memory_bytes=settings.model_memory_mib * 1024 * 1024,
        timeout_s=settings.model_timeout_s,
    )
    shelf: Registry = registry(settings)
    try:
        view_model = shelf.find(VIEW_TASK) if gate else None
        return scoring.score(dataset, source.package.card, model, view_model, gate=gate, on_image=on_image)
    finally:
        model.close()
        shelf.close()


def _cut(scores: Scores, dataset: Dataset) -> Scores:
    """Only what the data set has; images without a score are problems."""
    names = {row.image for row in dataset.rows}
    kept = Scores(
        identity=scores.identity,
        task=scores.task,
        thresholds=scores.thresholds,
        gated=scores.gated,
        confidence={image: said for image, said in scores.confidence.items() if image in names},
        boxes={image: found for image, found in scores.boxes.items() if image in names},
        cues={image: values for image, values in scores.cues.items() if image in names},
        not_assessed={image: why for image, why in scores.not_assessed.items() if image in names},
        problems=[problem for problem in scores.problems if problem.image in names],
        measured={image: said for image, said in scores.measured.items() if image in names},
        overlaps={image: found for image, found in scores.overlaps.items() if image in names},
    )
    known = kept.confidence.keys() | kept.not_assessed.keys() | {problem.image for problem in kept.problems}
    kept.problems += [
        Problem(image=row.image, code=NotFound.code, message=f"{row.image} is not in the file of scores.")
        for row in dataset.rows
        if row.image not in known
    ]
    return kept
