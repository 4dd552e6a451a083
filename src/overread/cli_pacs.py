"""`overread pacs`: the hospital's archive, which is asked whether it keeps the images."""

from __future__ import annotations

from typing import Annotated

import typer

from overread import bootstrap
from overread.cli_retention import installation
from overread.services.custody import shown
from overread.services.custody_ports import Pacs

pacs = typer.Typer(no_args_is_help=True, help="The hospital's PACS: nothing goes from here that it does not keep.")

#: As the audit trail names it.
_BY = "command line"
_Tenant = Annotated[str, typer.Argument(help="The hospital's short name.")]


@pacs.command("set", epilog="Example: `overread pacs set demo --ae ARCHIVE --host 10.0.0.7 --port 104`")
def set_(
    tenant: _Tenant,
    ae: Annotated[str, typer.Option("--ae", help="AE title of the PACS.")],
    host: Annotated[str, typer.Option(help="Its name or address.")],
    port: Annotated[int, typer.Option(help="Its port.")],
    tls: Annotated[bool, typer.Option("--tls", help="Ask over TLS, with OVERREAD_DICOM_TLS_*.")] = False,
    own_ae: Annotated[str, typer.Option(help="Our AE title, as the PACS knows it.")] = "OVERREAD",
    ask_after: Annotated[int, typer.Option(min=0, help="Hours after reception.")] = 24,
) -> None:
    """Ask this PACS, every hour, whether it keeps what was received (DICOM Storage Commitment)."""
    made = Pacs(ae_title=ae, host=host, port=port, tls=tls, own_ae_title=own_ae, ask_after_hours=ask_after)
    with installation(tenant) as (built, (of,)):
        bootstrap.custody(built).set_pacs(of, made, by=_BY)
    typer.echo(f"{tenant} asks {shown(made)}.")
    typer.echo(
        f"Its answers come to {own_ae} on the DICOM port: register it with `overread sender add`."
        f" Images go only after: overread tenant set {tenant} received_days DAYS"
    )


@pacs.command("show", epilog="Example: `overread pacs show demo`")
def show(tenant: _Tenant) -> None:
    """Show the PACS, and how many images it keeps."""
    with installation(tenant) as (built, (of,)):
        found = bootstrap.custody(built).pacs(of)
        with built.database.unit(of) as unit:
            counts = unit.custody.custody_counts()
    typer.echo(f"PACS: {shown(found)}")
    typer.echo(
        f"{counts['in custody']} images are here and in the PACS, {counts['removed']} in the PACS only,"
        f" {counts['waiting']} not confirmed."
    )


@pacs.command("remove", epilog="Example: `overread pacs remove demo`")
def remove(tenant: _Tenant) -> None:
    """Ask nobody any more: from now on every image stays."""
    with installation(tenant) as (built, (of,)):
        bootstrap.custody(built).set_pacs(of, None, by=_BY)
    typer.echo(f"{tenant} has no PACS now; every image stays.")


@pacs.command("ask", epilog="Example: `overread pacs ask demo`")
def ask(tenant: _Tenant) -> None:
    """Ask now what the worker asks every hour."""
    with installation(tenant) as (built, (of,)):
        done = bootstrap.custody(built, bootstrap.commitment_peer(built.settings)).ask(of)
    typer.echo(f"Asked about {done.instances} images in {done.requests} requests; {done.failed} could not be sent.")
