"""The FastAPI application around the routers of `api` and `web`, which `bootstrap` hands in:

    app = create_app(
        services, routers=[*overread.api.ROUTERS, *overread.web.ROUTERS], error_page=overread.web.error_page
    )
    app.mount("/static", overread.web.STATIC)

A server that stops calls `app.state.streams.close()` first, else it waits for pages that listen.

Layers of a request, outermost first: security headers, last resort (500), gzip, size limit, then errors and routes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.middleware.gzip import GZipMiddleware

from overread.domain.texts import DISCLAIMER
from overread.http import errors
from overread.http.audit import AuditEdge
from overread.http.auth import KeepsSessions, Limiters
from overread.http.limits import BodyLimit, Limiter, RateLimiter, SharedLimiter
from overread.http.pictures import PictureCache
from overread.http.security import SecurityHeaders
from overread.http.sse import Streams
from overread.http.wiring import Services
from overread.services.audit_tally import Tally

UPLOAD_PATH = "/api/studies"


class ErrorResponse(BaseModel):
    """The specification's error format."""

    #: One sentence for a person.
    error: str
    #: Stable; docs/reference/errors.md lists all.
    code: str
    details: dict[str, Any] | None = None
    timestamp: str
    analysisId: str | None = None  # noqa: N815 - the wire's word


def create_app(
    services: Services,
    *,
    routers: Sequence[APIRouter] = (),
    error_page: errors.ErrorPage | None = None,
) -> FastAPI:
    """The application. `error_page` makes HTML of errors for addresses that people look at."""
    settings = services.settings
    app = FastAPI(
        title="Overread",
        version=settings.version,
        description=DISCLAIMER,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        # Traces hold addresses, and addresses hold study UIDs: none leaves this process.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        responses={status: {"model": ErrorResponse} for status in (400, 401, 403, 404, 429, 500, 503)},
    )
    app.state.services = services
    app.state.error_page = error_page
    app.state.limiters = Limiters(
        api=_limiter(services, "api", settings.api_per_minute),
        make_api=lambda per_minute: _limiter(services, f"api {per_minute}", per_minute),
        login=_limiter(services, "login", settings.login_per_minute),
        login_address=_limiter(services, "login address", settings.login_per_minute * 10),
    )
    app.state.pictures = PictureCache()
    app.state.streams = Streams()
    app.state.tally = services.tally or Tally(services.db, clock=services.clock, monotonic=time.monotonic)
    errors.install(app)
    app.add_middleware(AuditEdge, services=services, tally=app.state.tally)
    app.add_middleware(
        BodyLimit,
        limit_for=lambda path: settings.max_upload_bytes if path == UPLOAD_PATH else settings.max_body_bytes,
    )
    app.add_middleware(KeepsSessions, services=services)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(errors.LastResort, api=app)
    app.add_middleware(SecurityHeaders, https=settings.cookie_secure)
    for router in routers:
        app.include_router(router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _limiter(services: Services, name: str, per_minute: int) -> Limiter:
    own = RateLimiter(per_minute)
    return SharedLimiter(own, services.buckets, name) if services.buckets is not None else own


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's schema without its 422: what does not fit is 400 here."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation.get("responses", {}).pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema.get("components", {}).get("schemas", {}).pop(name, None)
        app.openapi_schema = schema
    return app.openapi_schema
