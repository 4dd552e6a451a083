"""The owner's log-in, which no serving process has."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy

from overread import bootstrap
from overread.config import Settings
from overread.domain.audit import Actor, ActorKind
from overread.domain.errors import InvalidRequest, NotFound
from overread.domain.study import TenantId
from overread.store import migrate


@contextmanager
def owner(settings: Settings) -> Iterator[sqlalchemy.Engine]:
    """The owner's engine; the database must run (`overread serve`). Raises `StoreUnavailable` inside the block."""
    engine = migrate.owner_engine(bootstrap.owner_conninfo(settings))
    try:
        with migrate.reachable():
            yield engine
    finally:
        engine.dispose()


def find_tenant(engine: sqlalchemy.Engine, slug: str) -> TenantId:
    """Raises `NotFound`, and says which there are."""
    known = migrate.list_tenants(engine)
    for tenant in known:
        if tenant.slug == slug:
            return tenant
    raise NotFound(f"There is no tenant {slug!r}.", remedy=f"Known: {', '.join(map(str, known)) or 'none'}.")


def new_tenant(slug: str) -> TenantId:
    """Raises `InvalidRequest` for what cannot be a tenant's name."""
    try:
        return TenantId(slug=slug)
    except ValueError as error:
        raise InvalidRequest(
            f"{slug[:60]!r} cannot be a tenant's short name.",
            remedy="At most 40 of a-z, 0-9 and _, the first one a letter.",
            parameter="slug",
        ) from error


def operator() -> Actor:
    """Who types the command, for the record."""
    try:
        name = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container without such a user
        name = f"uid {os.getuid()}"
    return Actor(kind=ActorKind.SYSTEM, name=name, role="operator", channel="command line")
