"""`overread backup` and `overread restore`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from overread.config import Settings

if TYPE_CHECKING:
    from overread.backup.write import Progress as Told

BACKUP_EPILOG = (
    "Examples: `overread backup --to /mnt/backup --keys-to /mnt/vault/overread-keys` ·"
    " `overread backup --to /mnt/backup --no-keys`"
)
RESTORE_EPILOG = (
    "Examples: `overread restore /mnt/backup --keys-from /mnt/vault/overread-keys` ·"
    " `overread restore /mnt/backup --check`"
)


@contextmanager
def _bars() -> Iterator[Told]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield told


def backup(
    to: Annotated[Path, typer.Option(help="Folder of the backups; what is in it already is not copied again.")],
    keys_to: Annotated[Path | None, typer.Option(help="Another folder, for secret.key and master.key.")] = None,
    keys_with_data: Annotated[bool, typer.Option("--keys-with-data", help="Put the keys beside the data.")] = False,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Leave the keys out: you keep them yourself.")] = False,
) -> None:
    """Copy everything while the installation serves: database, objects, models, settings; and the keys, apart."""
    from overread.backup import KeyPlace
    from overread.backup import backup as make

    began = time.monotonic()
    with _bars() as told:
        made = make(Settings(), to, KeyPlace(folder=keys_to, with_data=keys_with_data, nowhere=no_keys), told)
    typer.echo(
        f"Backup {made.manifest.name} is in {to}: {made.manifest.rows} rows, {made.objects} objects"
        f" ({made.copied} new, {made.bytes_copied / 1e6:.1f} MB), in {time.monotonic() - began:.1f} s."
    )
    if made.keys is None:
        typer.echo("The keys are not in it: without secret.key and master.key nobody can read it, you neither.")
    else:
        typer.echo(f"The keys are in {made.keys}: keep them apart from the data.")
    if made.keys_lack:
        typer.echo(f"Not there is {made.keys_lack}.")
    if made.missing:
        typer.echo(f"{made.missing} objects that the database names are missing in the object store: overread doctor")
        raise typer.Exit(1)


def restore(
    folder: Annotated[Path, typer.Argument(help="What `overread backup --to` wrote.")],
    keys_from: Annotated[Path | None, typer.Option(help="Folder of secret.key and master.key.")] = None,
    name: Annotated[str | None, typer.Option(help="Which backup, as 20260131T030000Z; left out: the newest.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only read all of it and compare it with its hashes.")] = False,
) -> None:
    """Put a backup into an empty machine. Interrupted, it goes on when it is run again."""
    from overread import backup as backups
    from overread.backup.restore import check_keys_apart

    began = time.monotonic()
    if check:
        with _bars() as told:
            manifest = backups.check(folder, name, told)
        objects = sum(index.count for index in manifest.objects)
        typer.echo(f"Backup {manifest.name} is whole: {manifest.rows} rows, {objects} objects.")
        return
    check_keys_apart(folder, keys_from)
    with _bars() as told:
        done = backups.restore(Settings(), folder, keys=keys_from, name=name, progress=told)
    typer.echo(
        f"Backup {done.name} is restored: {len(done.tenants)} hospitals, {done.rows} rows, {done.objects} objects"
        f" ({done.bytes / 1e6:.1f} MB), in {time.monotonic() - began:.1f} s. As of {done.at:%Y-%m-%d %H:%M:%S} UTC."
    )
    typer.echo("Its settings are in settings-of-backup.json of the state folder. Next: overread serve")
    if done.missing:
        typer.echo(f"{done.missing} objects were missing already when the backup was made.")
