"""`overread deidentify` and `overread export`: copies of images without what identifies the patient, and a report."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from overread.config import Settings
from overread.dicom.deidentify.options import Dates, Options
from overread.domain.errors import InvalidRequest, NotFound, OverreadError
from overread.services.unpack import unpack

if TYPE_CHECKING:
    from overread.dicom.deidentify.copier import Copier

EPILOG = (
    "Exit status: 0; 1 if a file was refused; 2 for an error. Examples: `overread deidentify scans --to shared` ·"
    " `overread deidentify disc.zip --to shared --dates remove --key-file project.key`"
)
EXPORT_EPILOG = (
    "Exit status: 0; 1 if an image was refused; 2 for an error."
    " Example: `overread export demo 1.2.840.99.7 --deidentified --to shared`"
)
_KEY_BYTES = 32
_err = Console(stderr=True)

_To = Annotated[Path, typer.Option(help="A new folder for the copies and the report.", show_default=False)]
_Dates = Annotated[Dates, typer.Option(help="Moved by the same days for a patient, removed, or kept as they are.")]
_Characteristics = Annotated[
    bool, typer.Option("--keep-characteristics", help="Sex, age (at most 90), size and weight stay.")
]
_Descriptions = Annotated[
    bool, typer.Option("--clean-descriptions", help="Radiological words stay in descriptions; all others go.")
]
_Private = Annotated[
    bool, typer.Option("--keep-safe-private", help="Private numbers that the standard calls safe stay.")
]
_KeyFile = Annotated[
    Path | None,
    typer.Option(help="Project key, made if it is not there: the same patient is the same in the next export."),
]


def deidentify(
    source: Annotated[Path, typer.Argument(help="A folder, a ZIP or a file.", show_default=False)],
    to: _To,
    dates: _Dates = Dates.SHIFT,
    keep_characteristics: _Characteristics = False,
    clean_descriptions: _Descriptions = False,
    keep_safe_private: _Private = False,
    key_file: _KeyFile = None,
) -> None:
    """Copy DICOM files without what identifies the patient (PS3.15 basic profile), and report what was removed."""
    options = Options(
        dates=dates,
        keep_characteristics=keep_characteristics,
        clean_descriptions=clean_descriptions,
        keep_safe_private=keep_safe_private,
    )
    total = sum(1 for _ in unpack(source))
    if source.is_dir() and to.resolve().is_relative_to(source.resolve()):
        raise InvalidRequest(f"{to} lies in {source}.", remedy="Name a folder outside of it.")
    _copy(to, options, key_file, total, lambda copier, write: copier(unpack(source), write))


def export(
    tenant: Annotated[str, typer.Argument(help="The hospital's short name.", show_default=False)],
    study: Annotated[str, typer.Argument(help="StudyInstanceUID (0020,000D).", show_default=False)],
    to: _To,
    deidentified: Annotated[
        bool, typer.Option("--deidentified", help="Without what identifies the patient; there is no other export.")
    ] = False,
    dates: _Dates = Dates.SHIFT,
    keep_characteristics: _Characteristics = False,
    clean_descriptions: _Descriptions = False,
    key_file: _KeyFile = None,
) -> None:
    """Copy a study's images out of the house without what identifies the patient; on record in the audit trail."""
    from overread import bootstrap
    from overread.services.export import StudyExport

    if not deidentified:
        raise InvalidRequest("Images go out without names only.", remedy="Add --deidentified.")
    options = Options(dates=dates, keep_characteristics=keep_characteristics, clean_descriptions=clean_descriptions)
    built = bootstrap.build(Settings())
    try:
        known = {t.slug: t for t in built.directory.tenants()}
        if tenant not in known:
            raise NotFound(f"There is no tenant {tenant!r}.", remedy=f"Known: {', '.join(sorted(known)) or 'none'}.")
        exports = StudyExport(database=built.database, objects=built.objects)
        _copy(
            to,
            options,
            key_file,
            None,
            lambda copier, write: exports.run(known[tenant], study, by="command line", copier=copier, write=write),
        )
    finally:
        built.close()


def _copy(
    to: Path,
    options: Options,
    key_file: Path | None,
    total: int | None,
    run: Callable[[Copier, Callable[..., None]], object],
) -> None:
    """Raises `typer.Exit` with 1 if a file was refused or there was none."""
    # pydicom takes a while to import; `overread --help` need not wait for it.
    from overread.dicom.deidentify.copier import Copier
    from overread.dicom.deidentify.folder import REPORT_HTML, NewFolder
    from overread.dicom.deidentify.report import ExportReport

    key = _key(key_file)
    folder = NewFolder(to)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as bars:
        task = bars.add_task("Copying", total=total)
        copier = Copier(
            options=options, key=key, progress=lambda done: bars.update(task, completed=done), refused=_say_refused
        )
        report = run(copier, folder.write)
    assert isinstance(report, ExportReport)  # noqa: S101
    typer.echo(
        f"{report.done:,} files of {len(report.patients):,} patients: {report.removed.total():,} attributes"
        f" removed, {report.replaced.total():,} replaced, {report.emptied.total():,} emptied,"
        f" {report.boxes:,} places blackened; {report.not_done:,} files refused."
    )
    typer.echo(f"Report: {to / REPORT_HTML}")
    if report.refused or not report.files:
        raise typer.Exit(1)


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
