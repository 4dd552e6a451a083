"""The whole database at one moment, table by table, and back again into an empty one.

Not pg_dump: schema, log-ins and rights are made by the migrations, so that a dump of PostgreSQL 18 goes into 15 and no
client program need be of the server's age. Data go by COPY in text form, which every version reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy
from psycopg import sql

from overread.domain.study import TenantId
from overread.store import migrate, roles, tenant_rows
from overread.store.audit_archive import owner_connection

Connection = psycopg.Connection[tuple[Any, ...]]

#: Which revision a schema has; made by the migrations, so not copied.
_VERSION_TABLE = "schema_version"


@dataclass(frozen=True, kw_only=True)
class Table:
    """An ordinary table, or a partitioned one as a whole."""

    schema: str
    name: str
    #: In order, without generated ones.
    columns: tuple[str, ...]

    @property
    def identifier(self) -> sql.Composable:
        return sql.Identifier(self.schema, self.name)

    @property
    def listed(self) -> sql.Composable:
        """Its columns, for a statement."""
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """Where a sequence stands."""

    schema: str
    name: str
    last: int
    called: bool


class Snapshot:
    """One REPEATABLE READ transaction of the owner: others work on meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        slugs = connection.execute("SELECT slug FROM overread.tenants ORDER BY slug").fetchall()
        #: All tenants, suspended ones too.
        self.tenants = tuple(TenantId(slug=slug) for (slug,) in slugs)
        named = [roles.SHARED_SCHEMA, *(roles.tenant_role(t) for t in self.tenants)]
        #: Schema to revision; a tenant that is just being made or deleted may have none.
        self.revisions: dict[str, str] = {}
        for schema in named:
            revision = self._revision(schema)
            if revision is not None:
                self.revisions[schema] = revision
        self._schemas = [*self.revisions, roles.JOBS_SCHEMA]
        self.tables = self._find_tables()
        for table in self.tables:  # nobody drops one meanwhile
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table.identifier))

    def rows(self, table: Table, kept: Callable[[int], None] = lambda _rows: None) -> Iterator[bytes]:
        """A table's rows as COPY text; `kept` is told how many there were."""
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(table.listed, table.identifier)
        with self._connection.cursor() as cursor:
            with cursor.copy(query) as copy:
                for piece in copy:
                    yield bytes(piece)
            kept(cursor.rowcount)

    def sequences(self) -> tuple[Sequence, ...]:
        """Not of the snapshot but of now, which is never behind it."""
        found = self._connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'S' AND n.nspname = ANY(%s) ORDER BY 1, 2",
            (self._schemas,),
        ).fetchall()
        made = []
        for schema, name in found:
            query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name))
            row = self._connection.execute(query).fetchone()
            if row is not None:
                made.append(Sequence(schema=schema, name=name, last=row[0], called=row[1]))
        return tuple(made)

    def object_keys(self, tenant: TenantId) -> Iterator[str]:
        """Of every object that a row of the tenant names: all columns called `...object_key`."""
        for table in self.tables:
            if table.schema != roles.tenant_role(tenant):
                continue
            for column in (c for c in table.columns if c.endswith("object_key")):
                query = sql.SQL("SELECT {0} FROM {1} WHERE {0} IS NOT NULL").format(
                    sql.Identifier(column), table.identifier
                )
                with self._connection.cursor(f"keys_of_{table.name}_{column}") as cursor:
                    cursor.itersize = 5000
                    cursor.execute(query)
                    for (key,) in cursor:
                        yield key

    def wrapped_keys(self) -> list[tuple[str, str, int, str, bytes]]:
        """(tenant, purpose, version, master key, wrapped key) of all data keys that are in use."""
        return [
            (tenant, purpose, version, master, bytes(wrapped))
            for tenant, purpose, version, master, wrapped in self._connection.execute(
                "SELECT tenant, purpose, version, master, wrapped FROM overread.data_keys WHERE wrapped IS NOT NULL"
            ).fetchall()
        ]

    def _revision(self, schema: str) -> str | None:
        if self._connection.execute("SELECT to_regclass(%s)", (f"{schema}.{_VERSION_TABLE}",)).fetchone() == (None,):
            return None
        query = sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(schema, _VERSION_TABLE))
        row = self._connection.execute(query).fetchone()
        return None if row is None else str(row[0])

    def _find_tables(self) -> tuple[Table, ...]:
        rows = self._connection.execute(
            "SELECT n.nspname, c.relname, array_agg(a.attname::text ORDER BY a.attnum)"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> %s"
            "   AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''"
            " GROUP BY 1, 2 ORDER BY 1, 2",
            (self._schemas, _VERSION_TABLE),
        ).fetchall()
        return tuple(Table(schema=schema, name=name, columns=tuple(columns)) for schema, name, columns in rows)


