"""The command line of `overread analyze`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from overread.cli_analyze.files import Plan, Refused, Tags
    from overread.config import Settings
    from overread.domain.analysis import InstanceProblem
    from overread.http.wire import AnalysisResult
    from overread.pipeline.ports import ModelShelf

EPILOG = """Examples:

`overread analyze chest.dcm`

`overread analyze study.zip --out results`

`overread analyze radiographs/ --modality X-ray --body-part CHEST --format json > results.json`

Exit status: 0, or 2 if a file could not be used (the others are analysed all the same)."""

#: What `--modality` takes besides DICOM's own codes.
_MODALITIES = {"X-RAY": "DX", "XRAY": "DX", "MRI": "MR", "ULTRASOUND": "US"}

#: More files without an image are counted, not named.
_NOTES_AT_MOST = 5


class Format(StrEnum):
    """What is printed."""

    TEXT = "text"
    JSON = "json"


def analyze(
    path: Annotated[Path, typer.Argument(help="A DICOM file, a folder, a ZIP, or a PNG or JPEG picture.")],
    modality: Annotated[
        str | None,
        typer.Option(help="For images that do not say it: X-ray, CT, MRI, Ultrasound, or a DICOM code (CR, DX, ...)."),
    ] = None,
    body_part: Annotated[str | None, typer.Option(help="For images that do not say it, for example CHEST.")] = None,
    output_format: Annotated[
        Format, typer.Option("--format", help="A table in plain words, or the AnalysisResult as JSON.")
    ] = Format.TEXT,
    out: Annotated[
        Path | None, typer.Option(help="Also write result.json, images with boxes (PNG), DICOM SR and SEG there.")
    ] = None,
) -> None:
    """Analyse DICOM files, folders, ZIPs, PNG and JPEG without a server: what was found, and what was not assessed."""
    from overread.cli_analyze.files import Refused, plan
    from overread.config import Settings
    from overread.domain.errors import SetupError

    refused = Refused()
    the_plan = plan(path, refused)
    results: list[AnalysisResult] = []
    if the_plan.files:
        settings = Settings()
        with open_shelf(settings) as shelf:
            try:
                results = _run(the_plan, refused, shelf, _tags(modality, body_part), out, output_format)
            except OSError as error:
                raise SetupError(
                    f"Cannot write to {error.filename or out}: {error.strerror or error}.",
                    remedy="Free some space, or give another folder to --out.",
                ) from error
    elif not refused.problems:
        typer.echo(f"There is no file in {path}.", err=True)
        raise typer.Exit(2)
    elif output_format is Format.JSON:
        typer.echo(as_json(results, refused.problems))
    failed = [r for r in results if r.status == "failed"]
    _report(refused, results)
    if refused.problems or failed or any(r.problems for r in results):
        raise typer.Exit(2)


@contextmanager
def open_shelf(settings: Settings) -> Iterator[ModelShelf]:
    """The installed model packages, each loaded once; their processes end with it."""
    from overread.bootstrap import registry

    shelf = registry(settings)
    try:
        yield shelf
    finally:
        shelf.close()


def as_json(results: Sequence[AnalysisResult], problems: Sequence[InstanceProblem]) -> str:
    """One AnalysisResult if there is one study, else {"analyses": [...], "problems": [...]}.

    Files that belong to no study stand in `problems`: of the one result, or beside the list.
    """
    from overread.http.wire import dump

    wire = [dump(result) for result in results]
    bad = [{"instance": p.instance, "code": p.code, "message": p.message} for p in problems]
    if len(wire) == 1:
        wire[0]["problems"] += bad
        return json.dumps(wire[0], indent=2, ensure_ascii=False)
    return json.dumps({"analyses": wire, "problems": bad}, indent=2, ensure_ascii=False)


def _tags(modality: str | None, body_part: str | None) -> Tags:
    from overread.cli_analyze.files import Tags

    code = modality.strip().upper() if modality else None
    return Tags(
        modality=_MODALITIES.get(code, code) if code else None,
        body_part=body_part.strip().upper() if body_part else None,
    )


def _run(
    the_plan: Plan, refused: Refused, shelf: ModelShelf, tags: Tags, out: Path | None, output_format: Format
) -> list[AnalysisResult]:
    """Analyse, write and print; returns the results."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from overread.bootstrap import analysers
    from overread.cli_analyze.run import Output, analyse_all
    from overread.cli_analyze.text import words

    folder: Output | None = None
    if out is not None:
        from overread.dicom.sr import HighdicomSrWriter

        folder = Output(out, HighdicomSrWriter())
    results: list[AnalysisResult] = []
    bar = Progress(
        TextColumn("Analysing"),
        *Progress.get_default_columns()[1:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=the_plan.files)
        analysed = analyse_all(
            the_plan,
            refused,
            shelf,
            analysers(),
            tags=tags,
            keep_evidence=folder is not None,
            on_file=lambda count: bar.advance(task, count),
        )
        for item in analysed:
            results.append(item.result)
            if folder is not None:
                folder.write(item)
    text = as_json(results, refused.problems) if folder is not None or output_format is Format.JSON else ""
    if folder is not None:
        folder.write_result(text)
    if output_format is Format.JSON:
        typer.echo(text)
    else:
        Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(words(results))
    return results


def _report(refused: Refused, results: Sequence[AnalysisResult]) -> None:
    """To standard error: each file that could not be used, and why."""
    for result in results:
        if result.status == "failed":
            typer.echo(f"{result.error_code}: {result.error_message}", err=True)
        else:
            for problem in result.problems:
                typer.echo(f"{problem.code}: {problem.message}", err=True)
    for bad in refused.problems:
        typer.echo(f"{bad.code}: {bad.message}", err=True)
    if len(refused.left_out) > _NOTES_AT_MOST:
        typer.echo(f"note: {len(refused.left_out)} files hold no image to analyse and were left out.", err=True)
    else:
        for note in refused.left_out:
            typer.echo(f"note: {note.message}", err=True)
