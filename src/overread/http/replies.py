"""How a value becomes a response: chosen fields, an ETag, and 304 when the caller has it already."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from fastapi import Request, Response

from overread.domain.errors import InvalidRequest

#: Kept by the browser, but asked about each time.
PRIVATE: Final = "private, no-cache"
DICOM: Final = "application/dicom"


def etag_of(*parts: bytes | str) -> str:
    """A weak ETag (RFC 9110 8.8.3): gzip may change the bytes, not what they mean."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return f'W/"{digest.hexdigest()[:32]}"'


def is_known(request: Request, etag: str) -> bool:
    """Whether If-None-Match names this ETag (weak comparison, RFC 9110 13.1.2)."""
    header = request.headers.get("if-none-match", "")
    wanted = etag.removeprefix("W/")
    return any(given.strip() == "*" or given.strip().removeprefix("W/") == wanted for given in header.split(","))


def not_modified(etag: str) -> Response:
    """304: what the caller has is still right."""
    return Response(status_code=304, headers={"ETag": etag, "Cache-Control": PRIVATE})


def json_reply(
    request: Request, payload: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`payload` (plain JSON values) with ETag, or 304. Compressed by the gzip middleware."""
    body = orjson.dumps(payload)
    etag = etag_of(body)
    if status == 200 and request.method in ("GET", "HEAD") and is_known(request, etag):
        return not_modified(etag)
    return Response(
        body,
        status_code=status,
        media_type="application/json",
        headers={"ETag": etag, "Cache-Control": PRIVATE, **(headers or {})},
    )


def dicom_file(data: bytes, file_name: str) -> Response:
    """A DICOM file to download (PS3.18 8.7.3)."""
    disposition = f'attachment; filename="{file_name}"'
    return Response(data, media_type=DICOM, headers={"Content-Disposition": disposition})


def dicom_response(what: str) -> dict[int | str, dict[str, Any]]:
    """The same for the OpenAPI page."""
    return {200: {"content": {DICOM: {}}, "description": f"{what}, a DICOM file"}}


def parse_fields(fields: str | None, allowed: Iterable[str]) -> tuple[str, ...] | None:
    """`fields=a,b.c` as a tuple; None for all. `allowed` are the names at the top. Raises `InvalidRequest`."""
    if fields is None:
        return None
    chosen = tuple(dict.fromkeys(part.strip() for part in fields.split(",") if part.strip()))
    known = set(allowed)
    if not chosen:
        raise InvalidRequest("The parameter fields names no field.", parameter="fields", allowed=sorted(known))
    if any(part.split(".", 1)[0] not in known for part in chosen):
        raise InvalidRequest(
            "The parameter fields names a field that the result does not have.",
            parameter="fields",
            allowed=sorted(known),
        )
    return chosen


def choose(payload: Mapping[str, Any], fields: tuple[str, ...] | None) -> dict[str, Any]:
    """Only the chosen fields; `findings.severity` goes into objects and into each element of a list."""
    if fields is None:
        return dict(payload)
    whole = {f for f in fields if "." not in f}
    nested: dict[str, list[str]] = {}
    for name, _, rest in (f.partition(".") for f in fields if "." in f):
        nested.setdefault(name, []).append(rest)
    result: dict[str, Any] = {}
    for key, value in payload.items():
        if key in whole:
            result[key] = value
        elif key in nested:
            result[key] = _inside(value, tuple(nested[key]))
    return result


def _inside(value: Any, fields: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_inside(item, fields) for item in value]
    if isinstance(value, dict):
        return choose(value, fields)
    return value
