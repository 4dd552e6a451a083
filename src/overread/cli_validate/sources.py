"""From what the user named to scores: a package (installed, a folder or ZIP), an analyser, or a file of scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from overread import bootstrap
from overread.cli_validate import score as scoring
from overread.cli_validate import series as series_of
from overread.cli_validate.dataset import IMAGES, LABELS, Dataset, load
from overread.cli_validate.inventory import describe
from overread.cli_validate.labels import for_analyser, for_card
from overread.cli_validate.reading import AnalyserReader, ImageAnalyser
from overread.cli_validate.score import Problem, Scores
from overread.cli_validate.series import SeriesSet
from overread.config import Settings
from overread.domain.errors import InvalidRequest, NotFound
from overread.inference.card import Card
from overread.inference.package import Package, open_package
from overread.inference.registry import Registry
from overread.inference.runtime_onnx import OnnxModel
from overread.pipeline.analysers.contract import VolumeAnalyser
from overread.pipeline.recognise import VIEW_TASK


@dataclass(frozen=True, kw_only=True)
class Source:
    """A package, an analyser, or a file of scores with the package or analyser that made them, if that is installed."""

    package: Package | None = None
    analyser: VolumeAnalyser | ImageAnalyser | None = None
    scores: Scores | None = None

    @property
    def card(self) -> Card | None:
        return None if self.package is None else self.package.card

    @property
    def reads_series(self) -> bool:
        """Whether it takes whole series instead of single images."""
        return self.analyser is not None and not isinstance(self.analyser, ImageAnalyser)


def resolve(name: str, settings: Settings, folder: Path) -> Source:
    """What `name` stands for: NAME or NAME@VERSION of an installed package or analyser, else a path.

    `folder` is the data set, which an error describes. Raises `InvalidRequest` if there is nothing of that name,
    `InvalidPackage` if a package cannot be used.
    """
    path = Path(name)
    shelf = bootstrap.registry(settings)
    if path.is_file() and path.suffix.lower() == ".json":
        scores = scoring.read(path)
        made_by = next((p for p in shelf.packages if p.card.identity == scores.identity), None)
        analyser = None if made_by else next((a for a in bootstrap.analysers() if a.identity == scores.identity), None)
        return Source(package=made_by, analyser=analyser, scores=scores)
    wanted, _, version = name.partition("@")
    found = [p for p in shelf.packages if p.card.identity.name == wanted and version in ("", p.card.identity.version)]
    if found:
        newest = max(p.card.sort_key for p in found)
        return Source(package=[p for p in found if p.card.sort_key == newest][-1])
    analysers = bootstrap.analysers()
    for analyser in analysers:
        if analyser.identity.name == wanted and version in ("", analyser.identity.version):
            return Source(analyser=analyser)
    if path.exists():
        return Source(package=open_package(path))
    refused = next((r for r in shelf.refused if wanted in r.path.parts), None)
    if refused is not None:
        raise InvalidRequest(f"The package {refused.path} cannot be used: {refused.reason}")
    names = sorted({p.card.identity.name for p in shelf.packages} | {a.identity.name for a in analysers})
    raise InvalidRequest(
        f"There is no model package {name!r} and no such path.",
        remedy=f"Installed: {', '.join(names) or 'none'}. The data set was understood: {describe(folder)}",
    )


def data_for(
    sources: list[Source], folder: Path, labels: Path | None, *, images: Path | None, patients: Path | None
) -> Dataset | SeriesSet:
    """The images or series of `folder`, and their truth for the findings of the first source that is known."""
    known = next((s for s in sources if s.card is not None or s.analyser is not None), None)
    if known is None:
        raise InvalidRequest(
            "The model that made these scores is not installed, so its card is not known.",
            remedy="Install it, or name its package.",
        )
    if known.analyser is None:
        if known.card is None:
            raise ValueError("a source is a package, an analyser or a file of scores")
        if not (folder / IMAGES).is_dir():
            raise InvalidRequest(
                f"{known.card.identity.name} reads single images and needs {IMAGES}/ and {LABELS}.",
                remedy=f"The data set was understood: {describe(folder)}",
            )
        return load(folder, for_card(known.card, labels), images=images, patients=patients)
    mapping = for_analyser(known.analyser.modality, labels)
    if isinstance(known.analyser, ImageAnalyser):
        return load(folder, mapping, images=images, patients=patients)
    if images is not None or patients is not None:
        raise InvalidRequest("--images and --patients are for folders of single images.")
    return series_of.load(folder, known.analyser.modality, mapping)


def scores_of(
    source: Source, data: Dataset | SeriesSet, settings: Settings, *, gate: bool, on_image: Callable[[], None]
) -> Scores:
    """The file's scores, cut to the data set, or those of running the model."""
    dataset = data.dataset if isinstance(data, SeriesSet) else data
    if source.scores is not None:
        return _cut(source.scores, dataset)
    if isinstance(source.analyser, ImageAnalyser):
        return scoring.score_by(dataset, AnalyserReader(source.analyser), on_image=on_image)
    if source.reads_series != isinstance(data, SeriesSet):
        raise InvalidRequest("One of both reads single images, the other whole series: they cannot be compared.")
    if isinstance(data, SeriesSet) and source.analyser is not None:
        return series_of.score(data, source.analyser, on_image=on_image)
    if source.package is None:
        raise ValueError("a source is a package, an analyser or a file of scores")
    model = OnnxModel(
        source.package,
        threads=settings.model_threads or None,
        memory_bytes=settings.model_memory_mib * 1024 * 1024,
        timeout_s=settings.model_timeout_s,
    )
    shelf: Registry = bootstrap.registry(settings)
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
