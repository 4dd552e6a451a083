"""Too many wrong log-ins: an address that guesses waits, and the account's owner elsewhere does not.

What is counted is in the database, so that several API processes agree: failures of an address (IPv6: of its /64) for a
name. Names that nobody has are counted too, so that they answer like real ones. Five failures close the name for that
address for a minute, then for twice as long each time, up to a quarter of an hour. Only failures from at least three
addresses can close it for everybody: a flood of names from one address locks nobody out elsewhere.
"""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import datetime

from overread.domain.errors import RateLimited
from overread.services.ports import UnitOfWork


def account_key(name: str) -> str:
    """Stands for a name in the table of failures: what somebody typed may be their password."""
    return hashlib.sha256(name.encode()).hexdigest()


def network_of(address: str) -> str:
    """The address, or the /64 that an IPv6 customer has all of."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


def check_not_locked(uow: UnitOfWork, name: str, address: str, now: datetime) -> None:
    """Raises `RateLimited` with the seconds to wait."""
    until = uow.sessions.locked_until(account_key(name), network_of(address), now)
    if until is not None:
        wait = max(1, int((until - now).total_seconds() + 0.999))
        raise RateLimited(f"Too many wrong log-ins for this name. Try again in {_words(wait)}.", retryAfterSeconds=wait)


def _words(seconds: int) -> str:
    return f"{seconds} s" if seconds < 100 else f"{(seconds + 59) // 60} min"
