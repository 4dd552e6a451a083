"""Checks of this machine: folders, disk, keys, certificates, ports, models, decoders."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from overread import bootstrap
from overread.backup import last_backup
from overread.config import Settings
from overread.dicom.association import tls_context as dicom_context
from overread.dicom.decoders import missing_decoders
from overread.doctor.report import Finding, attention, ill, well
from overread.domain.errors import OverreadError, SetupError
from overread.http.server import tls_context as http_context

_GIB = 1024**3
#: Certificates are renewed by people: they need time.
CERTIFICATE_DAYS = 30
BACKUP_DAYS = 7


def state_folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.prepare_state()
    if (folder / "restoring.json").exists():
        yield ill(f"{folder} is half restored.", "Run the same `overread restore` again.")
    else:
        yield well(str(folder))


def disk(settings: Settings) -> Iterator[Finding]:
    """Of each disk that we write to."""
    places = {"state": settings.state_dir}
    if settings.objects_url and "://" not in settings.objects_url:
        places["objects"] = Path(settings.objects_url)
    if not settings.database_url:
        places["database"] = bootstrap.embedded(settings).data
    seen: set[int] = set()
    for what, place in places.items():
        there = next(p for p in (place, *place.parents) if p.exists())
        device = there.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(there)
        free = f"{usage.free / _GIB:.1f} GiB free on the disk of {what}"
        if usage.free < settings.low_disk_gib * _GIB:
            yield ill(f"Only {free} ({there}).", "Free some space: new studies will be refused when it is full.")
        elif usage.free < 0.1 * usage.total:
            yield attention(f"{free} ({there}), less than a tenth.", "Free some space soon.")
        else:
            yield well(free)


def installation_keys(settings: Settings) -> list[Path]:
    """Where `secret.key` and the master key should lie."""
    paths = [settings.state_dir / "secret.key"]
    if not settings.master_key:
        paths.append(settings.master_key_file or settings.state_dir / "master.key")
    return paths


def key_files(settings: Settings) -> Iterator[Finding]:
    """Whoever reads these files reads everything."""
    paths = installation_keys(settings)
    paths += [key for key in (settings.http_tls_key, settings.dicom_tls_key) if key is not None]
    bad = False
    for path in paths:
        if not path.exists():
            bad = True
            yield ill(
                f"{path} is not there.",
                "Put it back from where you keep it: nothing can be read without it. Is there no installation yet, or"
                " another one meant? `overread serve` makes one; OVERREAD_STATE says where.",
            )
        elif path.stat().st_mode & 0o077:
            bad = True
            yield ill(f"Others may read {path}.", f"chmod 600 {path}")
        elif not os.access(path, os.R_OK):
            bad = True
            yield ill(f"{path} cannot be read.", f"Give this user the file: chown {os.getuid()} {path}")
    if not bad:
        yield well(f"{len(paths)} key files, readable by this user only")


def certificates(settings: Settings) -> Iterator[Finding]:
    """Expiry, and whether certificate and key belong together."""
    pairs = {"web": settings.http_tls, "DICOM": settings.dicom_tls}
    for name, pair in pairs.items():
        if pair is None:
            yield attention(f"{name}: no TLS.", "Set it up, or keep the port on this machine (docs/how-to/use-tls.md).")
            continue
        try:
            if name == "web":
                http_context(*pair)
            else:
                dicom_context(*pair, settings.dicom_tls_senders)
            yield from _expiry(name, pair[0])
        except SetupError as error:
            yield ill(f"{name}: {error.message}", error.remedy or "Check the two files.")
    if settings.dicom_tls_senders is not None:
        yield from _expiry("DICOM senders", settings.dicom_tls_senders)


def _expiry(name: str, path: Path) -> Iterator[Finding]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        yield ill(f"{name}: {path} holds no certificate: {error}.", "Put a PEM certificate there.")
        return
    now = datetime.now(UTC)
    first = min(certificate.not_valid_after_utc for certificate in found)
    begins = max(certificate.not_valid_before_utc for certificate in found)
    day = f"{first:%Y-%m-%d}"
    if first < now:
        yield ill(f"{name}: a certificate in {path} expired on {day}.", "Renew it and restart.")
    elif begins > now:
        yield ill(
            f"{name}: a certificate in {path} is valid only from {begins:%Y-%m-%d %H:%M} UTC on.", "Check the clock."
        )
    elif first < now + timedelta(days=CERTIFICATE_DAYS):
        yield attention(f"{name}: a certificate in {path} expires on {day}.", "Renew it now.")
    else:
        yield well(f"{name}: valid until {day}")


def served_here(settings: Settings) -> bool:
    """Whether `overread serve` runs on this state folder."""
    path = settings.state_dir / "serve.lock"
    if not path.exists():
        return False
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def ports(settings: Settings) -> Iterator[Finding]:
    """Served where they should be, free where not."""
    here = served_here(settings)
    for name, host, port, variable in (
        ("web", settings.http_host, settings.http_port, "OVERREAD_HTTP_PORT"),
        ("DICOM", settings.dicom_host, settings.dicom_port, "OVERREAD_DICOM_PORT"),
    ):
        taken = _answers(host, port)
        place = f"{name} {host}:{port}"
        if here and taken:
            yield well(f"{place} is being served")
        elif here:
            yield ill(f"{place} does not answer.", f"See {settings.state_dir / 'logs'}.")
        elif taken and not (name == "web" and _is_ours(settings)):
            yield attention(
                f"{place} is taken by another program.", f"Stop it, or set {variable}, before `overread serve`."
            )
        else:
            yield well(f"{place} is free" if not taken else f"{place} is being served")


def _answers(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, port)) == 0


def _is_ours(settings: Settings) -> bool:
    if settings.http_tls_certificate is not None:
        return False
    try:
        with urllib.request.urlopen(f"{settings.web_address}/healthz", timeout=2) as answer:  # noqa: S310 - http
            return b'"version"' in answer.read(500)
    except (OSError, urllib.error.URLError):
        return False


def decoders() -> Iterator[Finding]:
    missing = missing_decoders()
    if missing:
        yield ill(f"No decoder for {', '.join(missing)}.", "Run make setup again.")
    else:
        yield well("every compressed transfer syntax of radiology")


def models(settings: Settings) -> Iterator[Finding]:
    """Each is loaded and run once."""
    registry = bootstrap.registry(settings)
    try:
        for refused in registry.refused:
            yield ill(f"{refused.path} cannot be used: {refused.reason}", "Install it again, or take it away.")
        cards = registry.cards()
        if not cards:
            yield ill("No model package is installed.", "Reinstall, or set OVERREAD_MODELS.")
        for card in cards:
            model = registry.find(card.task)
            if model is None:
                continue
            try:
                model.warm_up()
            except OverreadError as error:
                yield ill(f"{card.identity} does not run: {error.message}", error.remedy or f"Code {error.code}.")
            else:
                yield well(f"{card.identity} loads and runs")
    finally:
        registry.close()


def backup_age(settings: Settings) -> Iterator[Finding]:
    last = last_backup(settings.state_dir)
    how = "overread backup --to FOLDER --keys-to ANOTHER"
    if last is None:
        yield attention("There is no backup.", f"Make one every night: {how}.")
        return
    age = datetime.now(UTC) - last.at
    when = f"{last.at:%Y-%m-%d %H:%M} UTC"
    if last.missing:
        yield ill(f"The backup of {when} lacks {last.missing} objects.", "Run overread doctor --deep.")
    if age > timedelta(days=BACKUP_DAYS):
        yield attention(f"The last backup is of {when}.", f"Make one every night: {how}.")
    elif not Path(last.folder, "backups", f"{last.name}.json").exists():
        yield attention(f"The backup of {when} is not in {last.folder} now.", "Mount that folder, or make another.")
    else:
        yield well(f"of {when}, in {last.folder}")
