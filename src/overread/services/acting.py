"""Who acts just now: set once at the edge (a request, an association, a command), read where something is recorded.

Use cases are given a name ("radiologist", "worker"); the trail wants to know more: account, role, session, address. The
edge knows that, and what lies between need not carry it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Final

from overread.domain.audit import Actor, ActorKind

#: Names of our own processes, as use cases give them.
_SYSTEM: Final = frozenset({"worker", "arrival", "command line", "retention", "restore"})

_source: ContextVar[Callable[[], Actor | None] | None] = ContextVar("overread_acting", default=None)


@contextmanager
def acting(source: Callable[[], Actor | None]) -> Iterator[None]:
    """Inside the block, and in threads that are started with its context, `source` says who acts when it is asked."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def current() -> Actor | None:
    """Who acts; None where nobody said so."""
    source = _source.get()
    return source() if source is not None else None


def resolve(actor: Actor | str, *, address: str = "", channel: str = "") -> Actor:
    """A name as an actor: with all that is known if it is who acts now, else with the address at least."""
    here = current()
    if isinstance(actor, Actor):
        return replace(
            actor,
            address=address or actor.address or (here.address if here is not None else ""),
            channel=channel or actor.channel or (here.channel if here is not None else ""),
        )
    if here is not None and here.name == actor:
        found = here
    elif actor in _SYSTEM:
        found = Actor(kind=ActorKind.SYSTEM, name=actor, channel=actor)
    else:
        found = Actor(
            kind=ActorKind.PERSON,
            name=actor,
            address=here.address if here is not None else "",
            channel=here.channel if here is not None else "",
        )
    return replace(found, address=address or found.address, channel=channel or found.channel)
