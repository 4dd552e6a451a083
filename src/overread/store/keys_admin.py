"""What the owner does with data keys: look, rotate, wrap again, retire, shred. Serving processes cannot."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

import psycopg
import sqlalchemy

from overread.domain.errors import KeyShredded, NotFound
from overread.domain.study import TenantId
from overread.services.key_ports import KeyManagement
from overread.store import roles
from overread.store.keys import context
from overread.store.keys_master import KEY_BYTES


@dataclass(frozen=True, kw_only=True)
class KeyState:
    """One version of a key, without the key."""

    tenant: str
    #: "data" or "index".
    purpose: str
    version: int
    #: "active", "reading", "retired" or "shredded".
    state: str
    #: Which master key wraps it.
    master: str
    plain_readable: bool
    created_at: datetime
    changed_at: datetime


class OwnerKeys:
    """Implements `services.key_ports.KeyShredder`, and the rest of a key's life."""

    def __init__(self, engine: sqlalchemy.Engine, master: KeyManagement | None) -> None:
        """`master` wraps what is new; shredding, retiring and looking need none."""
        self._engine = engine
        self._master = master

    @property
    def master_id(self) -> str:
        """Of the master key that wraps now."""
        return self._wrapping().key_id

    def states(self) -> tuple[KeyState, ...]:
        """All keys of all tenants, by tenant, purpose, version."""
        with self._engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT tenant, purpose, version, state, master, plain_readable, created_at, changed_at"
                " FROM overread.data_keys ORDER BY tenant, purpose, version"
            ).fetchall()
        return tuple(
            KeyState(
                tenant=r[0],
                purpose=r[1],
                version=r[2],
                state=r[3],
                master=r[4],
                plain_readable=r[5],
                created_at=r[6],
                changed_at=r[7],
            )
            for r in rows
        )

    def rotate_data(self, tenant: TenantId) -> int:
        """A new version of the data key: within seconds all processes encrypt with it, and go on reading the old.

        Raises `NotFound` if the tenant has no keys (it never stored anything), `KeyShredded`.
        """
        with self._engine.begin() as connection:
            rows = self._lock(connection, tenant)
            if all(state == "shredded" for _, _, state in rows):
                raise KeyShredded(f"The keys of tenant {tenant} were shredded.")
            version = 1 + max(number for purpose, number, _ in rows if purpose == "data")
            master = self._wrapping()
            wrapped = master.wrap(secrets.token_bytes(KEY_BYTES), context(tenant, "data", version))
            connection.exec_driver_sql(
                "UPDATE overread.data_keys SET state = 'reading', changed_at = now()"
                " WHERE tenant = %s AND purpose = 'data' AND state = 'active'",
                (tenant.slug,),
            )
            connection.exec_driver_sql(
                "INSERT INTO overread.data_keys (tenant, purpose, version, state, master, wrapped)"
                " VALUES (%s, 'data', %s, 'active', %s, %s)",
                (tenant.slug, version, master.key_id, wrapped),
            )
        return version

    def retire(self, tenant: TenantId, version: int) -> int:
        """Delete the data keys before `version`, which must be the active one; how many. Nothing plain is read from now
        on. Only after everything was encrypted again (`store.keys_reencrypt`)."""
        with self._engine.begin() as connection:
            rows = self._lock(connection, tenant)
            if ("data", version, "active") not in rows:
                return 0
            done = connection.exec_driver_sql(
                "UPDATE overread.data_keys SET state = 'retired', wrapped = NULL, changed_at = now()"
                " WHERE tenant = %s AND purpose = 'data' AND state = 'reading' AND version < %s",
                (tenant.slug, version),
            )
            connection.exec_driver_sql(
                "UPDATE overread.data_keys SET plain_readable = false WHERE tenant = %s AND plain_readable",
                (tenant.slug,),
            )
        self._clean()
        return done.rowcount

    def wrap_again(self) -> int:
        """Wrap every key by the master key that wraps now; how many there were to do. Raises `KeyUnavailable`."""
        master = self._wrapping()
        with self._engine.begin() as connection:
            rows = connection.exec_driver_sql(
                "SELECT tenant, purpose, version, master, wrapped FROM overread.data_keys"
                " WHERE wrapped IS NOT NULL AND master <> %s ORDER BY tenant FOR UPDATE",
                (master.key_id,),
            ).fetchall()
            for slug, purpose, version, wrapped_by, wrapped in rows:
                bound = context(TenantId(slug=slug), purpose, version)
                key = master.unwrap(bytes(wrapped), wrapped_by, bound)
                connection.exec_driver_sql(
                    "UPDATE overread.data_keys SET master = %s, wrapped = %s, changed_at = now()"
                    " WHERE tenant = %s AND purpose = %s AND version = %s",
                    (master.key_id, master.wrap(key, bound), slug, purpose, version),
                )
        if rows:
            self._clean()
        return len(rows)

    def shred(self, tenant: TenantId) -> None:
        """See the port."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE overread.data_keys SET state = 'shredded', wrapped = NULL, changed_at = now()"
                " WHERE tenant = %s",
                (tenant.slug,),
            )
            # One that never stored anything gets none later either.
            connection.exec_driver_sql(
                "INSERT INTO overread.data_keys (tenant, purpose, version, state, master)"
                " SELECT slug, 'data', 1, 'shredded', '' FROM overread.tenants WHERE slug = %s ON CONFLICT DO NOTHING",
                (tenant.slug,),
            )
        self._clean()

    def sweep(self, tenant: TenantId) -> None:
        """Take out of the tables' files what rows were before they were encrypted. Locks them: for a start only."""
        schema = roles.tenant_role(tenant)
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in ("studies", "series", "instances", "instance_revisions", "rejections"):
                connection.exec_driver_sql(f"VACUUM FULL {schema}.{table}")
            try:
                connection.exec_driver_sql("CHECKPOINT")
            except sqlalchemy.exc.ProgrammingError as error:
                # An owner that is no superuser may not say when: the server does it by itself within minutes.
                if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
                    raise

    def _wrapping(self) -> KeyManagement:
        if self._master is None:
            raise RuntimeError("these keys were opened without a master key")
        return self._master

    @staticmethod
    def _lock(connection: sqlalchemy.Connection, tenant: TenantId) -> list[tuple[str, int, str]]:
        rows = connection.exec_driver_sql(
            "SELECT purpose, version, state FROM overread.data_keys WHERE tenant = %s FOR UPDATE", (tenant.slug,)
        ).fetchall()
        if not rows:
            raise NotFound(f"Tenant {tenant} has no keys yet: it gets them with its first object.")
        return [(str(row[0]), int(row[1]), str(row[2])) for row in rows]

    def _clean(self) -> None:
        """Old versions of rows leave the table's file: they hold wrapped keys that were deleted."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM FULL overread.data_keys")
