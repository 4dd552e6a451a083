"""Log in and out of the pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from overread.domain.errors import RateLimited, Unauthenticated
from overread.http.auth import address_of, clear_session, count_login, forget_logins, identify_unsafe, set_session
from overread.http.security import check_same_origin
from overread.http.wiring import services_of
from overread.services.access import Identity
from overread.web.templates import page, safe_next

router = APIRouter(include_in_schema=False)


@router.get("/login")
def form(request: Request, next: str = "/") -> Response:
    """The form."""
    settings = services_of(request).settings
    return page(request, "login.html", None, target=safe_next(next), tenant=settings.default_tenant, error="", user="")


@router.post("/login")
def log_in(
    request: Request,
    username: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    tenant: Annotated[str, Form(max_length=40)] = "",
    target: Annotated[str, Form(alias="next", max_length=2000)] = "/",
) -> Response:
    """Right: cookie and on to where one wanted to go. Wrong: the form again with one sentence."""
    check_same_origin(request)
    services = services_of(request)
    tenant = tenant.strip() or services.settings.default_tenant
    address = address_of(request)
    try:
        count_login(request, tenant, username)
        session = services.access.log_in(tenant, username.strip(), password, address=address)
    except (Unauthenticated, RateLimited) as error:
        status = 401 if isinstance(error, Unauthenticated) else 429
        return page(
            request,
            "login.html",
            None,
            status=status,
            target=safe_next(target),
            tenant=tenant,
            error=str(error),
            user=username,
        )
    forget_logins(request, tenant, username)
    response = RedirectResponse(safe_next(target), status_code=303)
    set_session(response, session, services)
    return response


@router.post("/logout")
def log_out(request: Request, _who: Annotated[Identity, Depends(identify_unsafe)]) -> Response:
    """Forget the cookie."""
    response = RedirectResponse("/login", status_code=303)
    clear_session(response, services_of(request))
    return response
