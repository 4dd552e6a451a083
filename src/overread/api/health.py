"""/healthz: the process lives. /readyz: it can work. Neither says anything about a tenant or a patient."""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from overread.http.errors import error_body
from overread.http.wiring import services_of
from overread.services.degradation import DATABASE

router = APIRouter(tags=["health"])

#: A load balancer asks every few seconds and must not be kept waiting by a bucket that is out of reach.
_PATIENCE_S: Final = 3.0


@router.get("/healthz", summary="Whether the process lives")
def healthz(request: Request) -> dict[str, str | float]:
    """Always 200 while requests are answered."""
    services = services_of(request)
    uptime = (services.clock() - services.started_at).total_seconds()
    return {"status": "ok", "version": services.settings.version, "uptimeSeconds": round(max(0.0, uptime), 1)}


@router.get("/readyz", summary="Whether it can work")
def readyz(request: Request) -> Response:
    """503 NOT_READY without the database. Without another part: 200, `degraded`; what does not work is named.

    Why not 503 for all of them: a load balancer would take every web server away, and with them the worklist, which
    needs the database alone (docs/decisions/0017).
    """
    services = services_of(request)
    found = services.watch.condition(wait_s=_PATIENCE_S)
    words = {name: "ok" if works else "unavailable" for name, works in found.parts.items()}
    if found.parts.get(DATABASE, False):
        body: dict[str, Any] = {"status": "degraded" if found.degraded else "ready", "checks": words}
        if found.queue is not None:
            body |= {"overloaded": found.overloaded, "waitingJobs": found.queue.waiting}
        return Response(orjson.dumps(body), media_type="application/json")
    refusal = error_body("NOT_READY", "The database does not answer.", services.clock(), details={"checks": words})
    return Response(orjson.dumps(refusal), status_code=503, media_type="application/json", headers={"Retry-After": "5"})
