"""The only place that knows HTTP status codes of errors.

Every error leaves as the specification's `ErrorResponse`: `{error, code, details?, timestamp, analysisId?}`. What is in
it was written for the caller: no class names, no paths, no SQL, no values that came in (they may be a patient's).
docs/reference/errors.md lists all codes.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overread.domain import errors
from overread.domain.errors import OverreadError

log = structlog.get_logger(__name__)

STATUS: Final[Mapping[type[OverreadError], int]] = {
    errors.InvalidRequest: 400,
    errors.InvalidDicom: 400,
    errors.UnsupportedModality: 400,
    errors.UnsafeArchive: 400,
    errors.NotDeidentified: 422,
    errors.BurnedInText: 422,
    errors.UnsupportedFile: 400,
    errors.InvalidPackage: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.StudyNotFound: 404,
    errors.AnalysisNotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.InPacs: 410,
    errors.SegmentationRemoved: 410,
    errors.RateLimited: 429,
    errors.InferenceError: 500,
    errors.ObjectMissing: 500,
    errors.IdentifiersDamaged: 500,
    errors.SetupError: 500,
    errors.BackupDamaged: 500,
    errors.KeyUnavailable: 503,
    errors.StoreUnavailable: 503,
    errors.TenantUnavailable: 503,
    errors.ProviderUnavailable: 503,
    errors.AuditReceiverUnavailable: 503,
    errors.PacsUnavailable: 503,
    errors.StorageFull: 503,
    errors.ModelTimeout: 504,
    OverreadError: 500,
}

#: Codes of errors that Starlette raises by itself.
_PLAIN: Final[Mapping[int, tuple[str, str]]] = {
    401: ("UNAUTHENTICATED", "Log in first."),
    403: ("FORBIDDEN", "This is not allowed."),
    404: ("NOT_FOUND", "There is nothing at this address."),
    405: ("METHOD_NOT_ALLOWED", "This address does not take this method."),
    413: ("TOO_LARGE", "The request is larger than this installation takes."),
}

#: Sentences for errors whose own message is for the log, not for the caller.
_CALM: Final[Mapping[type[OverreadError], str]] = {
    errors.StoreUnavailable: "The database cannot be reached just now. Nothing is lost; try again in a moment.",
    errors.ObjectStoreUnavailable: "Images cannot be read or stored just now. Nothing is lost; try again in a moment.",
    errors.StorageFull: "The server has no room to store anything more. Nothing was accepted.",
    errors.ObjectMissing: "The stored object cannot be read.",
    errors.KeyUnavailable: "The key of this data cannot be had just now. Nothing was changed.",
    errors.IdentifiersDamaged: "Stored identifiers cannot be read.",
    errors.SetupError: "The server is not set up correctly.",
}

#: Details that may leave, whatever an error carries besides.
_PUBLIC_DETAILS: Final = frozenset(
    {
        "parameter",
        "problem",
        "allowed",
        "problems",
        "studyId",
        "lookedIn",
        "modality",
        "studyModality",
        "feature",
        "tenantId",
        "modelVersion",
        "errorType",
        "status",
        "permission",
        "reason",
        "retryAfterSeconds",
        "limitBytes",
        "file",
        "files",
        "reference",
        "remedy",
    }
)

ErrorPage = Callable[[Request, int, Mapping[str, Any]], Response]
"""Makes an HTML page of an error for somebody who looks at pages; `web` provides it."""


def status_of(error: OverreadError) -> int:
    """The HTTP status of an error, from its class or the nearest base class that has one."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def timestamp(now: datetime) -> str:
    """As the specification writes it: 2025-11-15T10:30:00Z."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def error_body(
    code: str,
    sentence: str,
    now: datetime,
    *,
    details: Mapping[str, Any] | None = None,
    analysis_id: UUID | str | None = None,
) -> dict[str, Any]:
    """The specification's `ErrorResponse`."""
    body: dict[str, Any] = {"error": sentence, "code": code}
    if details:
        body["details"] = dict(details)
    body["timestamp"] = timestamp(now)
    if analysis_id is not None:
        body["analysisId"] = str(analysis_id)
    return body


def _wants_page(request: Request) -> bool:
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


