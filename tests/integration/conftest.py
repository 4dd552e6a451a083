"""A real PostgreSQL for the whole session, and a fresh tenant for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from overread import bootstrap
from overread.config import Settings
from overread.domain.study import TenantId
from overread.store import migrate, roles

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An installation with a running embedded database and its shared schema."""
    state: Path = tmp_path_factory.mktemp("state")
    made = Settings(state=state, _env_file=None)
    server = bootstrap.embedded(made)
    server.start()
    try:
        server.ensure_database()
        engine = migrate.owner_engine(server.url, roles.password(made.secret(), "owner"))
        migrate.ensure(engine, made.secret())
        engine.dispose()
        yield made
    finally:
        server.destroy()


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
    server = bootstrap.embedded(settings)
    engine = migrate.owner_engine(server.url, roles.password(settings.secret(), "owner"))
    migrate.create_tenant(engine, settings.secret(), slug, "A test's tenant")
    engine.dispose()
    return slug


@pytest.fixture
def owner_engine(settings: Settings) -> Iterator[sqlalchemy.Engine]:
    """The owner's log-in, which no serving process has."""
    engine = migrate.owner_engine(bootstrap.embedded(settings).url, roles.password(settings.secret(), "owner"))
    yield engine
    engine.dispose()


@pytest.fixture
def overread(settings: Settings) -> Iterator[bootstrap.Overread]:
    """All shared parts, wired as in production."""
    built = bootstrap.build(settings)
    yield built
    built.close()
