"""`overread retention`: what goes and why the rest stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from overread import bootstrap
from overread.config import Settings
from overread.domain.errors import NotFound
from overread.domain.study import TenantId
from overread.services.retention import Heap, Plan

retention = typer.Typer(no_args_is_help=True, help="What is removed after its time, and why the rest stays.")


@contextmanager
def installation(tenant: str | None) -> Iterator[tuple[bootstrap.Overread, tuple[TenantId, ...]]]:
    """The parts, and the named hospital or all. Raises `NotFound`."""
    built = bootstrap.build(Settings())
    try:
        known = {t.slug: t for t in built.directory.tenants()}
        if tenant is not None and tenant not in known:
            raise NotFound(f"There is no tenant {tenant!r}.", remedy=f"Known: {', '.join(sorted(known)) or 'none'}.")
        yield built, (known[tenant],) if tenant is not None else tuple(known.values())
    finally:
        built.close()


@retention.callback()
def _root() -> None: ...


@retention.command("run", epilog="Example: `overread retention run --tenant demo --dry-run`")
def run(
    tenant: Annotated[str | None, typer.Option(help="One hospital only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go and why the rest stays.")] = False,
) -> None:
    """Remove now what the worker removes every hour: nothing that the PACS has not confirmed to keep."""
    with installation(tenant) as (built, tenants):
        service = bootstrap.retention(built)
        for each in tenants:
            if dry_run:
                _show(each, service.plan(each))
                continue
            done = service.run(each)
            typer.echo(
                f"{each}: {done.instances} received images and {done.segs} segmentations removed; of objects that no"
                f" row names {done.aside} put aside, {done.unnamed} removed, {done.restored} put back."
            )


def _show(tenant: TenantId, plan: Plan) -> None:
    table = Table("", "objects", "size", "why", title=f"{tenant}", title_justify="left", box=None)
    for goes, heap in plan.goes.items():
        table.add_row("goes", str(heap.count), _size(heap), goes.value)
    for stays, heap in plan.stays.items():
        table.add_row("stays", str(heap.count), _size(heap), stays.value)
    console = Console()
    console.print(table)
    if not plan.goes and not plan.stays:
        typer.echo("Nothing is stored.")
    if plan.missing_count:
        typer.echo(f"{plan.missing_count} objects that a row names are missing, such as {', '.join(plan.missing)}")


def _size(heap: Heap) -> str:
    return f"{heap.bytes / 1024**2:.1f} MiB"
