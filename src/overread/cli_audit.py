"""`overread audit`: check, search, export and expire the trail of who looked at what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from overread.config import Settings
from overread.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from overread.domain.study import TenantId
    from overread.services.audit_verify import TrailReport

audit = typer.Typer(no_args_is_help=True, help="The audit trail: who looked at what, sealed so that nobody changes it.")
_err = Console(stderr=True)

_Tenant = Annotated[str, typer.Option(help="The hospital's short name.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _moment(text: str | None, name: str, *, end: bool = False) -> datetime | None:
    """A date (the whole of it) or an instant, ISO 8601. Raises `InvalidRequest`."""
    if text is None:
        return None
    try:
        if len(text) <= 10:
            return datetime.combine(date.fromisoformat(text), time.max if end else time.min, UTC)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"{name} must be a date or instant, as 2026-01-31 or 2026-01-31T08:00:00Z.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@audit.command(
    epilog="Exit status: 0; 1 if a trail was changed. Examples: `overread audit verify` ·"
    " `overread audit verify --tenant st_mary --json`"
)
def verify(
    tenant: Annotated[str | None, typer.Option(help="Only this hospital; left out: all, deleted ones too.")] = None,
    as_json: _Json = False,
) -> None:
    """Check every row and every seal: nothing changed, missing, put in, moved or cut off at the end."""
    from overread.admin.audit import check

    with _bars(quiet=as_json) as progress:
        reports = check(Settings(), tenant, progress)
    if as_json:
        typer.echo(json.dumps([_as_json(report, archived) for report, archived in reports], indent=2))
    else:
        for report, archived in reports:
            _print(report, archived)
        if not reports:
            typer.echo("There is no audit trail yet.")
    if not all(report.good for report, _ in reports):
        raise typer.Exit(1)


@contextmanager
def _bars(*, quiet: bool) -> Iterator[Callable[[TenantId, int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True, disable=quiet or not _err.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def show(tenant: TenantId, rows: int, total: int) -> None:
            if tenant.slug not in tasks:
                tasks[tenant.slug] = progress.add_task(tenant.slug, total=total)
            progress.update(tasks[tenant.slug], completed=rows)

        yield show


def _as_json(report: TrailReport, archived: bool) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else value

    return {
        "tenant": report.tenant.slug,
        "deleted": archived,
        "unchanged": report.good,
        "rows": report.rows,
        "seals": report.seals,
        "expired": report.expired,
        "pending": report.pending,
        "pendingSince": plain(report.pending_since),
        "lastSeal": report.last_seal,
        "lastHash": report.last_hash,
        "problems": [{key: plain(value) for key, value in asdict(p).items()} for p in report.problems],
        "moreProblems": report.more,
    }


def _print(report: TrailReport, archived: bool) -> None:
    out = Console(highlight=False, soft_wrap=True)
    verdict = "[green]unchanged[/]" if report.good else "[bold red]CHANGED[/]"
    name = f"{report.tenant}{' (deleted)' if archived else ''}"
    out.print(f"[bold]{name}[/]: {verdict}. {report.rows:,} rows in {report.seals:,} seals.")
    if report.expired:
        out.print(f"  {report.expired:,} rows are gone after their time; their seals remember them.")
    if report.last_seal:
        out.print(f"  Last seal {report.last_seal}, {report.last_hash}")
    if report.pending and report.pending_since is not None:
        out.print(f"  {report.pending:,} rows wait for their seal since {report.pending_since:%Y-%m-%d %H:%M:%S} UTC.")
    for problem in report.problems:
        when = ""
        if problem.first_at is not None and problem.last_at is not None:
            when = f" {problem.first_at:%Y-%m-%d %H:%M:%S} to {problem.last_at:%H:%M:%S} UTC:"
        out.print(f"  [red]{problem.fault.value}[/]:{when} {escape(problem.message)}")
    if report.more:
        out.print(f"  [red]and {report.more:,} more[/]")


@audit.command(
    epilog="Examples: `overread audit export --tenant st_mary --since 2026-01-01 --to audit.xml` ·"
    " `overread audit export --tenant st_mary --since 2026-01-01 --syslog tls://siem:6514 --ca siem.pem`"
)
def export(
    tenant: _Tenant,
    since: Annotated[str | None, typer.Option(help="From this date or instant on (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Up to this date (all of it) or instant.")] = None,
    to: Annotated[Path | None, typer.Option(help="A file, one DICOM audit message a line; left out: printed.")] = None,
    syslog: Annotated[str | None, typer.Option(help="A syslog server over TLS instead: tls://HOST[:6514].")] = None,
    ca: Annotated[Path | None, typer.Option(help="Certificates (PEM) by which that server is known.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Our certificate, if it wants one.")] = None,
    key: Annotated[Path | None, typer.Option(help="The key of that certificate.")] = None,
) -> None:
    """Rows as DICOM audit messages (PS3.15 A.5), to a file or a syslog server. The export is itself on record."""
    from overread.admin import audit as admin
    from overread.exchange.syslog import TlsSyslog

    if syslog is not None and to is not None:
        raise InvalidRequest("Give --to or --syslog, not both.")
    begin, end = _moment(since, "--since"), _moment(until, "--until", end=True)
    settings = Settings()
    if syslog is not None:
        sink = TlsSyslog(syslog, ca=ca, certificate=certificate, key=key)
        count = admin.export(settings, tenant, since=begin, until=end, sink=sink, framed=True)
    else:
        with admin.file_sink(to) as written:
            count = admin.export(settings, tenant, since=begin, until=end, sink=written, framed=False)
    _err.print(f"{count:,} messages.", highlight=False)


@audit.command(
    epilog="Examples: `overread audit search --tenant st_mary --actor dr_who` ·"
    " `overread audit search --tenant st_mary --ask-patient --since 2026-01-01`"
)
def search(
    tenant: _Tenant,
    actor: Annotated[str | None, typer.Option(help="User name, AE title or process.")] = None,
    action: Annotated[str | None, typer.Option(help="As image.view; docs/explanation/audit.md lists all.")] = None,
    outcome: Annotated[str | None, typer.Option(help="success, denied or failed.")] = None,
    study: Annotated[UUID | None, typer.Option(help="Our own id of a study.")] = None,
    ask_patient: Annotated[
        bool, typer.Option("--ask-patient", help="Ask for a patient's id: it must not stand on a command line.")
    ] = False,
    since: Annotated[str | None, typer.Option(help="From this date or instant on (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Up to this date (all of it) or instant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Rows at most.")] = 50,
    as_json: _Json = False,
) -> None:
    """Rows of a hospital's trail, newest first. The search is itself on record."""
    from overread.admin import audit as admin
    from overread.domain.audit import AuditAction, AuditFilter, AuditOutcome, PatientRef

    patient = None
    if ask_patient:
        number = typer.prompt("PatientID", err=True).strip()
        issuer = typer.prompt("Issuer (empty: any)", default="", show_default=False, err=True).strip()
        patient = PatientRef(issuer=issuer, patient_id=number)
    try:
        flt = AuditFilter(
            actor=actor,
            action=AuditAction(action) if action else None,
            outcome=AuditOutcome(outcome) if outcome else None,
            study_id=study,
            date_from=_moment(since, "--since"),
            date_to=_moment(until, "--until", end=True),
            limit=limit,
        )
    except ValueError as error:
        raise InvalidRequest(f"{error}.", remedy="docs/explanation/audit.md lists actions and outcomes.") from error
    events = admin.search(Settings(), tenant, flt, patient)
    if as_json:
        typer.echo(json.dumps([asdict(event) for event in events], indent=2, default=str))
        return
    table = Table("when (UTC)", "who", "what", "outcome", "study", "patient", "from", box=None)
    for event in events:
        table.add_row(
            f"{event.at:%Y-%m-%d %H:%M:%S}",
            escape(f"{event.actor.name} ({event.actor.role or event.actor.kind.value})"),
            event.action,
            f"{event.outcome} {event.code}".strip(),
            str(event.study_id or ""),
            (event.patient or "")[:12],
            escape(f"{event.actor.address} {event.actor.channel}".strip()),
        )
    Console().print(table)


@audit.command(epilog="Examples: `overread audit expire --dry-run` · `overread audit expire --tenant st_mary`")
def expire(
    tenant: Annotated[str | None, typer.Option(help="Only this hospital; left out: all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Drop years that are older than OVERREAD_AUDIT_YEARS (7 at least); a seal remembers what was in them."""
    from overread.admin import audit as admin

    done = admin.expire(Settings(), tenant, dry_run=dry_run)
    for one, gone in done:
        typer.echo(f"{one}: {gone.year}, {gone.rows:,} rows {'would go' if dry_run else 'are gone'}.")
    if not done:
        typer.echo("Nothing is old enough.")
