"""Rounds over all hospitals, in a thread of the worker: what one of them breaks does not keep the others waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import structlog

from overread.domain.errors import OverreadError
from overread.domain.study import TenantId

log = structlog.get_logger(__name__)

_STOP_S = 5.0


def attempt(name: str, work: Callable[[TenantId], object], tenant: TenantId) -> bool:
    """Whether it went well; if not, the log says why and the next round tries again. `name` is of the kind of work."""
    try:
        work(tenant)
    except OverreadError as error:
        log.warning(f"{name}.postponed", tenant=tenant.slug, code=error.code, reason=str(error))
        return False
    except Exception:  # the outermost loop: a fault with one hospital must not end the round
        log.exception(f"{name}.crashed", tenant=tenant.slug)
        return False
    return True


def hospitals(name: str, tenants: Callable[[], Iterable[TenantId]]) -> tuple[TenantId, ...]:
    """Those to go to; none, and a line in the log, while nobody can say."""
    try:
        return tuple(tenants())
    except OverreadError as error:
        log.warning(f"{name}.postponed", code=error.code)
        return ()


@contextmanager
def repeated(name: str, work: Callable[[], None], *, first_s: float, every_s: float) -> Iterator[None]:
    """After `first_s` seconds, and then every `every_s`, while the block lasts."""
    stop = threading.Event()

    def keep() -> None:
        wait = first_s
        while not stop.wait(wait):
            work()
            wait = every_s

    thread = threading.Thread(target=keep, name=f"{name} keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=_STOP_S)
