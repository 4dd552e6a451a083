"""The data keys of tenants, unwrapped in memory for a short time.

Each tenant has a data key, in versions (what encrypts objects and identifiers, rotated), and an index key (what finds:
blind index and object names; never rotated, since what it made lies in audit rows that nobody may change). They are
made at first use, by the tenant's own log-in, and lie in `overread.data_keys`, wrapped by the master key.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from overread.domain.errors import KeyShredded, KeyUnavailable, StoreUnavailable
from overread.domain.study import TenantId
from overread.services.key_ports import KeyManagement
from overread.services.values import TenantKeys
from overread.store import roles
from overread.store.keys_master import KEY_BYTES

#: Seconds until a process looks for a new version: after so many all of them write with it.
FRESH_S = 10.0
#: Seconds that known keys are used on while the database is away.
STALE_S = 600.0

_Rows = list[tuple[Any, ...]]


@dataclass(kw_only=True)
class _Entry:
    keys: TenantKeys
    rows: _Rows
    read_at: float


class DatabaseKeyRing:
    """Implements `services.key_ports.KeyRing`. Safe for many threads; one asks, the others go on with what is."""

    def __init__(
        self,
        login: Callable[[TenantId], str],
        master: KeyManagement,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`login` gives the connection string of a tenant's own log-in."""
        self._login = login
        self._master = master
        self._monotonic = monotonic
        self._entries: dict[TenantId, _Entry] = {}
        self._locks: dict[TenantId, threading.Lock] = {}
        self._guard = threading.Lock()

    def keys(self, tenant: TenantId) -> TenantKeys:
        """Raises `KeyUnavailable`, `KeyShredded`, `StoreUnavailable`."""
        entry = self._entries.get(tenant)
        if entry is not None and self._monotonic() - entry.read_at < FRESH_S:
            return entry.keys
        lock = self._lock(tenant)
        if not lock.acquire(blocking=entry is None):
            return entry.keys if entry is not None else self.keys(tenant)
        try:
            again = self._entries.get(tenant)
            if again is not None and again is not entry:
                return again.keys
            return self._read(tenant, again)
        finally:
            lock.release()

    def reload(self, tenant: TenantId) -> TenantKeys:
        """Ask now: somebody met a version that is not known here."""
        with self._lock(tenant):
            return self._read(tenant, self._entries.get(tenant))

    def forget(self, tenant: TenantId) -> None:
        """Drop what is in memory."""
        self._entries.pop(tenant, None)

    def _lock(self, tenant: TenantId) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(tenant, threading.Lock())

    def _read(self, tenant: TenantId, entry: _Entry | None) -> TenantKeys:
        try:
            with psycopg.connect(self._login(tenant), connect_timeout=5) as connection:
                rows = _ask(connection)
                if not rows:
                    self._make(connection, tenant)
                    rows = _ask(connection)
        except psycopg.OperationalError as error:
            if entry is not None and self._monotonic() - entry.read_at < STALE_S:
                return entry.keys
            raise StoreUnavailable("The database cannot be reached just now.", remedy="Try again shortly.") from error
        now = self._monotonic()
        if entry is not None and entry.rows == rows:
            entry.read_at = now
            return entry.keys
        self._entries.pop(tenant, None)
        keys = self._unwrap(tenant, rows)
        self._entries[tenant] = _Entry(keys=keys, rows=rows, read_at=now)
        return keys

    def _make(self, connection: psycopg.Connection[tuple[Any, ...]], tenant: TenantId) -> None:
        self._master.refresh()  # never by a master key that was just replaced
        data, index = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
        connection.execute(
            "SELECT overread.first_data_keys(%s, %s, %s)",
            (
                self._master.wrap(data, context(tenant, "data", 1)),
                self._master.wrap(index, context(tenant, "index", 1)),
                self._master.key_id,
            ),
        )

    def _unwrap(self, tenant: TenantId, rows: _Rows) -> TenantKeys:
        if rows and all(row[2] == "shredded" for row in rows):
            raise KeyShredded(f"The keys of tenant {tenant} were shredded: what they encrypted cannot be read again.")
        data: dict[int, bytes] = {}
        index = b""
        active = 0
        plain = False
        for purpose, version, state, master, wrapped, plain_readable in rows:
            if wrapped is None:
                continue
            secret = self._master.unwrap(bytes(wrapped), master, context(tenant, purpose, version))
            if purpose == "index":
                index, plain = secret, plain_readable
            else:
                data[version] = secret
                active = version if state == "active" else active
        if not index or not active:
            raise KeyUnavailable(f"The keys of tenant {tenant} are incomplete.")
        return TenantKeys(tenant=tenant, active=active, data=data, index=index, plain_readable=plain)


def context(tenant: TenantId, purpose: str, version: int) -> str:
    """What a wrapped key is bound to: it cannot stand in for another."""
    return f"overread data key {tenant.slug} {purpose} {version}"


def tenant_login(conninfo: str, secret: bytes) -> Callable[[TenantId], str]:
    """Makes connection strings of tenants' own log-ins for a server."""

    def login(tenant: TenantId) -> str:
        role = roles.tenant_role(tenant)
        return make_conninfo(conninfo, user=role, password=roles.password(secret, role))

    return login


def _ask(connection: psycopg.Connection[tuple[Any, ...]]) -> _Rows:
    return connection.execute(
        "SELECT purpose, version, state, master, wrapped, plain_readable FROM overread.own_data_keys()"
    ).fetchall()
