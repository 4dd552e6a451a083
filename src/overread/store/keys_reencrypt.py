"""Encrypt again what an older data key encrypted, or nothing did: rows and objects of a tenant, while it is served.

Safe to stop and to start again: each batch is a transaction of its own and notes how far it came, and what has the
active version already is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from overread.domain.errors import ObjectDamaged, ObjectMissing
from overread.domain.study import TenantId
from overread.store.cipher import Values, version_of
from overread.store.database import Postgres
from overread.store.encrypted_objects import EncryptedObjects
from overread.store.repositories.identifiers import (
    STUDY_FIELDS,
    Row,
    open_rejection,
    seal_again,
    seal_record,
    seal_rejection,
    seal_study,
)

_BATCH: Final = 500
#: Objects in one transaction, which waits for them.
_OBJECTS_A_BATCH: Final = 20
_ZERO: Final = UUID(int=0)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far it is."""

    #: What is being done, a plural noun.
    what: str
    done: int
    total: int
    #: Objects that are not there, or not what was stored: they are left as they are.
    unreadable: int = 0


Connection = psycopg.Connection[tuple[Any, ...]]
Convert = Callable[[Values, Row], dict[str, Any]]


def _plain_study(values: Values, row: Row) -> dict[str, Any]:
    born = row["patient_birth_date"]
    fields = {name: row[name] for name in STUDY_FIELDS} | {"patient_birth_date": born.isoformat() if born else None}
    sealed = seal_study(values, row["id"], fields)
    emptied: dict[str, Any] = dict.fromkeys(STUDY_FIELDS, "") | {"patient_birth_date": None}
    return emptied | {
        "identifiers": sealed.identifiers,
        "patient_blind": sealed.patient_blind,
        "patient_id_blind": sealed.patient_id_blind,
        "accession_blind": sealed.accession_blind,
        "words": sealed.words,
    }


def _plain_instance(values: Values, row: Row) -> dict[str, Any]:
    sealed = seal_record(values, "instances", row["id"], row["record"], row["received_from"])
    return {
        "record": Jsonb(sealed.record),
        "received_from": Jsonb({}),
        "identifiers": sealed.identifiers,
        "patient_blind": sealed.patient_blind,
        "file_sha256": sealed.file_sha256,
        "pixel_sha256": sealed.pixel_sha256,
    }


def _plain_revision(values: Values, row: Row) -> dict[str, Any]:
    sealed = seal_record(values, "instance_revisions", row["id"], row["record"], row["received_from"])
    return {
        "record": Jsonb(sealed.record),
        "received_from": Jsonb({}),
        "identifiers": sealed.identifiers,
        "file_sha256": sealed.file_sha256,
    }


def _plain_rejection(values: Values, row: Row) -> dict[str, Any]:
    rejection = open_rejection(values, row)
    return {
        "message": "",
        "received_from": Jsonb({}),
        "identifiers": seal_rejection(values, row["id"], rejection),
        "file_sha256": values.content(rejection.file_sha256) if rejection.file_sha256 else None,
    }


#: What holds identifiers, and how a row that is not encrypted becomes one that is.
_TABLES: Final[dict[str, Convert]] = {
    "studies": _plain_study,
    "instances": _plain_instance,
    "instance_revisions": _plain_revision,
    "rejections": _plain_rejection,
}
#: Where object keys lie: table and column.
_OBJECTS: Final = (
    ("instances", "object_key"),
    ("instance_revisions", "object_key"),
    ("rejections", "object_key"),
    ("image_analyses", "sr_object_key"),
    ("image_analyses", "seg_object_key"),
)


