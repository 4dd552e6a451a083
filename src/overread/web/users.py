"""/admin/users: the accounts of a hospital."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from overread.domain.errors import Conflict, InvalidRequest, NotFound, OverreadError
from overread.http.auth import UserManager, UserReader, address_of
from overread.http.errors import status_of
from overread.http.text import is_clean
from overread.http.wiring import services_of
from overread.services.access import Identity, Role
from overread.services.access.accounts import GRANTABLE
from overread.web.templates import render

router = APIRouter(include_in_schema=False)

_Word = Annotated[str, Form(max_length=200)]


@router.get("/admin/users")
def users(request: Request, who: UserReader) -> Response:
    """All accounts."""
    return _page(request, who)


def _page(request: Request, who: Identity, error: OverreadError | None = None, **more: Any) -> Response:
    values: dict[str, Any] = {"made": None, "name": "", "display_name": "", "chosen": Role.RADIOLOGIST, **more}
    text = render(
        request,
        "users.html",
        who,
        users=services_of(request).access.accounts.all(who.tenant),
        roles=GRANTABLE,
        error=str(error) if error else "",
        **values,
    )
    status = status_of(error) if error else 200
    return HTMLResponse(text, status_code=status, headers={"Cache-Control": "no-store"})


def _grantable(text: str) -> Role:
    role = next((r for r in GRANTABLE if r.value == text), None)
    if role is None:
        raise InvalidRequest("Choose one of the roles.")
    return role


@router.post("/admin/users")
def add(request: Request, who: UserManager, name: _Word = "", display_name: _Word = "", role: _Word = "") -> Response:
    """Make an account; its password is on the page this once."""
    name, display_name = name.strip(), display_name.strip()
    try:
        if not is_clean(name) or not is_clean(display_name):
            raise InvalidRequest("The name holds characters that no text has.")
        password = services_of(request).access.accounts.add(
            who.tenant,
            name=name,
            display_name=display_name,
            role=_grantable(role),
            actor=who.name,
            address=address_of(request),
        )
    except (InvalidRequest, Conflict) as error:
        chosen = next((r for r in GRANTABLE if r.value == role), Role.RADIOLOGIST)
        return _page(request, who, error, name=name, display_name=display_name, chosen=chosen)
    return _page(request, who, made=(name, password))


@router.post("/admin/users/{user_id}/role")
def set_role(request: Request, user_id: UUID, who: UserManager, role: _Word = "") -> Response:
    """Ends the user's sessions."""
    accounts = services_of(request).access.accounts
    try:
        accounts.set_role(who.tenant, user_id, _grantable(role), actor=who.name, address=address_of(request))
    except (InvalidRequest, Conflict, NotFound) as error:
        return _page(request, who, error)
    return _back()


@router.post("/admin/users/{user_id}/disabled")
def set_disabled(request: Request, user_id: UUID, who: UserManager, disabled: _Word = "") -> Response:
    """Out within seconds, or in again."""
    accounts = services_of(request).access.accounts
    try:
        accounts.set_disabled(who.tenant, user_id, disabled == "yes", actor=who.name, address=address_of(request))
    except (Conflict, NotFound) as error:
        return _page(request, who, error)
    return _back()


@router.post("/admin/users/{user_id}/password")
def reset_password(request: Request, user_id: UUID, who: UserManager) -> Response:
    """A new one, on the page this once."""
    accounts = services_of(request).access.accounts
    try:
        password = accounts.reset_password(who.tenant, user_id, actor=who.name, address=address_of(request))
        name = accounts.by_id(who.tenant, user_id).name
    except (Conflict, NotFound) as error:
        return _page(request, who, error)
    return _page(request, who, made=(name, password))


@router.post("/admin/users/{user_id}/second-factor")
def reset_totp(request: Request, user_id: UUID, who: UserManager) -> Response:
    """Take it away, after a telephone was lost."""
    try:
        services_of(request).access.accounts.reset_totp(
            who.tenant, user_id, actor=who.name, address=address_of(request)
        )
    except NotFound as error:
        return _page(request, who, error)
    return _back()


@router.post("/admin/users/{user_id}/sessions")
def end_sessions(request: Request, user_id: UUID, who: UserManager) -> Response:
    """Log the user out everywhere."""
    access = services_of(request).access
    try:
        access.accounts.by_id(who.tenant, user_id)
    except NotFound as error:
        return _page(request, who, error)
    access.log_out_everywhere(who.tenant, user_id, actor=who.name, address=address_of(request))
    return _back()


def _back() -> Response:
    return RedirectResponse("/admin/users", status_code=303)
