"""Every row of a tenant as plain JSON, at one moment, with the owner's log-in: what an export writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg
import sqlalchemy
from psycopg import sql

from overread.domain.study import TenantId
from overread.store import roles
from overread.store.cipher import Values

Connection = psycopg.Connection[tuple[Any, ...]]

_FETCH = 1000

#: Columns that are of no use without this installation, or must not leave it: written as null, and named.
SECRETS: Final = frozenset(
    {
        ("users", "password_hash"),
        ("users", "totp_secret"),
        ("users", "totp_offered"),
        ("recovery_codes", "code_hash"),
        ("api_keys", "secret_sha256"),
        ("identity_provider", "client_secret"),
    }
)
#: Sealed and blind columns: what was sealed is written in the clear, under `identifiers`.
_OF_ENCRYPTION: Final = frozenset({"patient_blind", "patient_id_blind", "accession_blind", "words"})


@dataclass(frozen=True, kw_only=True)
class ObjectPlace:
    """An object of the tenant, and where an export puts it."""

    key: str
    #: Relative, of harmless characters.
    path: str


class TenantTables:
    """One REPEATABLE READ transaction."""

    def __init__(self, connection: Connection, tenant: TenantId, values: Values) -> None:
        self._connection = connection
        self._schema = roles.tenant_role(tenant)
        self._tenant = tenant
        self._values = values

    def names(self) -> tuple[str, ...]:
        """All tables, partitioned ones as a whole."""
        rows = self._connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT relispartition ORDER BY relname",
            (self._schema,),
        ).fetchall()
        return tuple(row[0] for row in rows)

    def count(self, table: str) -> int:
        """Rows."""
        row = self._connection.execute(sql.SQL("SELECT count(*) FROM {}").format(self._table(table))).fetchone()
        return int(row[0]) if row else 0

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """In the order of the primary key; identifiers opened, secrets left out."""
        order = self._connection.execute(
            "SELECT a.attname FROM pg_index i JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k (n, o) ON true"
            " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n"
            " WHERE i.indrelid = %s::regclass AND i.indisprimary ORDER BY k.o",
            (f"{self._schema}.{table}",),
        ).fetchall()
        columns = sql.SQL(", ").join(sql.Identifier(row[0]) for row in order) if order else sql.SQL("1")
        query = sql.SQL("SELECT to_jsonb(t), {sealed} FROM {table} t ORDER BY {columns}").format(
            sealed=sql.SQL("t.identifiers" if self._sealed(table) else "NULL::bytea"),
            table=self._table(table),
            columns=columns,
        )
        with self._connection.cursor(f"export_{table}"[:60]) as cursor:
            cursor.itersize = _FETCH
            cursor.execute(query)
            for row, sealed in cursor:
                yield self._plain(table, row, sealed)

    def _plain(self, table: str, row: dict[str, Any], sealed: bytes | None) -> dict[str, Any]:
        plain = {
            name: None if (table, name) in SECRETS else value
            for name, value in row.items()
            if name not in _OF_ENCRYPTION
        }
        if sealed is not None:
            place = f"{table}/identifiers/{UUID(row['id'])}"
            plain["identifiers"] = orjson.loads(self._values.open(bytes(sealed), place))
        return plain

    def _sealed(self, table: str) -> bool:
        return (
            self._connection.execute(
                "SELECT 1 FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'identifiers'"
                " AND NOT attisdropped",
                (f"{self._schema}.{table}",),
            ).fetchone()
            is not None
        )

    def objects(self) -> Iterator[ObjectPlace]:
        """DICOM objects as they came, header revisions, quarantined ones, and the SR and SEG that we wrote."""
        query = sql.SQL(
            "SELECT i.object_key, 'dicom/' || s.study_instance_uid || '/' || e.series_instance_uid || '/'"
            "    || i.sop_instance_uid || '.dcm'"
            "  FROM {instances} i JOIN {studies} s ON s.id = i.study_id JOIN {series} e ON e.id = i.series_id"
            "  WHERE i.object_key IS NOT NULL"
            " UNION ALL SELECT r.object_key, 'dicom/' || s.study_instance_uid || '/' || e.series_instance_uid || '/'"
            "    || i.sop_instance_uid || '.' || r.id || '.dcm'"
            "  FROM {revisions} r JOIN {instances} i ON i.id = r.instance_id JOIN {studies} s ON s.id = i.study_id"
            "  JOIN {series} e ON e.id = i.series_id"
            " UNION ALL SELECT object_key, 'rejected/' || id || '.dcm' FROM {rejections} WHERE object_key IS NOT NULL"
            " UNION ALL SELECT sr_object_key, 'results/' || id || '.sr.dcm' FROM {analyses}"
            "  WHERE sr_object_key IS NOT NULL"
            " UNION ALL SELECT seg_object_key, 'results/' || id || '.seg.dcm' FROM {analyses}"
            "  WHERE seg_object_key IS NOT NULL"
        ).format(
            instances=self._table("instances"),
            studies=self._table("studies"),
            series=self._table("series"),
            revisions=self._table("instance_revisions"),
            rejections=self._table("rejections"),
            analyses=self._table("image_analyses"),
        )
        with self._connection.cursor("export_objects") as cursor:
            cursor.itersize = _FETCH
            cursor.execute(query)
            for key, path in cursor:
                yield ObjectPlace(key=key, path="/".join(_harmless(part) for part in path.split("/")))

    def count_objects(self) -> int:
        """How many `objects` gives."""
        query = sql.SQL(
            "SELECT (SELECT count(object_key) FROM {}) + (SELECT count(*) FROM {}) + (SELECT count(object_key) FROM {})"
            " + (SELECT count(sr_object_key) + count(seg_object_key) FROM {})"
        ).format(*map(self._table, ("instances", "instance_revisions", "rejections", "image_analyses")))
        row = self._connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def shared(self) -> dict[str, Any]:
        """The tenant's own row and its senders, of the shared schema."""
        tenant = self._connection.execute(
            "SELECT jsonb_build_object('slug', slug, 'name', name, 'createdAt', created_at, 'suspended', suspended)"
            " FROM overread.tenants WHERE slug = %s",
            (self._tenant.slug,),
        ).fetchone()
        senders = self._connection.execute(
            "SELECT to_jsonb(s) - 'id' - 'tenant' FROM overread.senders s WHERE tenant = %s ORDER BY id",
            (self._tenant.slug,),
        ).fetchall()
        return {"tenant": tenant[0] if tenant else None, "senders": [row[0] for row in senders]}

    def _table(self, name: str) -> sql.Identifier:
        return sql.Identifier(self._schema, name)


def _harmless(part: str) -> str:
    """A UID or id as a file's name: nothing in it can lead out of the folder."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in part)
    return kept.lstrip(".")[:120] or "_"


@contextlib.contextmanager
def snapshot(engine: sqlalchemy.Engine, tenant: TenantId, values: Values) -> Iterator[TenantTables]:
    """All that is read inside the block is of one moment."""
    raw = engine.raw_connection()
    try:
        connection = raw.driver_connection
        assert isinstance(connection, psycopg.Connection)  # noqa: S101  the engine makes psycopg's
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL TimeZone = 'UTC'")
        yield TenantTables(connection, tenant, values)
        connection.rollback()
    finally:
        raw.close()
