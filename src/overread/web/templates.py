"""Jinja2 set-up, static files, and the page of an error."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from overread.domain.analysis import strongest_of_each_type
from overread.domain.errors import PasswordChangeRequired
from overread.domain.texts import DISCLAIMER, NO_FINDING
from overread.http.auth import FORM_TOKEN_FIELD
from overread.http.replies import PRIVATE, etag_of, is_known, not_modified
from overread.http.wiring import services_of
from overread.services.access import Identity, Permission
from overread.web import figures, words
from overread.web.stage import WINDOWS

_HERE: Final = Path(__file__).parent


class _CachedStatic(StaticFiles):
    """Addresses carry a hash of all files (`asset`), so a browser may keep them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        versioned = b"v=" in scope.get("query_string", b"")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        return response


STATIC: Final = _CachedStatic(directory=_HERE / "static")


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted((_HERE / "static").iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


_VERSION: Final = _fingerprint()


def asset(name: str) -> str:
    """Address of a static file."""
    return f"/static/{name}?v={_VERSION}"


def _environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(_HERE / "pages"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals.update(
        asset=asset,
        DISCLAIMER=DISCLAIMER,
        NO_FINDING=NO_FINDING,
        SIGN=words.SIGN,
        STATUS_WORD=words.STATUS_WORD,
        FORM_TOKEN_FIELD=FORM_TOKEN_FIELD,
        Permission=Permission,
        WINDOWS=WINDOWS,
    )
    env.filters.update(
        person_name=words.person_name,
        state_word=words.state_word,
        standing=words.standing,
        percent=words.percent,
        interval=words.interval,
        complement=words.complement,
        of_100=words.of_100,
        by_weight=words.by_weight,
        of_each_type=strongest_of_each_type,
        finding_name=words.finding_name,
        duration=words.duration,
        moment=words.moment,
        iso=words.iso,
        body_part=words.body_part,
        capitalise=words.capitalise,
        issue=words.issue,
        number=figures.number,
        unit=figures.unit,
    )
    return env


_ENV: Final = _environment()


def render(request: Request, template: str, who: Identity | None, /, **values: Any) -> str:
    """A template's text, with what every page shows."""
    services = services_of(request)
    return _ENV.get_template(template).render(
        who=who,
        form_token=services.access.form_token(who.session) if who else "",
        idle_seconds=(services.access.idle_for(who.tenant) if who else services.access.idle).total_seconds(),
        version=services.settings.version,
        now=services.clock(),
        path=request.url.path,
        **values,
    )


def page(request: Request, template: str, who: Identity | None, /, *, status: int = 200, **values: Any) -> Response:
    """A whole page or a fragment of one, with ETag."""
    text = render(request, template, who, **values)
    etag = etag_of(text)
    if status == 200 and is_known(request, etag):
        return not_modified(etag)
    return HTMLResponse(text, status_code=status, headers={"ETag": etag, "Cache-Control": PRIVATE})


def safe_next(target: str | None) -> str:
    """Where to go after a form: an address of ours, else the worklist."""
    if target and target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable():
        return target
    return "/"


def error_page(request: Request, status: int, body: Mapping[str, Any]) -> Response:
    """An error for somebody who looks at pages. Not logged in: to the log-in page and back."""
    if status == 401 and request.method in ("GET", "HEAD"):
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        reason = (body.get("details") or {}).get("reason", "")
        why = f"&reason={reason}" if reason else ""
        return RedirectResponse(f"/login?next={quote(target, safe='')}{why}", status_code=303)
    if body.get("code") == PasswordChangeRequired.code:
        return RedirectResponse("/account", status_code=303)
    who: Identity | None = getattr(request.state, "identity", None)
    return HTMLResponse(render(request, "error.html", who, status=status, body=body), status_code=status)
