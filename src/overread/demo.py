"""`overread demo` and `make run`: start everything, push studies through our own DICOM port, show what was found."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from overread import bootstrap, seed
from overread.config import Settings
from overread.dicom.phantoms import write_demo_phantoms
from overread.dicom.samples import download as download_samples
from overread.dicom.samples import shipped
from overread.dicom.send import send_files
from overread.domain import catalogue
from overread.domain.analysis import AnalysisStatus, strongest_of_each_type
from overread.domain.errors import FeatureDisabled, NothingToAnalyse, OverreadError, PatientObjected
from overread.domain.texts import DISCLAIMER, NO_FINDING
from overread.services.unpack import Member, unpack
from overread.services.values import AnalysisRow
from overread.supervisor import Supervisor

_TIMEOUT_S = 600.0
_TOO_LATE = "no result in time"
_COLOUR = {"critical": "bold red", "urgent": "yellow", "routine": "green"}


#: The analysis of a study, or the sentence that says why there is none.
_Result = AnalysisRow | str


@dataclass(kw_only=True)
class _Sent:
    """What was pushed and what came of it."""

    #: StudyInstanceUIDs that were accepted.
    studies: list[str] = field(default_factory=list)
    #: Name and reason of what was refused.
    refused: list[tuple[str, str]] = field(default_factory=list)


def run(settings: Settings, *, studies: Path | None, once: bool, download: bool) -> int:
    """Exit status 0 only if every study was analysed or honestly refused."""
    console = Console()
    supervisor = Supervisor(settings, say=lambda text: console.print(f"[dim]{text} ...[/]"))
    signal.signal(signal.SIGTERM, lambda _number, _frame: supervisor.request_stop())
    began = time.monotonic()
    try:
        with supervisor.running():
            console.print(f"[dim]Ready after {time.monotonic() - began:.1f} s.[/]")
            overread = bootstrap.build(settings)
            try:
                status = _demonstrate(overread, console, studies, download)
            finally:
                overread.close()
            _say_where(settings, console)
            if not once:
                console.print("Serving. Ctrl-C stops everything.")
                supervisor.wait()
            console.print("[dim]Stopping ...[/]")
    except KeyboardInterrupt:
        return 130
    return status


def _demonstrate(overread: bootstrap.Overread, console: Console, studies: Path | None, download: bool) -> int:
    settings = overread.settings
    with _progress(console) as progress:
        if studies is None:
            paths = _samples(settings, progress, download)
            members: Iterable[Member] = [Member(name=path.name, read=path.read_bytes) for path in paths]
            total: int | None = len(paths)
        else:
            members, total = unpack(studies), None
        sent = _send(overread, progress, members, total)
        rows = _wait(overread, progress, sent.studies)
    console.print(_table(rows))
    for name, reason in sent.refused:
        console.print(f"[yellow]refused[/] {name}: {reason}", highlight=False)
    console.print(f"[dim]{DISCLAIMER}[/]")
    failed = [
        r for r in rows.values() if r == _TOO_LATE or _status(r) in (AnalysisStatus.FAILED, AnalysisStatus.CANCELLED)
    ]
    if not rows and not sent.refused:
        console.print("[yellow]There was nothing to read.[/]")
        return 1
    return 1 if failed else 0


def _samples(settings: Settings, progress: Progress, download: bool) -> list[Path]:
    folder = settings.state_dir / "samples"
    task = progress.add_task("Making phantoms", total=None)

    def made(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    paths = write_demo_phantoms(folder, made) + shipped()
    return paths + download_samples() if download else paths


def _send(overread: bootstrap.Overread, progress: Progress, members: Iterable[Member], total: int | None) -> _Sent:
    """Push by C-STORE through the front door, one association for all."""
    sent = _Sent()
    task = progress.add_task("Sending by C-STORE", total=total)
    settings = overread.settings

    def readable() -> Iterator[tuple[str, bytes]]:
        for member in members:
            try:
                yield member.name, member.read()
            except OverreadError as error:
                sent.refused.append((member.name, f"{error.code}: {error}"))

    for name, content, outcome in send_files(
        readable(), host=settings.dicom_host, port=settings.dicom_port, called_ae=bootstrap.DEMO_AE
    ):
        progress.advance(task)
        if outcome.accepted:
            uid = overread.parser.index(content, name=name).study_instance_uid
            if uid not in sent.studies:
                sent.studies.append(uid)
        else:
            sent.refused.append((name, outcome.reason))
    return sent


def _wait(overread: bootstrap.Overread, progress: Progress, uids: list[str]) -> dict[str, _Result]:
    """What became of each study, in the worklist's order."""
    task = progress.add_task("Reading", total=len(uids))
    found: dict[str, _Result] = {}
    deadline = time.monotonic() + _TIMEOUT_S
    while len(found) < len(uids) and time.monotonic() < deadline:
        for uid in uids:
            if uid not in found and (result := _result(overread, uid)) is not None:
                found[uid] = result
                progress.advance(task)
        time.sleep(0.05)
    found = {uid: found.get(uid, _TOO_LATE) for uid in uids}
    return dict(sorted(found.items(), key=lambda item: 1 if isinstance(item[1], str) else -item[1].priority.rank))


