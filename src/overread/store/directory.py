"""Who is who, before there is a tenant: the door's log-in reads tenants and senders, and no patient data."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg

from overread.domain.errors import StoreUnavailable, TenantSuspended, TenantUnavailable, UnknownSender
from overread.domain.study import TenantId
from overread.services.values import DeadLetter

#: Which rows of `overread.tenants` are worked for; the queue's function and the sweep's say the same.
SERVED = "NOT suspended AND phase = 'ready' AND out_of_service IS NULL"


class Directory:
    """Implements `services.ports.SenderDirectory`. One short connection a question: associations are few."""

    def __init__(self, conninfo: str) -> None:
        """`conninfo` with a log-in that may read `overread.tenants` (and `senders`)."""
        self._conninfo = conninfo

    def tenants(self) -> tuple[TenantId, ...]:
        """Those that are served: ready, not suspended, in service."""
        rows = self._ask(f"SELECT slug FROM overread.tenants WHERE {SERVED} ORDER BY slug", ())  # noqa: S608
        return tuple(TenantId(slug=row[0]) for row in rows)

    def out_of_service(self) -> tuple[tuple[str, str], ...]:
        """(slug, why) of those whose last migration failed."""
        query = "SELECT slug, out_of_service FROM overread.tenants WHERE out_of_service IS NOT NULL ORDER BY slug"
        return tuple((row[0], row[1]) for row in self._ask(query, ()))

    def tenant_of(self, *, called_ae: str, calling_ae: str, address: str, certificate_sha256: str | None) -> TenantId:
        """The tenant that a peer speaks for: called AE title and (address or certificate) must both be registered.

        The most specific entry wins; entries of two tenants that are equally specific contradict each other and refuse.
        Raises `UnknownSender`, also for a suspended tenant's, and `TenantUnavailable`.
        """
        rows = self._ask(
            "SELECT DISTINCT s.tenant, t.out_of_service IS NOT NULL,"
            " (s.certificate_sha256 IS NOT NULL)::int AS certified,"
            " (s.calling_ae IS NOT NULL)::int AS named, coalesce(masklen(s.network), 0) AS bits"
            " FROM overread.senders s JOIN overread.tenants t ON t.slug = s.tenant"
            " WHERE NOT t.suspended AND t.phase = 'ready' AND s.called_ae = %s"
            " AND (s.calling_ae IS NULL OR s.calling_ae = %s)"
            " AND (s.network IS NULL OR %s::inet <<= s.network)"
            " AND (s.certificate_sha256 IS NULL OR s.certificate_sha256 = %s)"
            " ORDER BY certified DESC, bits DESC, named DESC",
            (called_ae, calling_ae, address, certificate_sha256 or ""),
        )
        best = {row[:2] for row in rows if row[2:] == rows[0][2:]}
        if len(best) != 1:
            raise UnknownSender(
                "No tenant has registered this DICOM peer."
                if not best
                else "Several tenants have registered this DICOM peer.",
                remedy="Register it with `overread sender add` (docs/how-to/send-from-a-modality.md).",
            )
        slug, out_of_service = best.pop()
        if out_of_service:
            raise TenantUnavailable(
                f"The tenant {slug} is out of service.", remedy="The sender should try again later."
            )
        return TenantId(slug=slug)

    def dead_letters(self, limit: int) -> tuple[DeadLetter, ...]:
        """Jobs of all tenants that failed for good, newest first: opaque ids only."""
        rows = self._ask("SELECT job, task, args, attempts, at FROM overread.dead_letters(%s)", (limit,))
        return tuple(
            DeadLetter(
                job=job,
                task=task,
                tenant=args.pop("tenant", ""),
                ids={name: str(value) for name, value in args.items()},
                attempts=attempts,
                at=at,
            )
            for job, task, args, attempts, at in rows
        )

    def _ask(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            with psycopg.connect(self._conninfo, connect_timeout=5) as connection:
                return connection.execute(query.encode(), values).fetchall()
        except psycopg.OperationalError as error:
            raise StoreUnavailable("The database cannot be reached just now.", remedy="Try again shortly.") from error


class TenantGate:
    """Whether a tenant is worked for just now. Every unit of work of a process asks; the database is asked every 2 s.

    So a tenant that the operator suspends, deletes or whose migration failed is refused by every process within that
    time, whatever its tokens, associations and running jobs say. (Its database log-in is closed at once besides.)
    """

    FRESH_S = 2.0
    #: A tenant that is not known yet may have been made a moment ago.
    _RECHECK_S = 0.2

    def __init__(self, conninfo: str) -> None:
        """`conninfo` with the door's log-in."""
        self._conninfo = conninfo
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._states: dict[str, str] = {}
        self._asked = float("-inf")

    def fresh(self, tenant: TenantId) -> bool:
        """Whether `check` would answer from memory."""
        return tenant.slug in self._states and time.monotonic() - self._asked <= self.FRESH_S

    def check(self, tenant: TenantId) -> None:
        """Raises `TenantSuspended` or `TenantUnavailable`; what the database said last counts while it is away."""
        state = self._state(tenant)
        if state == "served":
            return
        if state == "out of service":
            raise TenantUnavailable(
                "This hospital's database is being repaired; nobody can work with it just now. Nothing is lost.",
                remedy="Try again later; the operator sees why with `overread tenant list`.",
            )
        raise TenantSuspended(
            "The operator has suspended this hospital.", remedy="Ask the operator of the installation."
        )

    def known(self, tenant: TenantId) -> bool:
        """Whether somebody may try to log in: there is such a tenant and it is not suspended."""
        return self._state(tenant) in ("served", "out of service")

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            self._drop()

    def _state(self, tenant: TenantId) -> str:
        age = time.monotonic() - self._asked
        if age > self.FRESH_S or (tenant.slug not in self._states and age > self._RECHECK_S):
            self._refresh()
        return self._states.get(tenant.slug, "unknown")

    def _refresh(self) -> None:
        if not self._lock.acquire(blocking=not self._states):
            return  # another thread is asking; what is known is two seconds old
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._conninfo, connect_timeout=5, autocommit=True, prepare_threshold=None
                )
            rows = self._connection.execute(
                "SELECT slug, CASE WHEN suspended OR phase <> 'ready' THEN 'suspended'"
                " WHEN out_of_service IS NOT NULL THEN 'out of service' ELSE 'served' END FROM overread.tenants"
            ).fetchall()
            self._states = dict(rows)
            self._asked = time.monotonic()
        except psycopg.OperationalError as error:
            self._drop()
            if not self._states:
                raise StoreUnavailable(
                    "The database cannot be reached just now.", remedy="Try again shortly."
                ) from error
            self._asked = time.monotonic()
        finally:
            self._lock.release()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
