"""`overread keys`: look at data keys, rotate them, encrypt again, replace the master key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from overread import bootstrap
from overread.admin.connection import find_tenant, owner
from overread.config import Settings
from overread.domain.errors import Conflict
from overread.domain.study import TenantId
from overread.store import keys_master
from overread.store.keys import FRESH_S
from overread.store.keys_admin import KeyState
from overread.store.keys_reencrypt import Progress

#: After a rotation: until every process encrypts with the new key, and what was begun with the old one is done.
SETTLED_S = FRESH_S + 60.0
#: Between two looks for keys that another process wrapped by the old master key meanwhile.
_STRAGGLERS_S = 5.0


@dataclass(frozen=True, kw_only=True)
class MasterRotation:
    """What became of it."""

    wrapped: int
    #: The key that wraps now.
    master: str


def states(settings: Settings) -> tuple[KeyState, ...]:
    """All versions of all keys, by tenant."""
    with owner(settings) as engine:
        return bootstrap.owner_keys(settings, engine).states()


def rotate_data(settings: Settings, slug: str) -> int:
    """The new version. Raises `NotFound`, `KeyShredded`."""
    with owner(settings) as engine:
        return bootstrap.owner_keys(settings, engine).rotate_data(find_tenant(engine, slug))


def rotate_master(settings: Settings, *, wait: Callable[[float], None] = time.sleep) -> MasterRotation:
    """Wrap all data keys by a new master key, while everything runs.

    With a key file a new key is made and the old one leaves the file. With OVERREAD_MASTER_KEY the first key given
    wraps, and with a KMS its present key: put it there, restart, and call this.
    """
    path = bootstrap.master_key_file(settings)
    if path is not None:
        keys_master.add_to_file(path)
    with owner(settings) as engine:
        keys = bootstrap.owner_keys(settings, engine)
        wrapped = keys.wrap_again()
        wait(_STRAGGLERS_S)
        wrapped += keys.wrap_again()
        masters = {s.master for s in keys.states() if s.state in ("active", "reading")}
        now = keys.master_id
    if masters - {now}:
        raise Conflict("Another master key still wraps data keys.", remedy="Run the same command again.")
    if path is not None:
        keys_master.keep_newest(path)
    return MasterRotation(wrapped=wrapped, master=now)


def reencrypt(
    settings: Settings, slug: str, *, start_over: bool = False, wait: Callable[[float], None] = time.sleep
) -> Iterator[Progress]:
    """Encrypt rows and objects of a tenant by its active data key, then delete the older keys.

    While it is served; interrupted, it goes on where it was when it is run again.
    """
    with owner(settings) as engine:
        tenant = find_tenant(engine, slug)
        keys = bootstrap.owner_keys(settings, engine)
        version = _settle(keys.states(), tenant, wait)
        database, again = bootstrap.reencryption(settings)
        try:
            if start_over:
                again.start_over(tenant)
            yield from again.rows(tenant)
            yield from again.objects(tenant)
            if again.behind(tenant):
                raise Conflict("Not everything is encrypted anew yet.", remedy="Run the same command with --again.")
        finally:
            database.close()
        retired = keys.retire(tenant, version)
        yield Progress(what="data keys retired", done=retired, total=retired)


def _settle(states: tuple[KeyState, ...], tenant: TenantId, wait: Callable[[float], None]) -> int:
    """The active version, once every process has it."""
    for state in states:
        if state.tenant == tenant.slug and state.purpose == "data" and state.state == "active":
            left = timedelta(seconds=SETTLED_S) - (bootstrap.now() - state.created_at)
            if state.version > 1 and left > timedelta(0):
                wait(left.total_seconds())
            return state.version
    raise Conflict(f"The tenant {tenant} has no data key in use.", remedy="See `overread keys status`.")
