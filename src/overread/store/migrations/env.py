"""Alembic's entry: runs one of the two lines in one schema, on the connection that `overread.store.migrate` gives."""

from __future__ import annotations

from alembic import context

config = context.config
schema = config.attributes["schema"]

context.configure(
    connection=config.attributes["connection"],
    version_table="schema_version",
    version_table_schema=schema,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
