"""What the edge puts on record: who acts, for everything inside; lists that were looked at; what was denied or failed.

`http.audit_routes` says for each route what is recorded. A denial is recorded once a minute for a log-in, an action and
a code, with a count, so that a flood cannot fill the disk. Who has no valid log-in has no tenant: that is logged.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import orjson
import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overread.domain.audit import Actor, ActorKind, AuditAction, AuditOutcome
from overread.domain.errors import OverreadError
from overread.http.audit_routes import AtEdge, Inside, entry_of
from overread.http.wiring import Services
from overread.services.access import Identity
from overread.services.acting import acting
from overread.services.audit_tally import Tally
from overread.services.ports import UnitOfWork
from overread.services.values import StudyRow

log = structlog.get_logger(__name__)

_DENIED: Final = frozenset({401, 403, 429})
#: Malformed requests concern nobody.
_NOT_RECORDED: Final = frozenset({400, 405, 413})


def tally_of(request: Request) -> Tally:
    """The app's counts."""
    tally: Tally = request.app.state.tally
    return tally


def looked(request: Request, uow: UnitOfWork, action: AuditAction, study: StudyRow, **facts: Any) -> None:
    """Somebody looked at something of a study: a row the first time, then counted."""
    who: Identity = request.state.identity
    tally_of(request).record(uow.audit, who.tenant, action, actor=who.name, study_id=study.id, **facts)


def actor_of(scope: Scope) -> Actor | None:
    """Who makes a request, as far as it is known by now."""
    identity: Identity | None = scope.get("state", {}).get("identity")
    address = scope["client"][0] if scope.get("client") else ""
    if identity is None:
        channel = "api" if scope.get("path", "").startswith("/api/") else "page"
        return Actor(kind=ActorKind.PERSON, name="", address=address, channel=channel)
    return identity.actor(address)


class AuditEdge:
    """The innermost layer around the routes."""

    def __init__(self, app: ASGIApp, *, services: Services, tally: Tally) -> None:
        self._app = app
        self._services = services
        self._tally = tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        unrecorded = False

        async def recorded(message: Message) -> None:
            nonlocal unrecorded
            if message["type"] == "http.response.start":
                try:
                    await self._record(scope, message["status"])
                except OverreadError as error:
                    log.error("audit.not_recorded", code=error.code)
                    unrecorded = message["status"] < 400
                    if unrecorded:
                        await _unavailable(send)
            if not unrecorded:
                await send(message)

        with acting(lambda: actor_of(scope)):
            await self._app(scope, receive, recorded)

    async def _record(self, scope: Scope, status: int) -> None:
        entry = entry_of(scope)
        if not isinstance(entry, AtEdge | Inside):
            return
        # A page answers what is denied with a way to the log-in: the error says more than the answer.
        code, status = scope["state"].get("refused", ("", status))
        if status < 400:
            if isinstance(entry, AtEdge) and (status < 300 or status == 304):
                await run_in_threadpool(self._write, scope, entry.action, AuditOutcome.SUCCESS, "")
            return
        if status in _NOT_RECORDED or status >= 500:
            return  # a fault is told by the log and by what failed; the database may be what is away
        outcome = AuditOutcome.DENIED if status in _DENIED else AuditOutcome.FAILED
        await run_in_threadpool(self._write, scope, entry.action, outcome, code)

    def _write(self, scope: Scope, action: AuditAction, outcome: AuditOutcome, code: str) -> None:
        identity: Identity | None = scope["state"].get("identity")
        route = getattr(scope.get("route"), "path", "")
        if identity is None:
            if outcome is not AuditOutcome.SUCCESS:
                log.info("access.denied", route=route, code=code)
            return
        facts: dict[str, Any] = {}
        if outcome is not AuditOutcome.SUCCESS:
            facts = {"route": route, "asked": _asked(scope)}
        with self._services.db.unit(identity.tenant) as uow:
            self._tally.record(
                uow.audit, identity.tenant, action, actor=identity.name, outcome=outcome, code=code, **facts
            )


def _asked(scope: Scope) -> str | None:
    """Which of our ids an address named; other text of an address may be anything, a name among it."""
    for value in scope.get("path_params", {}).values():
        try:
            return str(UUID(str(value)))
        except ValueError:
            continue
    return None


async def _unavailable(send: Send) -> None:
    """What cannot be put on record is not handed out."""
    body = orjson.dumps(
        {"error": "The database cannot be reached just now. Try again in a moment.", "code": "DATABASE_UNAVAILABLE"}
    )
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"5"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
