"""`overread doctor`: is this installation well? One line a finding, and what to do where it is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import psycopg
import typer
from rich.console import Console

from overread import bootstrap
from overread.config import Settings
from overread.doctor import installation, machine
from overread.doctor.installation import Site
from overread.doctor.report import Finding, Line, as_json, exit_status, show
from overread.domain.errors import OverreadError

Check = Callable[[], Iterator[Finding]]


def run(settings: Settings, *, deep: bool = False, json_output: bool = False) -> int:
    """Print the checks; 0 if nothing needs care, 1 if something does."""
    lines = examine(settings, deep=deep)
    if json_output:
        typer.echo(json.dumps(as_json(lines), indent=2))
    else:
        show(lines, Console())
    return exit_status(lines)


def examine(settings: Settings, *, deep: bool = False) -> list[Line]:
    """All findings. A check that fails does not end the others, and none makes a key that is not there."""
    lines = _check("key files", lambda: machine.key_files(settings))
    if not all(path.exists() for path in machine.installation_keys(settings)):
        return lines
    overread = bootstrap.build(settings)
    try:
        for part, check in checks(Site(overread), deep=deep):
            lines += _check(part, check)
    finally:
        overread.close()
    return lines


def _check(part: str, check: Check) -> list[Line]:
    try:
        return [Line(part=part, finding=finding) for finding in check()]
    except (OverreadError, OSError, psycopg.Error) as error:
        return [Line(part=part, finding=installation.expected(error))]


def checks(site: Site, *, deep: bool) -> list[tuple[str, Check]]:
    """Part and check, in the order of the report."""
    settings = site.settings
    found: list[tuple[str, Check]] = [
        ("state folder", lambda: machine.state_folder(settings)),
        ("disk space", lambda: machine.disk(settings)),
        ("database", lambda: installation.database(site)),
        ("migrations", lambda: installation.migrations(site)),
        ("clocks", lambda: installation.clocks(site)),
        ("object store", lambda: installation.objects(site)),
        ("keys", lambda: installation.keys(site)),
        ("workers", lambda: installation.workers(site)),
        ("queue", lambda: installation.queue_length(site)),
        ("studies", lambda: installation.studies(site)),
        ("senders", lambda: installation.senders(site)),
        ("audit trail", lambda: installation.audit(site)),
        ("redis", lambda: installation.redis(site)),
        ("models", lambda: machine.models(settings)),
        ("decoders", machine.decoders),
        ("certificates", lambda: machine.certificates(settings)),
        ("ports", lambda: machine.ports(settings)),
        ("backup", lambda: machine.backup_age(settings)),
    ]
    if deep:
        found.append(("every object", lambda: installation.every_object(site)))
    return found