def _result(overread: bootstrap.Overread, uid: str) -> _Result | None:
    """None while it is being read. A CT would wait 30 s for more slices: everything was sent, so ask for it now."""
    tenant = bootstrap.DEMO_TENANT
    with overread.database.unit(tenant) as unit:
        study = unit.studies.find(uid)
        row = unit.analyses.latest_for_study(study.id) if study is not None else None
    if row is not None:
        return row if row.status.is_final else None
    if study is not None:
        try:
            overread.requests.create(tenant, study=uid, modality=None, priority=None, requested_by="demo")
        except (NothingToAnalyse, FeatureDisabled, PatientObjected) as error:
            return error.message
    return None


def _status(result: _Result) -> AnalysisStatus | None:
    return None if isinstance(result, str) else result.status


def _table(rows: dict[str, _Result]) -> Table:
    table = Table("study", "modality", "findings", "urgency", "seconds", header_style="bold", expand=False)
    for uid, row in rows.items():
        if isinstance(row, str):
            table.add_row(uid[-16:], "", row, "", "")
            continue
        name = row.study.patient_name.replace("^", " ").strip() or row.study.patient_id or uid[-16:]
        urgency = row.priority.value
        seconds = "" if row.processing_ms is None else f"{row.processing_ms / 1000:.2f}"
        table.add_row(name, row.modality or "?", _findings(row), f"[{_COLOUR[urgency]}]{urgency}[/]", seconds)
    return table


def _findings(row: AnalysisRow) -> str:
    if row.outcome is None:
        return f"{row.status.value}: {row.error_message or row.error_code or ''}"
    if row.outcome.findings:
        return ", ".join(
            f"{f'{count} × ' if count > 1 else ''}{catalogue.entry(f.finding_type).name} {f.confidence:.2f}"
            f"{' (exploratory)' if f.exploratory else ''}"
            for f, count in strongest_of_each_type(row.outcome.findings)
        )
    if row.outcome.assessed:
        return NO_FINDING
    whole = [n.reason for n in row.outcome.not_assessed if not n.finding_type]
    return f"not assessed: {whole[0]}" if whole else "not assessed"


def _say_where(settings: Settings, console: Console) -> None:
    console.print(f"\nWorklist: [bold]{settings.web_address}/[/]", highlight=False)
    console.print(f"DICOM: {bootstrap.DEMO_AE} on {settings.dicom_host}:{settings.dicom_port}", highlight=False)
    logins = Table("user", "password", "role", box=None, header_style="bold")
    for user in seed.USERS:
        logins.add_row(user.name, seed.password_of(settings, user.name), user.role)
    console.print(logins)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