class Reencryption:
    """Of one tenant at a time."""

    def __init__(self, database: Postgres, objects: EncryptedObjects) -> None:
        self._database = database
        self._objects = objects

    def plain_rows(self, tenant: TenantId) -> Iterator[Progress]:
        """Encrypt rows of an older version of Overread that are not encrypted at all. Quick where there is none."""
        for table, convert in _TABLES.items():
            total = self._count(tenant, f"SELECT count(*) FROM {table} WHERE identifiers IS NULL")  # noqa: S608
            done = 0
            while done < total:
                with self._database.unit(tenant) as unit:
                    rows = _rows(
                        unit.connection,
                        f"SELECT * FROM {table} WHERE identifiers IS NULL ORDER BY id LIMIT {_BATCH} FOR UPDATE",  # noqa: S608
                        (),
                    )
                    for row in rows:
                        _encrypt(unit.connection, unit.patient_index, table, row, convert)
                    if table == "studies":
                        unit.connection.execute(
                            "UPDATE series SET series_description = '' WHERE series_description <> ''"
                        )
                if not rows:
                    break
                done += len(rows)
                yield Progress(what=table.replace("_", " "), done=done, total=total)

    def rows(self, tenant: TenantId) -> Iterator[Progress]:
        """Seal every row by the active data key."""
        yield from self.plain_rows(tenant)
        for table in _TABLES:
            total, done = self._count(tenant, f"SELECT count(*) FROM {table}"), 0  # noqa: S608
            for rows in self._batches(tenant, table, "identifiers", self._seal_rows, _BATCH):
                done += rows
                yield Progress(what=table.replace("_", " "), done=done, total=max(done, total))

    def objects(self, tenant: TenantId) -> Iterator[Progress]:
        """Encrypt every object by the active data key."""
        unreadable = 0

        def again(_connection: Any, values: Values, _table: str, rows: Sequence[Row]) -> None:
            nonlocal unreadable
            for row in rows:
                unreadable += not self._object_again(tenant, row["found"], values.version)

        for table, column in _OBJECTS:
            total = self._count(tenant, f"SELECT count({column}) FROM {table}")  # noqa: S608
            done = 0
            for count in self._batches(tenant, table, column, again, _OBJECTS_A_BATCH):
                done += count
                what = f"objects of {table.replace('_', ' ')}"
                yield Progress(what=what, done=done, total=max(done, total), unreadable=unreadable)

    def _object_again(self, tenant: TenantId, key: str, version: int) -> bool:
        try:
            if self._objects.version(tenant, key) != version:
                self._objects.put(tenant, key, self._objects.get(tenant, key))
        except (ObjectMissing, ObjectDamaged):
            return False
        return True

    @staticmethod
    def _seal_rows(connection: Any, values: Values, table: str, rows: Sequence[Row]) -> None:
        version = values.version
        for row in rows:
            sealed = bytes(row["found"])
            if version_of(sealed) != version:
                _update(connection, table, row["id"], {"identifiers": seal_again(values, table, row["id"], sealed)})

    def _batches(
        self,
        tenant: TenantId,
        table: str,
        column: str,
        work: Callable[[Connection, Values, str, Sequence[Row]], None],
        size: int,
    ) -> Iterator[int]:
        """Rows in the order of their ids, from where an interrupted run for this version was; each batch commits."""
        item = f"{table}.{column}"
        while True:
            with self._database.unit(tenant) as unit:
                version = unit.patient_index.version
                noted = unit.connection.execute(
                    "SELECT last_id FROM reencryption WHERE item = %s AND version = %s", (item, version)
                ).fetchone()
                rows = _rows(
                    unit.connection,
                    f"SELECT id, {column} AS found FROM {table} WHERE id > %s AND {column} IS NOT NULL"  # noqa: S608
                    " ORDER BY id LIMIT %s",
                    (noted[0] if noted else _ZERO, size),
                )
                if rows:
                    work(unit.connection, unit.patient_index, table, rows)
                    unit.connection.execute(
                        "INSERT INTO reencryption (item, version, last_id) VALUES (%s, %s, %s) ON CONFLICT (item)"
                        " DO UPDATE SET version = excluded.version, last_id = excluded.last_id",
                        (item, version, rows[-1]["id"]),
                    )
            if not rows:
                return
            yield len(rows)

    def behind(self, tenant: TenantId) -> int:
        """Rows that the active data key does not seal: 0 when all is done."""
        with self._database.unit(tenant) as unit:
            version = unit.patient_index.version.to_bytes(4, "big")
        return sum(
            self._count(
                tenant,
                f"SELECT count(*) FROM {table}"  # noqa: S608
                f" WHERE substring(identifiers FROM 2 FOR 4) IS DISTINCT FROM '\\x{version.hex()}'::bytea",
            )
            for table in _TABLES
        )

    def start_over(self, tenant: TenantId) -> None:
        """Forget how far it came: the next run looks at everything again."""
        with self._database.unit(tenant) as unit:
            unit.connection.execute("UPDATE reencryption SET last_id = %s", (_ZERO,))

    def _count(self, tenant: TenantId, query: str) -> int:
        with self._database.unit(tenant) as unit:
            row = unit.connection.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0


def _encrypt(connection: Connection, values: Values, table: str, row: Row, convert: Convert) -> None:
    columns = convert(values, row)
    try:
        with connection.transaction():
            _update(connection, table, row["id"], columns)
    except psycopg.errors.UniqueViolation:
        # The same file came again since Overread was brought up to date: both entries stay.
        _update(connection, table, row["id"], columns | {"file_sha256": f"{columns['file_sha256']} {row['id']}"})


def _rows(connection: Connection, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
    return connection.cursor(row_factory=dict_row).execute(query.encode(), values).fetchall()


def _update(connection: Connection, table: str, row_id: UUID, columns: dict[str, Any]) -> None:
    names = ", ".join(f"{name} = %s" for name in columns)
    connection.execute(f"UPDATE {table} SET {names} WHERE id = %s".encode(), (*columns.values(), row_id))  # noqa: S608
