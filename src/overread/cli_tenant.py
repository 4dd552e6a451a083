"""`overread tenant`: the hospitals of an installation, for its operator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from overread.config import Settings
from overread.domain.errors import InvalidRequest

tenant = typer.Typer(no_args_is_help=True, help="The hospitals of this installation; none sees another.")
_err = Console(stderr=True)

Slug = Annotated[str, typer.Argument(help="The hospital's short name, as in `overread tenant list`.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept on record.")]


@tenant.command(epilog='Example: `overread tenant create st_mary --name "St Mary\'s Hospital"`')
def create(
    slug: Annotated[str, typer.Argument(help="A short name that is never used again: a-z, 0-9, _.")],
    name: Annotated[str, typer.Option(help="Its name, for people.")],
) -> None:
    """Make a hospital: its own schema, database log-in and queue. Run it again if it was interrupted."""
    from overread.admin import tenants

    made = tenants.create(Settings(), slug, name)
    typer.echo(f"{slug} is there." if made else f"{slug} was there already; it is up to date.")


@tenant.command("list", epilog="Example: `overread tenant list`")
def list_tenants() -> None:
    """Show all hospitals: state, studies, users, senders, size."""
    from overread.admin import tenants

    table = Table("tenant", "name", "state", "studies", "users", "senders", "database", "objects", box=None)
    for one in tenants.listing(Settings()):
        state = f"{one.state.state}: {one.state.reason}" if one.state.reason else one.state.state
        table.add_row(
            one.state.tenant.slug,
            one.state.name,
            state,
            _number(one.size.studies),
            _number(one.size.users),
            str(one.size.senders),
            _bytes(one.size.database_bytes),
            "-" if one.size.object_bytes is None else _bytes(one.size.object_bytes),
        )
    Console().print(table)


@tenant.command(epilog='Example: `overread tenant suspend st_mary --reason "contract ended"`')
def suspend(slug: Slug, reason: Reason) -> None:
    """Stop working for a hospital: log-ins, open sessions, DICOM, jobs. Nothing is deleted; queued jobs wait."""
    from overread.admin import tenants

    tenants.suspend(Settings(), slug, _said(reason))
    typer.echo(f"{slug} is suspended.")


@tenant.command(epilog='Example: `overread tenant resume st_mary --reason "contract renewed"`')
def resume(slug: Slug, reason: Reason) -> None:
    """Work for a suspended hospital again; its queued jobs go on."""
    from overread.admin import tenants

    tenants.resume(Settings(), slug, _said(reason))
    typer.echo(f"{slug} is open again.")


@tenant.command(epilog="Examples: `overread tenant migrate` · `overread tenant migrate st_mary`")
def migrate(
    slugs: Annotated[list[str] | None, typer.Argument(help="Only these hospitals; left out: all.")] = None,
) -> None:
    """Bring hospitals' databases up to date again: for those that are out of service since a migration failed."""
    from overread.admin import tenants

    failures = tenants.migrate_all(Settings(), tuple(slugs or ()))
    for failure in failures:
        _err.print(f"[red]out of service[/] {failure.tenant}: {failure.reason}", highlight=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)
    typer.echo("All are up to date.")


@tenant.command(epilog="Example: `overread tenant export st_mary --to /media/disk/st_mary`")
def export(
    slug: Slug,
    to: Annotated[Path, typer.Option(help="An empty folder, or one in which this export was interrupted.")],
) -> None:
    """Write everything of a hospital in open formats: DICOM files, tables as JSON lines, audit trail, manifest."""
    from overread.admin import tenant_export

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err) as bar:
        task = bar.add_task("objects", total=None)
        done = tenant_export.export(
            Settings(), slug, to, lambda number, total: bar.update(task, completed=number, total=total)
        )
    typer.echo(
        f"{done.objects} objects ({done.kept} were there), {done.rows} rows, {_bytes(done.bytes)}: {done.folder}"
    )
    if done.missing:
        _err.print(f"[red]{done.missing} objects are missing in the object store[/]; the manifest names them.")
        raise typer.Exit(1)


@tenant.command(epilog="Example: `overread tenant delete st_mary --yes-delete st_mary`")
def delete(
    slug: Slug,
    yes_delete: Annotated[str | None, typer.Option(help="The short name once more, instead of being asked.")] = None,
) -> None:
    """Delete a suspended hospital for good: tables, objects, jobs, and the key that could read its backups."""
    from overread.admin import tenants

    settings = Settings()
    state = tenants.check_deletable(settings, slug)
    if yes_delete is None:
        size = tenants.size(settings, slug)
        _err.print(
            f"This deletes {state.name} ({slug}) for good: {_number(size.studies)} studies, "
            f"{_number(size.users)} users."
            " Its key is destroyed: what is left of its objects is worthless."
            " Backups made before still hold that key, wrapped: delete them too.",
            highlight=False,
        )
        yes_delete = typer.prompt(f"Type {slug} to delete it", err=True)
    if yes_delete != slug:
        raise InvalidRequest("That is not its name; nothing was deleted.")
    tenants.delete(settings, slug, lambda step: _err.print(f"[dim]{step} ...[/]"))
    typer.echo(f"{slug} is deleted. Its audit trail stays in the archive; its name is not used again.")


@tenant.command(
    "set", epilog='Example: `overread tenant set st_mary models.chest_xray 1.0.0 --reason "validated by our physicist"`'
)
def set_setting(
    slug: Slug,
    key: Annotated[str, typer.Argument(help="As `overread tenant settings` lists them.")],
    value: Annotated[str, typer.Argument(help="Or `default`.")],
    reason: Reason,
) -> None:
    """Decide something for a hospital (models, evidence bar, retention, limits); it goes on record."""
    from overread.admin import tenants

    row = tenants.change_setting(Settings(), slug, key, value, reason)
    typer.echo(f"{row.key} of {slug} is {value}. Processes follow within seconds.")


@tenant.command("settings", epilog="Example: `overread tenant settings st_mary`")
def show_settings(slug: Slug) -> None:
    """Show what a hospital has decided, by whom, when and why, and what there is to decide."""
    from overread.admin import tenants
    from overread.services.tenant_settings import KEYS, shown

    stored = {row.key: row for row in tenants.stored_settings(Settings(), slug)}
    table = Table("setting", "value", "by", "when (UTC)", "why", box=None)
    for key in KEYS:
        if not key.name.endswith(".") and key.name not in stored:
            table.add_row(key.name, f"default: {key.default}", "", "", "")
    for name, row in stored.items():
        when = row.changed_at.strftime("%Y-%m-%d %H:%M")
        table.add_row(name, shown(row.value), row.changed_by, when, row.reason)
    Console().print(table)
    for key in KEYS:
        suffix = "..." if key.name.endswith(".") else ""
        _err.print(f"[dim]{key.name}{suffix}: {key.meaning} Default: {key.default}.[/]", highlight=False)


def _said(reason: str) -> str:
    if not reason.strip():
        raise InvalidRequest("Say why.", parameter="reason")
    return " ".join(reason.split())[:500]


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
