"""`overread doctor`: is this installation well? One line a part, and what to do where it is not."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from uuid import uuid4

import psycopg
from rich.console import Console
from rich.table import Table

from overread import bootstrap
from overread.config import Settings
from overread.dicom.decoders import missing_decoders
from overread.domain.errors import OverreadError
from overread.domain.study import TenantId
from overread.store import roles

_LOW_DISK_GIB = 5.0


def run(settings: Settings) -> int:
    """Print the checks; 0 if all is well, 1 if something needs care."""
    overread = bootstrap.build(settings)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("state folder", lambda: _state(settings)),
        ("database", lambda: _database(overread)),
        ("object store", lambda: _objects(overread)),
        ("keys", lambda: _keys(overread)),
        ("models", lambda: _models(settings)),
        ("decoders", _decoders),
        ("web port", lambda: _port(settings.http_host, settings.http_port)),
        ("DICOM port", lambda: _port(settings.dicom_host, settings.dicom_port)),
        ("dead letters", lambda: _dead_letters(overread)),
    ]
    table = Table("part", "state", "", box=None, header_style="bold")
    ill = 0
    for name, check in checks:
        try:
            table.add_row(name, "[green]well[/]", check())
        except (OverreadError, OSError, psycopg.Error) as error:
            ill += 1
            table.add_row(name, "[red]needs care[/]", " ".join(str(error).split()))
    overread.close()
    Console().print(table)
    return 1 if ill else 0


class _NeedsCare(OverreadError):
    """A check found something."""

    code = "NEEDS_CARE"


def _state(settings: Settings) -> str:
    folder = settings.prepare_state()
    free = shutil.disk_usage(folder).free / 1024**3
    if free < _LOW_DISK_GIB:
        raise _NeedsCare(f"{folder}: only {free:.1f} GiB free.", remedy="Free some space.")
    return f"{folder}, {free:.0f} GiB free"


def _database(overread: bootstrap.Overread) -> str:
    with psycopg.connect(overread.login(roles.DOOR), connect_timeout=3) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    for slug, reason in overread.directory.out_of_service():
        raise _NeedsCare(f"The hospital {slug} is out of service: {reason}.", remedy="Run `overread tenant migrate`.")
    tenants = overread.directory.tenants()
    where = "external" if overread.settings.database_url else str(bootstrap.embedded(overread.settings).data)
    return f"PostgreSQL {row[0] if row else '?'} ({where}), tenants: {', '.join(map(str, tenants)) or 'none'}"


def _objects(overread: bootstrap.Overread) -> str:
    tenant = TenantId(slug="doctor")
    key = f"probe/{uuid4()}.dcm"
    overread.stored.put_pieces(tenant, key, lambda: (b"overread doctor",))
    try:
        with overread.stored.reader(tenant, key) as stream:
            if stream.read(100) != b"overread doctor":
                raise _NeedsCare("An object came back changed.", remedy="Check the disk.")
    finally:
        overread.stored.delete(tenant, key)
    return "writes and reads"


def _keys(overread: bootstrap.Overread) -> str:
    tenants = overread.directory.tenants()
    for tenant in tenants:
        _ = overread.database.unit(tenant).patient_index.version  # raises if the tenant's keys cannot be had
    path = bootstrap.master_key_file(overread.settings)
    where = f"the master key is in {path}"
    if path is None:
        where = "the master key is in OVERREAD_MASTER_KEY"
    elif path.is_relative_to(overread.settings.state_dir):
        where += ", beside the data: a thief of this disk has both (docs/explanation/encryption.md)"
    return f"{len(tenants)} tenants have theirs; {where}"


def _models(settings: Settings) -> str:
    registry = bootstrap.registry(settings)
    try:
        cards = registry.cards()
    finally:
        registry.close()
    if not cards:
        raise _NeedsCare("No model package is installed.", remedy="Reinstall, or set OVERREAD_MODELS.")
    return ", ".join(f"{card.identity.name} {card.identity.version}" for card in cards)


def _decoders() -> str:
    missing = missing_decoders()
    if missing:
        raise _NeedsCare(f"No decoder for {', '.join(missing)}.", remedy="Run make setup again.")
    return "every compressed transfer syntax of radiology"


def _port(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(2)
        taken = probe.connect_ex((host, port)) == 0
    return f"{host}:{port} {'is being served' if taken else 'is free'}"


def _dead_letters(overread: bootstrap.Overread) -> str:
    letters = overread.directory.dead_letters(20)
    if letters:
        last = letters[0]
        raise _NeedsCare(
            f"{len(letters)} jobs failed for good; the last is job {last.job}, {last.task} of {last.tenant}.",
            remedy="See the worker's log; a failed analysis can be retried on the worklist.",
        )
    return "none"