def _respond(request: Request, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    page: ErrorPage | None = getattr(request.app.state, "error_page", None)
    if page is not None and _wants_page(request):
        response = page(request, status, body)
        for name, value in headers.items():
            response.headers[name] = value
        return response
    return Response(
        orjson.dumps(body),
        status_code=status,
        media_type="application/json",
        headers={**headers, "Cache-Control": "no-store"},
    )


def _public_details(error: OverreadError) -> dict[str, Any]:
    kept = {k: v for k, v in error.details.items() if k in _PUBLIC_DETAILS}
    plain = {k: list(v) if isinstance(v, tuple | set | frozenset) else v for k, v in kept.items()}
    return {k: v for k, v in plain.items() if isinstance(v, str | int | float | bool | list | dict) or v is None}


def _now(request: Request) -> datetime:
    now: datetime = request.app.state.services.clock()
    return now


def public_sentence(error: OverreadError) -> str:
    """What the caller may read of an error."""
    return next((_CALM[kind] for kind in type(error).__mro__ if kind in _CALM), str(error))


def overread_error(request: Request, error: Exception) -> Response:
    """Handler of every `OverreadError`."""
    assert isinstance(error, OverreadError)  # noqa: S101 - FastAPI calls it for nothing else
    status = status_of(error)
    # For the audit trail (`http.audit`), which sees the answer only.
    request.state.refused = error.code, status
    if status >= 500:
        log.error("request.failed", code=error.code, status=status, where=_frames(error))
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        headers["Retry-After"] = str(error.details.get("retryAfterSeconds", 5))
    body = error_body(
        error.code,
        public_sentence(error),
        _now(request),
        details=_public_details(error),
        analysis_id=error.details.get("analysis_id"),
    )
    return _respond(request, status, body, headers)


def validation_error(request: Request, error: Exception) -> Response:
    """A request that does not fit its schema: 400 INVALID_REQUEST, naming the parameters and never their values."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    problems = [
        {"parameter": str(item["loc"][min(1, len(item["loc"]) - 1)]), "problem": _problem(item)}
        for item in error.errors()
    ]
    first = problems[0] if problems else {"parameter": "body", "problem": "cannot be read"}
    body = error_body(
        errors.InvalidRequest.code,
        f"The parameter {first['parameter']} {first['problem']}.",
        _now(request),
        details={"parameter": first["parameter"], "problems": problems},
    )
    return _respond(request, 400, body, {})


def _problem(item: Mapping[str, Any]) -> str:
    """pydantic's verdict without the value that was sent."""
    kind = str(item.get("type", ""))
    context = item.get("ctx") or {}
    known = {
        "missing": "is missing",
        "extra_forbidden": "is not known",
        "json_invalid": "is not valid JSON",
        "enum": f"must be one of {context.get('expected', 'the allowed values')}",
        "literal_error": f"must be one of {context.get('expected', 'the allowed values')}",
        "value_error": str(context.get("error", "has a value that cannot be used")),
    }
    if kind in known:
        return known[kind]
    message = str(item.get("msg", "cannot be used"))
    lowered = message[:1].lower() + message[1:]
    return lowered.replace("input should", "should").replace("value should", "should")


def http_error(request: Request, error: Exception) -> Response:
    """What Starlette raises by itself: unknown address, wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101
    if isinstance(error.__cause__, OverreadError):
        # FastAPI turns whatever happens while it reads a body into its own 400.
        return overread_error(request, error.__cause__)
    code, sentence = _PLAIN.get(error.status_code, ("INVALID_REQUEST", "The request cannot be used."))
    return _respond(request, error.status_code, error_body(code, sentence, _now(request)), dict(error.headers or {}))


def _frames(error: BaseException) -> list[str]:
    """Where it happened, without the message: that may hold a patient's data."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)][-8:]


class LastResort:
    """The outermost loop of a request: whatever nobody expected becomes 500 INTERNAL_ERROR with a reference."""

    def __init__(self, app: ASGIApp, *, api: FastAPI) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:  # noqa: BLE001 - the outermost loop: everything else was handled below
            reference = str(uuid4())
            log.error("request.crashed", reference=reference, kind=type(error).__name__, where=_frames(error))
            if started:
                return
            scope.setdefault("app", self._api)
            request = Request(scope, receive)
            body = error_body(
                "INTERNAL_ERROR",
                "Something went wrong on the server. The log has the reference.",
                _now(request),
                details={"reference": reference},
            )
            await _respond(request, 500, body, {})(scope, receive, send)


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(OverreadError, overread_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_error)
