"""Who is who, before there is a tenant: the door's log-in reads tenants and senders, and no patient data."""

from __future__ import annotations

from typing import Any

import psycopg

from overread.domain.errors import StoreUnavailable, UnknownSender
from overread.domain.study import TenantId
from overread.services.values import DeadLetter


class Directory:
    """Implements `services.ports.SenderDirectory`. One short connection a question: associations are few."""

    def __init__(self, conninfo: str) -> None:
        """`conninfo` with a log-in that may read `overread.tenants` (and `senders`)."""
        self._conninfo = conninfo

    def tenants(self) -> tuple[TenantId, ...]:
        """Those that are not suspended."""
        rows = self._ask("SELECT slug FROM overread.tenants WHERE NOT suspended ORDER BY slug", ())
        return tuple(TenantId(slug=row[0]) for row in rows)

    def tenant_of(self, *, called_ae: str, calling_ae: str, address: str, certificate_sha256: str | None) -> TenantId:
        """The tenant that a peer speaks for: called AE title and (address or certificate) must both be registered.

        The most specific entry wins; entries of two tenants that are equally specific contradict each other and refuse.
        """
        rows = self._ask(
            "SELECT DISTINCT s.tenant, (s.certificate_sha256 IS NOT NULL)::int AS certified,"
            " (s.calling_ae IS NOT NULL)::int AS named, coalesce(masklen(s.network), 0) AS bits"
            " FROM overread.senders s JOIN overread.tenants t ON t.slug = s.tenant"
            " WHERE NOT t.suspended AND s.called_ae = %s AND (s.calling_ae IS NULL OR s.calling_ae = %s)"
            " AND (s.network IS NULL OR %s::inet <<= s.network)"
            " AND (s.certificate_sha256 IS NULL OR s.certificate_sha256 = %s)"
            " ORDER BY certified DESC, bits DESC, named DESC",
            (called_ae, calling_ae, address, certificate_sha256 or ""),
        )
        best = {row[0] for row in rows if row[1:] == rows[0][1:]}
        if len(best) != 1:
            raise UnknownSender(
                "No tenant has registered this DICOM peer."
                if not best
                else "Several tenants have registered this DICOM peer.",
                remedy="Register it with `overread sender add` (docs/how-to/send-from-a-modality.md).",
            )
        return TenantId(slug=best.pop())

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
