"""The `overread` command."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from overread import __version__, cli_user
from overread.cli_analyze import EPILOG as ANALYZE_EPILOG
from overread.cli_analyze import analyze
from overread.cli_audit import audit
from overread.cli_backup import BACKUP_EPILOG, RESTORE_EPILOG, backup, restore
from overread.cli_deidentify import EPILOG as DEIDENTIFY_EPILOG
from overread.cli_deidentify import EXPORT_EPILOG, deidentify, export
from overread.cli_keys import keys
from overread.cli_optout import optout, patient
from overread.cli_pacs import pacs
from overread.cli_retention import retention
from overread.cli_tenant import tenant
from overread.cli_validate import EPILOG as VALIDATE_EPILOG
from overread.cli_validate import validate
from overread.config import Settings
from overread.domain.errors import OverreadError
from overread.domain.texts import DISCLAIMER

app = typer.Typer(
    name="overread",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Reads every imaging study before the radiologist does. " + DISCLAIMER,
    epilog="Examples: `overread demo` · `overread analyze chest.dcm` · `overread serve` · `overread doctor`",
)
_err = Console(stderr=True)


def main() -> None:
    """Entry point: an expected error is one sentence and status 2, never a traceback."""
    try:
        app()
    except OverreadError as error:
        _fail(error)


def _fail(error: OverreadError) -> NoReturn:
    _err.print(f"[red]{error.code}[/]: {error}", highlight=False, soft_wrap=True)
    sys.exit(2)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"overread {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


app.command(epilog=ANALYZE_EPILOG)(analyze)
app.command(epilog=VALIDATE_EPILOG)(validate)
app.command(epilog=DEIDENTIFY_EPILOG)(deidentify)
app.command(epilog=EXPORT_EPILOG)(export)
app.command(epilog=BACKUP_EPILOG)(backup)
app.command(epilog=RESTORE_EPILOG)(restore)


@app.command(epilog="Example: `OVERREAD_HTTP_PORT=9000 overread serve`")
def serve(
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    api_processes: Annotated[int | None, typer.Option(min=1, help="Web server processes that share the port.")] = None,
) -> None:
    """Start database (embedded unless OVERREAD_DATABASE_URL is set), receiver, worker and web; Ctrl-C stops them."""
    from overread.supervisor import Supervisor

    settings = Settings()
    if api_processes is not None:
        settings = settings.model_copy(update={"api_processes": api_processes})
    supervisor = Supervisor(settings, say=lambda text: _err.print(f"[dim]{text} ...[/]"), workers=workers)
    signal.signal(signal.SIGTERM, lambda _number, _frame: supervisor.request_stop())
    with supervisor.running():
        _err.print(
            f"Web: {settings.web_address}   DICOM: {settings.dicom_host}:{settings.dicom_port}   Ctrl-C stops.",
            highlight=False,
        )
        supervisor.wait()
        _err.print("[dim]Stopping ...[/]")


@app.command(epilog="Example: `overread api` behind a load balancer, with OVERREAD_DATABASE_URL set")
def api(
    name: Annotated[str, typer.Option(help="Shown in logs.")] = "api",
    socket_number: Annotated[int | None, typer.Option("--socket", hidden=True)] = None,
) -> None:
    """Serve the API and the pages only."""
    import socket

    from overread import bootstrap
    from overread.http import server
    from overread.supervisor import follow_parent, mark_ready

    settings = Settings()
    follow_parent()
    files = settings.http_tls
    tls = server.tls_context(*files) if files else None
    overread = bootstrap.build(settings)
    application = bootstrap.build_app(overread)
    server.run(
        application,
        host=settings.http_host,
        port=settings.http_port,
        tls=tls,
        ready=lambda: mark_ready(settings, name),
        listening=socket.socket(fileno=socket_number) if socket_number is not None else None,
    )
    overread.close()


@app.command(epilog="Example: `OVERREAD_DICOM_HOST=0.0.0.0 overread receive`")
def receive() -> None:
    """Receive by DICOM (C-STORE, C-ECHO) only."""
    from overread import receiver
    from overread.supervisor import follow_parent, mark_ready

    settings = Settings()
    follow_parent()
    raise typer.Exit(receiver.run(settings, ready=lambda: mark_ready(settings, "receiver")))


@app.command(epilog="Example: `overread worker --name worker-2`")
def worker(name: Annotated[str, typer.Option(help="Shown in logs.")] = "worker-1") -> None:
    """Analyse studies only."""
    from overread import worker as process
    from overread.supervisor import follow_parent, mark_ready

    settings = Settings()
    follow_parent()
    process.run(settings, ready=lambda: mark_ready(settings, name))


@app.command(epilog="Examples: `overread demo` · `overread demo --once` · `overread demo --studies /media/cd`")
def demo(
    studies: Annotated[
        Path | None, typer.Option(help="Send this folder (or ZIP, or file) of DICOM instead of our samples.")
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Exit when all is read: 0 only if every study was analysed or honestly refused."),
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Also fetch public real studies (needs the internet), checked by sha256.")
    ] = False,
) -> None:
    """Start everything, send sample studies through our own DICOM port, print what was found, and go on serving."""
    from overread.demo import run

    raise typer.Exit(run(Settings(), studies=studies, once=once, download=download))


app.add_typer(tenant, name="tenant")

sender = typer.Typer(no_args_is_help=True, help="Which DICOM peers may send, and for which tenant.")
app.add_typer(sender, name="sender")
app.add_typer(keys, name="keys")
keys.command("rotate-tokens", epilog="Example: `overread keys rotate-tokens`")(cli_user.rotate_tokens)
app.add_typer(cli_user.user, name="user")
app.add_typer(cli_user.apikey, name="apikey")
app.add_typer(cli_user.provider, name="oidc")
app.add_typer(audit, name="audit")
app.add_typer(optout, name="optout")
app.add_typer(patient, name="patient")
app.add_typer(pacs, name="pacs")
app.add_typer(retention, name="retention")


@sender.command(
    "add", epilog="Example: `overread sender add --called-ae OVERREAD --network 10.1.2.0/24 --calling-ae CT_1`"
)
def sender_add(
    called_ae: Annotated[str, typer.Option(help="AE title that the sender calls.")],
    network: Annotated[str | None, typer.Option(help="Its address or network, as 10.1.2.3 or 10.1.2.0/24.")] = None,
    calling_ae: Annotated[str | None, typer.Option(help="Its own AE title; left out: any from there.")] = None,
    certificate_sha256: Annotated[str | None, typer.Option(help="Of its TLS certificate, 64 hex digits.")] = None,
    tenant: Annotated[str, typer.Option(help="Whose objects these are.")] = "demo",
) -> None:
    """Let a modality or PACS send. An AE title alone is no identity: give its network or certificate too."""
    from overread import admin

    admin.add_sender(
        Settings(),
        tenant=tenant,
        called_ae=called_ae,
        network=network,
        calling_ae=calling_ae,
        certificate_sha256=certificate_sha256,
    )
    typer.echo(f"{called_ae} is open for it from the next association on.")


@sender.command("list", epilog="Example: `overread sender list`")
def sender_list() -> None:
    """Show all registered senders."""
    from rich.table import Table

    from overread import admin

    table = Table("number", "tenant", "called AE", "network", "calling AE", "certificate", box=None)
    for row in admin.senders(Settings()):
        table.add_row(*row)
    Console().print(table)


@sender.command("remove", epilog="Example: `overread sender remove 3`")
def sender_remove(number: Annotated[int, typer.Argument(help="From `overread sender list`.")]) -> None:
    """Forget a sender; its next association is rejected."""
    from overread import admin

    admin.remove_sender(Settings(), number)
    typer.echo("Removed.")


model = typer.Typer(no_args_is_help=True, help="Model packages: which are installed, and a site's own.")
app.add_typer(model, name="model")


@model.command("install", epilog="Example: `overread model install acme_chest-2.1.0.zip --sha256 9f2c...`")
def model_install(
    package: Annotated[Path, typer.Argument(help="A folder or ZIP with model.onnx and card.toml.")],
    sha256: Annotated[
        str | None, typer.Option(help="Of the ZIP (or of model.onnx in a folder), from its maker.")
    ] = None,
) -> None:
    """Check a package and copy it to the site's models. Workers use it from their next start."""
    from overread.inference.package import install

    identity = install(package, Settings().models_dir, sha256=sha256).card.identity
    typer.echo(f"{identity} is installed (sha256 {identity.sha256}). Restart the workers to use it.")


@model.command("list", epilog="Example: `overread model list`")
def model_list() -> None:
    """Show the packages that answer, and those that cannot be used, with the reason."""
    from rich.table import Table

    from overread import bootstrap

    registry = bootstrap.registry(Settings())
    table = Table("model", "task", "looks for", "sha256", box=None)
    for card in registry.cards():
        outputs = ", ".join(output.evidence.finding for output in card.outputs)
        table.add_row(str(card.identity), card.task, outputs, card.identity.sha256[:12])
    Console().print(table)
    for refused in registry.refused:
        _err.print(f"[red]refused[/] {refused.path}: {refused.reason}", highlight=False, soft_wrap=True)
    registry.close()


@app.command(epilog="Exit status: 0; 1 if something needs care. Examples: `overread doctor` · `overread doctor --json`")
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Compare every object with the database too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this installation, from the disk to the last backup, and say how to mend what is wrong."""
    from overread.doctor import run

    raise typer.Exit(run(Settings(), deep=deep, json_output=as_json))
