"""The command line of `overread validate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from overread.cli_validate.dataset import Dataset
    from overread.cli_validate.score import Scores
    from overread.cli_validate.series import SeriesSet
    from overread.cli_validate.sources import Source
    from overread.config import Settings

EPILOG = """Examples:

`overread validate data/chest --model chest_xray`

`overread validate data/chest --model chest_xray --report report.html --scores scores.json --json > figures.json`

`overread validate data/chest --model chest_xray@1.0.0 --card card.toml`

`overread validate data/ct --model chest_ct --json`

`overread validate data/chest --compare chest_xray /downloads/other_package.zip`

Exit status: 0, or 2 if an image could not be used (figures are of the others) or there are no figures."""

#: More images that could not be used are counted, not named; the JSON names all.
_NAMED_AT_MOST = 20


def validate(
    dataset: Annotated[
        Path, typer.Argument(help="A folder with images/ and labels.csv (boxes.csv, masks/), or with DICOM series.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A package or analyser: NAME, NAME@VERSION, its folder or ZIP; or a file that --scores wrote."
        ),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Instead of --model: two of these, on the same images.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="TOML that says which words of labels.csv mean which finding.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Only the images that this file names, one a line.")] = None,
    patients: Annotated[Path | None, typer.Option(help="Only the patients that this file names, one a line.")] = None,
    no_gate: Annotated[
        bool, typer.Option("--no-gate", help="Score also what the pipeline would not show to this model.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=100, max=100_000, help="Rounds of drawing patients again.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write a page with tables and plots there (HTML).")] = None,
    card: Annotated[
        Path | None, typer.Option(help="Write the package's card.toml there, with the figures that were measured here.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Keep the confidence of each image there (JSON), to judge it again.")
    ] = None,
) -> None:
    """Measure a model package on your own labelled images: AUC, sensitivity, specificity, calibration, subgroups."""
    from overread.cli_validate.compare import comparison
    from overread.cli_validate.figures import validation
    from overread.cli_validate.sources import data_for, resolve
    from overread.config import Settings
    from overread.domain.errors import InvalidRequest

    if (model is None) == (compare is None):
        raise InvalidRequest("Give either --model or --compare.", remedy="For example: --model chest_xray.")
    if compare is not None and (scores is not None or card is not None):
        raise InvalidRequest(
            "--scores and --card go with --model.", remedy="Score each model by itself, then compare the files."
        )
    settings = Settings()
    sources = [resolve(name, settings, dataset) for name in (compare or (str(model),))]
    data = data_for(sources, dataset, labels, images=images, patients=patients)
    rows = rows_of(data)
    scored = [_scored(source, data, len(rows.rows), settings, gate=not no_gate) for source in sources]
    if compare is None:
        result = validation(rows, scored[0], sources[0].card, rounds=rounds)
    else:
        result = comparison(rows, scored[0], scored[1], rounds=rounds)
    _write(result, scored[0], report, scores, _card(sources[0], result) if card else "", card)
    _print(result, as_json=as_json)
    _finish(scored)


def _scored(source: Source, data: Dataset | SeriesSet, count: int, settings: Settings, *, gate: bool) -> Scores:
    from overread.cli_validate.sources import scores_of
    from overread.domain.errors import InvalidRequest

    with _bar(count) as advance:
        scores = scores_of(source, data, settings, gate=gate, on_image=advance)
    if not scores.confidence:
        first = next(iter(scores.problems), None)
        refused = next(iter(scores.not_assessed.values()), "")
        by = "The view gate" if source.card is not None else str(scores.identity)
        why = first.message if first is not None else f"{by} refused every image: {refused}."
        raise InvalidRequest(f"No image of {rows_of(data).folder} could be scored. {why}")
    return scores


def rows_of(data: Dataset | SeriesSet) -> Dataset:
    """The labelled rows, of images or of series."""
    from overread.cli_validate.dataset import Dataset

    return data if isinstance(data, Dataset) else data.dataset


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("Scoring"),
        *Progress.get_default_columns()[1:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


def _card(source: Source, result: dict[str, Any]) -> str:
    from overread.cli_validate.card import card_text, is_judged
    from overread.domain.errors import InvalidRequest

    if source.card is None:
        raise InvalidRequest("--card needs a model package, whose card it renews.")
    if not any(is_judged(found) for found in result["findings"].values()):
        raise InvalidRequest("No card was written: the data set judges none of the model's findings.")
    return card_text(source.card, result)


def _write(
    result: dict[str, Any], scored: Scores, report: Path | None, scores: Path | None, card: str, card_file: Path | None
) -> None:
    from overread.cli_validate.report import html
    from overread.cli_validate.score import write
    from overread.domain.errors import SetupError

    try:
        if scores is not None:
            write(scored, scores)
        if report is not None:
            report.write_text(html(result), encoding="utf-8")
        if card_file is not None:
            card_file.write_text(card, encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"Cannot write to {error.filename}: {error.strerror or error}.",
            remedy="Free some space, or name another file.",
        ) from error


def _print(result: dict[str, Any], *, as_json: bool) -> None:
    from rich.console import Console

    from overread.cli_validate.report import words

    if as_json:
        typer.echo(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        Console(width=None if sys.stdout.isatty() else 180, highlight=False).print(words(result))


def _finish(scored: list[Scores]) -> None:
    """To standard error: each image that could not be used; then status 2 if there was one."""
    problems = list({problem.image: problem for one in scored for problem in one.problems}.values())
    for problem in problems[:_NAMED_AT_MOST]:
        typer.echo(f"{problem.code}: {problem.message}", err=True)
    if len(problems) > _NAMED_AT_MOST:
        typer.echo(
            f"and {len(problems) - _NAMED_AT_MOST} more images that could not be used (--json names all).", err=True
        )
    if problems:
        raise typer.Exit(2)
