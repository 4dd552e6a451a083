"""`overread optout` and `overread patient`: patients who object to AI, and the report of who saw a patient's studies.

For the operator, on the machine itself: with the tenant's own log-in, and on record as the command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from overread import bootstrap
from overread.config import Settings
from overread.domain.errors import NotFound
from overread.domain.study import TenantId
from overread.services.optout import OptOutService
from overread.services.patient_report import PatientReportService

optout = typer.Typer(no_args_is_help=True, help="Patients who object to AI: nothing of theirs is analysed.")
patient = typer.Typer(no_args_is_help=True, help="What a patient may ask for.")

#: As the audit trail names it.
_BY = "command line"

_Tenant = Annotated[str, typer.Argument(help="The hospital's short name.")]
_Patient = Annotated[str, typer.Argument(help="PatientID (0010,0020).")]
_Issuer = Annotated[str, typer.Option(help="IssuerOfPatientID (0010,0021); left out: the number under any issuer.")]
_Reason = Annotated[str, typer.Option(help="Why, or where the objection is on file. Never the patient's name.")]


@contextmanager
def _installation(tenant: str) -> Iterator[tuple[bootstrap.Overread, TenantId]]:
    """The parts, and the tenant if there is one. Raises `NotFound`."""
    built = bootstrap.build(Settings())
    try:
        known = {t.slug: t for t in built.directory.tenants()}
        if tenant not in known:
            raise NotFound(f"There is no tenant {tenant!r}.", remedy=f"Known: {', '.join(sorted(known)) or 'none'}.")
        yield built, known[tenant]
    finally:
        built.close()


def _opt_outs(built: bootstrap.Overread) -> OptOutService:
    return OptOutService(database=built.database, clock=bootstrap.now)


@optout.command("add", epilog='Example: `overread optout add demo 4711 --reason "letter of 3 May"`')
def add(tenant: _Tenant, patient_id: _Patient, reason: _Reason, issuer: _Issuer = "") -> None:
    """Put a patient on the list: from now on nothing is analysed, what waits or runs is cancelled."""
    with _installation(tenant) as (built, of):
        done = _opt_outs(built).add(of, patient_id=patient_id, issuer=issuer, reason=reason, by=_BY)
    typer.echo(f"On the list as {done.opt_out.pseudonym}: {done.studies} studies here, {done.cancelled} cancelled.")


@optout.command("remove", epilog='Example: `overread optout remove demo 4711 --reason "changed their mind"`')
def remove(tenant: _Tenant, patient_id: _Patient, reason: _Reason, issuer: _Issuer = "") -> None:
    """Take a patient off the list: what comes from now on is analysed again."""
    with _installation(tenant) as (built, of):
        service = _opt_outs(built)
        found = service.find(of, patient_id=patient_id, issuer=issuer)
        if found is None:
            raise NotFound("This patient is not on the list.", remedy="Check the number and the issuer.")
        service.remove(of, found.id, reason=reason, by=_BY)
    typer.echo(f"{found.pseudonym} is off the list.")


@optout.command("list", epilog="Example: `overread optout list demo --all`")
def list_(
    tenant: _Tenant, all_: Annotated[bool, typer.Option("--all", help="Those that were taken back too.")] = False
) -> None:
    """Who is on the list, by pseudonym: nobody can be read off it."""
    with _installation(tenant) as (built, of):
        rows = _opt_outs(built).all(of, by=_BY, with_removed=all_)
    for row in rows:
        issuer = "any issuer" if row.any_issuer else "one issuer"
        back = f"  taken back {row.removed_at:%Y-%m-%d %H:%M} by {row.removed_by}" if row.removed_at else ""
        typer.echo(f"{row.pseudonym}  {row.added_at:%Y-%m-%d %H:%M}  {row.added_by}  {issuer}  {row.reason}{back}")
    if not rows:
        typer.echo("Nobody is on the list.")


@patient.command("report", epilog="Example: `overread patient report demo 4711`")
def report(tenant: _Tenant, patient_id: _Patient, issuer: _Issuer = "") -> None:
    """Who looked at this patient's studies, had them analysed, took them out. Itself on record."""
    with _installation(tenant) as (built, of):
        made = PatientReportService(database=built.database, clock=bootstrap.now).report(
            of, patient_id=patient_id, issuer=issuer, by=_BY
        )
    numbers: dict[str, int] = {}
    typer.echo(f"Patient {made.patient_id}, {made.made_at:%Y-%m-%d %H:%M} UTC")
    typer.echo(f"Objection to AI: {f'since {made.opt_out.added_at:%Y-%m-%d}' if made.opt_out else 'none'}")
    for number, study in enumerate(made.studies, start=1):
        numbers[study.study_instance_uid] = number
        note = f"  {study.not_analysed.sentence}" if study.not_analysed else ""
        typer.echo(f"Study {number}: {study.study_instance_uid}  received {study.received_first:%Y-%m-%d %H:%M}{note}")
    for line in made.lines:
        of_study = f"  study {numbers[line.study]}" if line.study else ""
        times = f"  {line.times} times" if line.times > 1 else ""
        ended = "" if line.outcome == "success" else f"  ({line.outcome})"
        typer.echo(f"{line.first:%Y-%m-%d %H:%M}  {line.who}  {line.what}{of_study}{times}{ended}")
    if not made.lines:
        typer.echo("Nothing is on record.")
