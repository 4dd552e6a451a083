"""A real PostgreSQL for the whole session, and a fresh tenant for each test."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from overread import bootstrap
from overread.config import Settings
from overread.domain.study import TenantId
from overread.store import migrate
from tests.integration import external

_numbers = itertools.count(1)


#: Which server the tests of `settings` talk to: the embedded one, or Debian's PostgreSQL 15 behind pgbouncer.
DATABASE = os.environ.get("OVERREAD_TEST_DATABASE", "embedded")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On an external server: what has its own embedded one, or is about it (`embedded_only`), is not run again."""
    if DATABASE == "embedded":
        return
    for item in items:
        uses = "settings" in getattr(item, "fixturenames", ()) or item.get_closest_marker("any_database")
        if not uses or item.get_closest_marker("embedded_only"):
            item.add_marker(pytest.mark.skip(reason="about the embedded server"))


@contextlib.contextmanager
def installation(state: Path, **values: Any) -> Iterator[Settings]:
    """Settings of an installation with a running server and no schema yet."""
    if DATABASE == "external":
        server = external.started()
        try:
            yield Settings(
                _env_file=None, state=state, database_url=server.pooled, database_direct_url=server.direct, **values
            )
        finally:
            server.stop()
        return
    made = Settings(_env_file=None, state=state, **values)
    own = bootstrap.embedded(made)
    own.start()
    try:
        own.ensure_database()
        yield made
    finally:
        own.destroy()


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An installation with a running database and its shared schema."""
    with installation(tmp_path_factory.mktemp("state")) as made:
        engine = migrate.owner_engine(bootstrap.owner_conninfo(made))
        migrate.ensure(engine, made.secret())
        engine.dispose()
        yield made


@pytest.fixture
def tenant(settings: Settings) -> TenantId:
    """A tenant that no other test has."""
    return make_tenant(settings)


@pytest.fixture
def other_tenant(settings: Settings) -> TenantId:
    """Its neighbour."""
    return make_tenant(settings)


def make_tenant(settings: Settings) -> TenantId:
    """Schema and log-in of a new tenant."""
    slug = TenantId(slug=f"test_{next(_numbers)}")
    engine = migrate.owner_engine(bootstrap.owner_conninfo(settings))
    migrate.create_tenant(engine, settings.secret(), slug, "A test's tenant")
    engine.dispose()
    return slug


@pytest.fixture
def owner_engine(settings: Settings) -> Iterator[sqlalchemy.Engine]:
    """The owner's log-in, which no serving process has."""
    engine = migrate.owner_engine(bootstrap.owner_conninfo(settings))
    yield engine
    engine.dispose()


@pytest.fixture
def overread(settings: Settings) -> Iterator[bootstrap.Overread]:
    """All shared parts, wired as in production."""
    built = bootstrap.build(settings)
    yield built
    built.close()
