"""The years of the audit trail: partitions, made ahead by the owner at each start; and who may do what with them."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy

#: Partitions that are there before their year begins. Without a start for so long, rows wait in the default partition.
YEARS_AHEAD = 2

#: What a tenant's log-in may say of a row: not its number, nor its time, nor its transaction.
_COLUMNS = (
    "action, outcome, code, actor_kind, actor, user_id, role, session, address, channel, patient, study_id, facts"
)


def partition(year: int) -> str:
    """The table of a year (UTC)."""
    return f"audit_events_{year:04d}"


def ensure(connection: sqlalchemy.Connection, schema: str) -> None:
    """Make this year's partition and the next ones, and move rows there that lie in the default partition."""
    this = connection.exec_driver_sql("SELECT extract(year FROM now() AT TIME ZONE 'UTC')::int").scalar_one()
    there = {name for (name,) in connection.exec_driver_sql(_PARTITIONS, (schema,))}
    lying = connection.exec_driver_sql(
        f"SELECT DISTINCT extract(year FROM at AT TIME ZONE 'UTC')::int FROM {schema}.audit_events_other"  # noqa: S608
    )
    wanted = {int(year) for (year,) in lying} | set(range(this, this + YEARS_AHEAD + 1))
    for year in sorted(wanted):
        if partition(year) not in there:
            _add(connection, schema, year)


_PARTITIONS = (
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent"
    " WHERE p.relname = 'audit_events' AND p.relnamespace = %s::regnamespace"
)


def years(connection: sqlalchemy.Connection, schema: str) -> tuple[int, ...]:
    """Years that have a partition, oldest first."""
    names = [name for (name,) in connection.exec_driver_sql(_PARTITIONS, (schema,))]
    return tuple(sorted(int(name[-4:]) for name in names if name[-4:].isdigit()))


def _add(connection: sqlalchemy.Connection, schema: str, year: int) -> None:
    parent, new, other = (f"{schema}.{name}" for name in ("audit_events", partition(year), "audit_events_other"))
    begin, end = f"'{year:04d}-01-01 00:00:00+00'", f"'{year + 1:04d}-01-01 00:00:00+00'"
    connection.exec_driver_sql(f"LOCK TABLE {other} IN ACCESS EXCLUSIVE MODE")
    connection.exec_driver_sql(f"CREATE TABLE {new} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    moved = f"WHERE at >= {begin} AND at < {end}"
    connection.exec_driver_sql(f"INSERT INTO {new} SELECT * FROM {other} {moved}")  # noqa: S608
    connection.exec_driver_sql(f"DELETE FROM {other} {moved}")  # noqa: S608
    connection.exec_driver_sql(f"ALTER TABLE {parent} ATTACH PARTITION {new} FOR VALUES FROM ({begin}) TO ({end})")


def rights(role: str) -> Iterable[str]:
    """Statements after which a tenant's log-in may add rows and seals, read them, and nothing else.

    Run them after the general grants: those give UPDATE on every table of the schema, each partition among them.
    """
    yield (
        "DO $$ DECLARE one text; BEGIN FOR one IN SELECT c.relname FROM pg_class c WHERE c.relnamespace ="  # noqa: S608
        f" '{role}'::regnamespace AND c.relkind IN ('r', 'p') AND left(c.relname, 6) = 'audit_' LOOP"
        f" EXECUTE 'REVOKE ALL ON {role}.' || quote_ident(one) || ' FROM {role}'; END LOOP; END $$"
    )
    yield f"GRANT SELECT, INSERT ({_COLUMNS}) ON {role}.audit_events TO {role}"
    yield f"GRANT SELECT, INSERT ON {role}.audit_seals TO {role}"
    yield f"GRANT SELECT, INSERT, UPDATE ON {role}.audit_cursors TO {role}"
    yield f"GRANT USAGE ON SEQUENCE {role}.audit_numbers TO {role}"