@contextmanager
def snapshot(engine: sqlalchemy.Engine) -> Iterator[Snapshot]:
    """Raises `psycopg.Error` if this is no Overread database."""
    with owner_connection(engine) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        _same_everywhere(connection)
        yield Snapshot(connection)


def is_empty(engine: sqlalchemy.Engine) -> bool:
    """Whether no tenant was ever made in this database."""
    with engine.connect() as connection:
        if connection.exec_driver_sql("SELECT to_regclass('overread.tenants')").scalar() is None:
            return True
        return not connection.exec_driver_sql(
            "SELECT EXISTS (SELECT FROM overread.tenants) OR EXISTS (SELECT FROM overread.tenants_deleted)"
        ).scalar()


def load(
    engine: sqlalchemy.Engine,
    secret: bytes,
    *,
    revisions: Mapping[str, str],
    tables: Iterable[tuple[Table, Callable[[], Iterable[bytes]]]],
    sequences: Iterable[Sequence],
) -> None:
    """Fill an empty database with a dump, in one transaction, then bring it up to date.

    The migrations make schemas and log-ins as they were when the dump was made. Raises `SetupError` if the dump is of a
    newer Overread than this one.
    """
    migrate.prepare_for_load(engine, secret, revisions)
    listed = list(tables)
    with owner_connection(engine) as connection:
        _same_everywhere(connection)
        names = sql.SQL(", ").join(table.identifier for table, _ in listed)
        references = connection.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype = 'f' AND conparentid = 0 AND connamespace::regnamespace::text = ANY(%s)",
            ([*revisions, roles.JOBS_SCHEMA],),
        ).fetchall()
        for table, constraint, _ in references:
            connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{constraint}"'.encode())
        connection.execute(sql.SQL("TRUNCATE {}").format(names))
        for table, pieces in listed:
            _fill(connection, table, pieces())
        for table, constraint, definition in references:
            connection.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{constraint}" {definition}'.encode())
        for sequence in sequences:
            name = sql.Identifier(sequence.schema, sequence.name).as_string(connection)
            connection.execute("SELECT setval(%s::regclass, %s, %s)", (name, sequence.last, sequence.called))
        connection.execute("UPDATE overread.tenants SET prepared = NULL")
    migrate.ensure(engine, secret)
    for state in tenant_rows.states(engine):
        if state.state == "suspended":
            tenant_rows.suspend(engine, state.tenant)  # its log-in was made anew, and open


def _fill(connection: Connection, table: Table, pieces: Iterable[bytes]) -> None:
    change = sql.SQL("ALTER TABLE {} {} TRIGGER USER")
    connection.execute(change.format(table.identifier, sql.SQL("DISABLE")))
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(table.identifier, table.listed)
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        for piece in pieces:
            copy.write(piece)
    connection.execute(change.format(table.identifier, sql.SQL("ENABLE")))


def _same_everywhere(connection: Connection) -> None:
    """Values as text that no setting of the server changes."""
    for statement in (
        "SET LOCAL search_path = pg_catalog",
        "SET LOCAL datestyle = 'ISO, YMD'",
        "SET LOCAL intervalstyle = 'postgres'",
        "SET LOCAL timezone = 'UTC'",
        "SET LOCAL extra_float_digits = 1",
        "SET LOCAL bytea_output = 'hex'",
        "SET LOCAL client_encoding = 'UTF8'",
        "SET LOCAL statement_timeout = 0",
    ):
        connection.execute(statement.encode())
