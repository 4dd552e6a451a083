"""Which DICOM peers speak for which tenant."""

from __future__ import annotations

import ipaddress
import re

from overread.admin.connection import find_tenant, owner
from overread.config import Settings
from overread.domain.errors import InvalidRequest, NotFound
from overread.store import migrate

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
    with owner(settings) as engine:
        migrate.add_sender(
            engine,
            find_tenant(engine, tenant),
            called_ae=called_ae.strip(),
            network=network,
            calling_ae=calling_ae.strip() if calling_ae else None,
            certificate_sha256=certificate_sha256,
        )


def remove_sender(settings: Settings, number: int) -> None:
    """Raises `NotFound` if no entry has this number."""
    with owner(settings) as engine:
        if not migrate.remove_sender(engine, number):
            raise NotFound(f"No sender has the number {number}.", remedy="See `overread sender list`.")


def senders(settings: Settings) -> list[tuple[str, ...]]:
    """Number, tenant, called AE title, network, calling AE title, certificate of every entry."""
    with owner(settings) as engine:
        return migrate.list_senders(engine)
