"""What the operator does on the machine itself, with the owner's log-in: which DICOM peers speak for which tenant."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy

from overread import bootstrap
from overread.config import Settings
from overread.domain.errors import InvalidRequest, NotFound
from overread.domain.study import TenantId
from overread.store import migrate, roles

#: AE titles: 1 to 16 characters of the default repertoire, no backslash (PS3.5 6.2, VR AE).
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def add_sender(
    settings: Settings,
    *,
    tenant: str,
    called_ae: str,
    network: str | None,
    calling_ae: str | None,
    certificate_sha256: str | None,
) -> None:
    """Let a peer send for a tenant. Raises `InvalidRequest` naming what cannot be used, or `NotFound`."""
    for name, title in (("called AE title", called_ae), ("calling AE title", calling_ae)):
        if title is not None and (not _AE_TITLE.fullmatch(title) or not title.strip()):
            raise InvalidRequest(f"The {name} must have 1 to 16 characters without a backslash.")
    if network is None and certificate_sha256 is None:
        raise InvalidRequest("An AE title alone is no identity.", remedy="Give --network or --certificate-sha256 too.")
    if network is not None:
        try:
            network = str(ipaddress.ip_network(network, strict=False))
        except ValueError as error:
            raise InvalidRequest(f"{network} is no address or network.", remedy="Example: 10.1.2.0/24.") from error
    if certificate_sha256 is not None and not _SHA256.fullmatch(certificate_sha256):
        raise InvalidRequest("A certificate's sha256 has 64 hexadecimal digits, lower case.")
    with _owner(settings) as engine:
        migrate.add_sender(
            engine,
            _tenant(engine, tenant),
            called_ae=called_ae.strip(),
            network=network,
            calling_ae=calling_ae.strip() if calling_ae else None,
            certificate_sha256=certificate_sha256,
        )


def remove_sender(settings: Settings, number: int) -> None:
    """Raises `NotFound` if no entry has this number."""
    with _owner(settings) as engine:
        if not migrate.remove_sender(engine, number):
            raise NotFound(f"No sender has the number {number}.", remedy="See `overread sender list`.")


def senders(settings: Settings) -> list[tuple[str, ...]]:
    """Number, tenant, called AE title, network, calling AE title, certificate of every entry."""
    with _owner(settings) as engine:
        return migrate.list_senders(engine)


def _tenant(engine: sqlalchemy.Engine, slug: str) -> TenantId:
    known = migrate.list_tenants(engine)
    for tenant in known:
        if tenant.slug == slug:
            return tenant
    raise NotFound(f"There is no tenant {slug!r}.", remedy=f"Known: {', '.join(map(str, known)) or 'none'}.")


@contextmanager
def _owner(settings: Settings) -> Iterator[sqlalchemy.Engine]:
    """The owner's engine; the database must run (`overread serve`)."""
    if settings.database_url:
        engine = migrate.owner_engine(settings.database_direct_url or settings.database_url)
    else:
        engine = migrate.owner_engine(bootstrap.embedded(settings).url, roles.password(settings.secret(), "owner"))
    try:
        with migrate.reachable():
            yield engine
    finally:
        engine.dispose()
