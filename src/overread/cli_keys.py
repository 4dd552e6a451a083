"""`overread keys`: the data keys of tenants and the master key that wraps them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from overread.config import Settings

keys = typer.Typer(no_args_is_help=True, help="Keys that encrypt objects and identifiers: look, rotate, encrypt again.")

_Tenant = Annotated[str, typer.Argument(help="Short name of the tenant.")]


@keys.command("status", epilog="Example: `overread keys status`")
def status() -> None:
    """Show every version of every tenant's keys, and which master key wraps it. Never a key."""
    from overread.admin import keys as admin

    table = Table("tenant", "key", "version", "state", "master key", "since", "plain objects", box=None)
    for s in admin.states(Settings()):
        since = f"{s.changed_at:%Y-%m-%d %H:%M}"
        plain = "still read" if s.plain_readable and s.purpose == "data" else ""
        table.add_row(s.tenant, s.purpose, str(s.version), s.state, s.master, since, plain)
    Console().print(table)


@keys.command("rotate-data", epilog="Example: `overread keys rotate-data st_marys`, then `... reencrypt st_marys`")
def rotate_data(tenant: _Tenant) -> None:
    """Give a tenant a new data key. Everything new is encrypted with it within seconds; the old stays readable."""
    from overread.admin import keys as admin

    version = admin.rotate_data(Settings(), tenant)
    typer.echo(f"{tenant} encrypts with version {version} now.")
    typer.echo(f"What is stored is still under the older key: overread keys reencrypt {tenant}")


@keys.command("reencrypt", epilog="Example: `overread keys reencrypt st_marys`")
def reencrypt(
    tenant: _Tenant,
    again: Annotated[bool, typer.Option("--again", help="Look at everything from the beginning.")] = False,
) -> None:
    """Encrypt all of a tenant by its present data key, then delete the older ones. May be stopped and run again."""
    from overread.admin import keys as admin

    console = Console(stderr=True)
    unreadable = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        tasks = {}
        for step in admin.reencrypt(Settings(), tenant, start_over=again):
            if step.what not in tasks:
                tasks[step.what] = bar.add_task(step.what, total=step.total)
            bar.update(tasks[step.what], completed=step.done, total=step.total)
            unreadable = max(unreadable, step.unreadable)
    typer.echo(f"All of {tenant} is encrypted by its present data key.")
    if unreadable:
        typer.echo(f"{unreadable} objects are missing or damaged and were left as they are: overread doctor")


@keys.command("rotate-master", epilog="Example: `overread keys rotate-master`")
def rotate_master() -> None:
    """Wrap all data keys by a new master key. Objects stay as they are; nothing stops."""
    from overread.admin import keys as admin

    done = admin.rotate_master(Settings())
    typer.echo(f"{done.wrapped} data keys were wrapped anew, by {done.master}.")
    typer.echo("Back the new master key up, apart from the data.")
