"""`overread deidentify`: copies of images without what identifies the patient, and a report of what was removed."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from overread.dicom.deidentify.options import Dates, Options
from overread.domain.errors import InvalidRequest, OverreadError
from overread.services.unpack import unpack

if TYPE_CHECKING:
    from overread.dicom.deidentify.report import ExportReport

EPILOG = (
    "Exit status: 0; 1 if a file was refused; 2 for an error. Examples: `overread deidentify scans --to shared` ·"
    " `overread deidentify disc.zip --to shared --dates remove --key-file project.key`"
)
_err = Console(stderr=True)
_KEY_BYTES = 32


def deidentify(
    source: Annotated[Path, typer.Argument(help="A folder, a ZIP or a file.", show_default=False)],
    to: Annotated[Path, typer.Option(help="A new folder for the copies and the report.", show_default=False)],
    dates: Annotated[
        Dates, typer.Option(help="Moved by the same days for a patient, removed, or kept as they are.")
    ] = Dates.SHIFT,
    keep_characteristics: Annotated[
        bool, typer.Option("--keep-characteristics", help="Sex, age (at most 90), size and weight stay.")
    ] = False,
    clean_descriptions: Annotated[
        bool, typer.Option("--clean-descriptions", help="Radiological words stay in descriptions; all others go.")
    ] = False,
    keep_safe_private: Annotated[
        bool, typer.Option("--keep-safe-private", help="Private numbers that the standard calls safe stay.")
    ] = False,
    key_file: Annotated[
        Path | None,
        typer.Option(help="Project key, made if it is not there: the same patient is the same in the next export."),
    ] = None,
) -> None:
    """Copy DICOM files without what identifies the patient (PS3.15 basic profile), and report what was removed."""
    # pydicom takes a while to import; `overread --help` need not wait for it.
    from overread.dicom.deidentify.folder import NewFolder
    from overread.dicom.deidentify.folder import deidentify as copy
    from overread.dicom.deidentify.ocr import finder
    from overread.dicom.deidentify.pseudonyms import Pseudonyms

    options = Options(
        dates=dates,
        keep_characteristics=keep_characteristics,
        clean_descriptions=clean_descriptions,
        keep_safe_private=keep_safe_private,
    )
    pseudonyms = Pseudonyms(_key(key_file))
    total = sum(1 for _ in unpack(source))
    if source.is_dir() and to.resolve().is_relative_to(source.resolve()):
        raise InvalidRequest(f"{to} lies in {source}.", remedy="Name a folder outside of it.")
    folder = NewFolder(to)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as bars, finder() as words:
        task = bars.add_task("Copying", total=total)
        report = copy(
            unpack(source),
            folder.write,
            options=options,
            pseudonyms=pseudonyms,
            finder=words,
            progress=lambda done: bars.update(task, completed=done),
            refused=_say_refused,
        )
    folder.reports(report)
    say(report, to)
    if report.refused or not report.files:
        raise typer.Exit(1)


def say(report: ExportReport, to: Path) -> None:
    """What was done, in two lines."""
    typer.echo(
        f"{len(report.files):,} files of {len(report.patients):,} patients: {report.removed.total():,} attributes"
        f" removed, {report.replaced.total():,} replaced, {report.emptied.total():,} emptied,"
        f" {report.boxes:,} places blackened; {len(report.refused):,} files refused."
    )
    typer.echo(f"Report: {to / 'deidentification.html'}")


def _say_refused(name: str, error: OverreadError) -> None:
    _err.print(f"[yellow]refused[/] {name}: {error}", highlight=False, soft_wrap=True)


def _key(path: Path | None) -> bytes:
    """Of a file, made where there is none; without a file one that is forgotten with this program."""
    if path is None:
        return secrets.token_bytes(_KEY_BYTES)
    try:
        if not path.exists():
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(secrets.token_hex(_KEY_BYTES) + "\n", encoding="ascii")
        return bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} is no project key.", remedy="It holds 64 hexadecimal digits.") from error
