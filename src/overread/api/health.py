"""/healthz: the process lives. /readyz: it can work. Neither says anything about a tenant or a patient."""

from __future__ import annotations

from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response

from overread.domain.errors import OverreadError
from overread.domain.study import TenantId
from overread.http.errors import error_body
from overread.http.wiring import services_of

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process lives")
def healthz(request: Request) -> dict[str, str | float]:
    """Always 200 while requests are answered."""
    services = services_of(request)
    uptime = (services.clock() - services.started_at).total_seconds()
    return {"status": "ok", "version": services.settings.version, "uptimeSeconds": round(max(0.0, uptime), 1)}


@router.get("/readyz", summary="Whether it can work")
def readyz(request: Request) -> Response:
    """503 NOT_READY names what does not answer."""
    services = services_of(request)
    checks = {"database": _database_answers(request)}
    checks |= {name: check() for name, check in services.checks.items()}
    words = {name: "ok" if works else "unavailable" for name, works in checks.items()}
    if all(checks.values()):
        return Response(orjson.dumps({"status": "ready", "checks": words}), media_type="application/json")
    body = error_body(
        "NOT_READY", "Not everything that is needed answers.", services.clock(), details={"checks": words}
    )
    return Response(orjson.dumps(body), status_code=503, media_type="application/json", headers={"Retry-After": "5"})


def _database_answers(request: Request) -> bool:
    services = services_of(request)
    try:
        with services.db.unit(TenantId(slug=services.settings.default_tenant)) as uow:
            uow.studies.get(UUID(int=0))
    except OverreadError:
        return False
    return True
