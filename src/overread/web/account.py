"""/account: one's own password, second factor and sessions."""

from __future__ import annotations

import io
from typing import Annotated, Any

import segno
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from overread.domain.errors import Conflict, InvalidRequest, OverreadError, RateLimited
from overread.http.auth import Anybody, Oneself, address_of, clear_session
from overread.http.errors import status_of
from overread.http.wiring import services_of
from overread.services.access import Identity
from overread.services.access.passwords import MINIMUM_LENGTH
from overread.web.templates import render

router = APIRouter(include_in_schema=False)

_Secret = Annotated[str, Form(max_length=1000)]


@router.get("/account")
def account(request: Request, who: Anybody) -> Response:
    """The page."""
    return _page(request, who)


def _page(request: Request, who: Identity, error: OverreadError | None = None, **more: Any) -> Response:
    """What is on it (a secret, recovery codes) is kept nowhere."""
    own = services_of(request).access.accounts.own(who)
    values: dict[str, Any] = {"offer": None, "codes": (), "part": "", **more}
    text = render(
        request,
        "account.html",
        who,
        own=own,
        error=str(error) if error else "",
        minimum=MINIMUM_LENGTH,
        **values,
    )
    status = status_of(error) if error else 200
    return HTMLResponse(text, status_code=status, headers={"Cache-Control": "no-store"})


@router.post("/account/password")
def change_password(
    request: Request, who: Oneself, password: _Secret = "", new: _Secret = "", again: _Secret = ""
) -> Response:
    """All sessions end; log in with the new one."""
    services = services_of(request)
    try:
        if new != again:
            raise InvalidRequest("The new password was not repeated alike.")
        services.access.accounts.change_password(who, password, new, address=address_of(request))
    except (InvalidRequest, RateLimited) as error:
        return _page(request, who, error, part="password")
    response = RedirectResponse("/login?reason=password", status_code=303)
    clear_session(response, services)
    return response


@router.post("/account/second-factor")
def offer_totp(request: Request, who: Oneself, password: _Secret = "") -> Response:
    """A new secret, as QR code and text."""
    accounts = services_of(request).access.accounts
    try:
        offer = accounts.offer_totp(who, password, address=address_of(request))
    except (InvalidRequest, RateLimited) as error:
        return _page(request, who, error, part="totp")
    return _page(request, who, offer=offer, qr=qr_svg(offer.uri))


@router.post("/account/second-factor/confirm")
def confirm_totp(request: Request, who: Oneself, code: Annotated[str, Form(max_length=100)] = "") -> Response:
    """Its first code; then recovery codes, shown once."""
    accounts = services_of(request).access.accounts
    try:
        codes = accounts.confirm_totp(who, code, address=address_of(request))
    except (InvalidRequest, Conflict) as error:
        offer = accounts.offered_totp(who)
        return _page(request, who, error, part="totp", offer=offer, qr=qr_svg(offer.uri) if offer else "")
    return _page(request, who, codes=codes)


@router.post("/account/log-out-everywhere")
def log_out_everywhere(request: Request, who: Oneself) -> Response:
    """On all machines, this one too."""
    services = services_of(request)
    if who.user_id is not None:
        services.access.log_out_everywhere(who.tenant, who.user_id, actor=who.name, address=address_of(request))
    response = RedirectResponse("/login?reason=everywhere", status_code=303)
    clear_session(response, services)
    return response


def qr_svg(text: str) -> str:
    """A QR code as SVG without a style of its own, as the page's policy wants it: black on white, 4 modules quiet."""
    buffer = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        buffer, kind="svg", xmldecl=False, svgns=True, border=4, dark="#000", light="#fff", omitsize=True
    )
    return buffer.getvalue().decode()
