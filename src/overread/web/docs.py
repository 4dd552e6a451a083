"""/docs: the OpenAPI description as a page. Drawn here, because the usual one comes from a CDN and hospitals have no
internet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from overread.http.auth import visitor
from overread.web.templates import page

router = APIRouter(include_in_schema=False)

_METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one address."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    parameters: tuple[dict[str, Any], ...]
    #: Media type -> schema in words.
    body: dict[str, str]
    #: Status -> what it means and which schema it has.
    responses: tuple[tuple[str, str, str], ...]


def describe(schema: dict[str, Any] | None) -> str:
    """A JSON schema in few words: `Finding[]`, `string (uuid) or null`."""
    if not schema:
        return ""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(describe(part) for part in schema[key]))
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"{describe(schema.get('items'))}[]"
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def operations(openapi: dict[str, Any]) -> dict[str, list[Operation]]:
    """All operations by their first tag, in the order of the routes."""
    groups: dict[str, list[Operation]] = {}
    for path, methods in openapi["paths"].items():
        for method in _METHODS:
            if method not in methods:
                continue
            item = methods[method]
            content = item.get("requestBody", {}).get("content", {})
            groups.setdefault((item.get("tags") or ["other"])[0], []).append(
                Operation(
                    anchor=f"{method}{path}".replace("/", "-").replace("{", "").replace("}", ""),
                    method=method.upper(),
                    path=path,
                    summary=item.get("summary", ""),
                    description=item.get("description", ""),
                    parameters=tuple({**p, "kind": describe(p.get("schema"))} for p in item.get("parameters", ())),
                    body={media: describe(value.get("schema")) for media, value in content.items()},
                    responses=tuple(
                        (status, response.get("description", ""), _media(response))
                        for status, response in sorted(item.get("responses", {}).items())
                    ),
                )
            )
    return groups


def _media(response: dict[str, Any]) -> str:
    return ", ".join(describe(value.get("schema")) or media for media, value in response.get("content", {}).items())


@router.get("/docs")
def docs(request: Request) -> Response:
    """Every address, its parameters, answers and schemas. No log-in: nothing in it belongs to anybody."""
    openapi: dict[str, Any] = request.app.openapi()
    schemas = {
        name: {
            "description": schema.get("description", ""),
            "enum": schema.get("enum"),
            "fields": [
                (field, describe(value), value.get("description", ""), field in schema.get("required", ()))
                for field, value in schema.get("properties", {}).items()
            ],
        }
        for name, schema in openapi.get("components", {}).get("schemas", {}).items()
    }
    base = str(request.base_url).rstrip("/")
    return page(
        request,
        "docs.html",
        visitor(request),
        base=base,
        groups=operations(openapi),
        schemas=schemas,
        info=openapi["info"],
    )
