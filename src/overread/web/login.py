"""Log in and out of the pages: by password (and code), or at the hospital's identity provider."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from overread.domain.errors import (
    Forbidden,
    NotFound,
    OverreadError,
    ProviderUnavailable,
    RateLimited,
    SecondFactorRequired,
    Unauthenticated,
)
from overread.http.auth import (
    address_of,
    clear_session,
    count_login,
    forget_logins,
    identify_unsafe,
    set_session,
)
from overread.http.security import check_same_origin
from overread.http.wiring import Services, services_of
from overread.services.access import Identity, Means
from overread.web.templates import page, safe_next

router = APIRouter(include_in_schema=False)

_CODE_PATH: Final = "/login/code"
_OIDC_PATH: Final = "/login/oidc"
_SENTENCES: Final = {
    "idle": "Nobody used the page for {minutes} minutes, so the session ended. Log in again to go on where you were.",
    "expired": "The session has ended. Log in again to go on where you were.",
    "password": "The password was changed. Log in with the new one.",
    "everywhere": "You are logged out on all machines.",
}


@router.get("/login")
def form(
    request: Request,
    next: Annotated[str, Query(max_length=2000)] = "/",
    tenant: Annotated[str, Query(max_length=40)] = "",
    reason: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """The form."""
    return _form(request, target=next, tenant=tenant, note=_note(request, reason))


def _note(request: Request, reason: str) -> str:
    minutes = services_of(request).access.idle.total_seconds() / 60
    return _SENTENCES.get(reason, "").format(minutes=f"{minutes:g}")


def _form(
    request: Request,
    *,
    target: str,
    tenant: str = "",
    user: str = "",
    error: OverreadError | None = None,
    note: str = "",
) -> Response:
    services = services_of(request)
    slug = tenant.strip() or services.settings.default_tenant
    return page(
        request,
        "login.html",
        None,
        status=_status(error),
        target=safe_next(target),
        tenant=slug,
        error=str(error) if error else "",
        note=note,
        user=user,
        provider=_has_provider(services, slug),
    )


def _status(error: OverreadError | None) -> int:
    known = {Unauthenticated: 401, RateLimited: 429, Forbidden: 403, NotFound: 404, ProviderUnavailable: 503}
    return next((status for kind, status in known.items() if isinstance(error, kind)), 200)


def _has_provider(services: Services, slug: str) -> bool:
    try:
        return services.access.provider_of(slug) is not None
    except OverreadError:
        return False


@router.post("/login")
def log_in(
    request: Request,
    username: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    tenant: Annotated[str, Form(max_length=40)] = "",
    target: Annotated[str, Form(alias="next", max_length=2000)] = "/",
) -> Response:
    """Right: cookie and on to where one wanted to go, by way of the code if there is one. Wrong: the form again."""
    check_same_origin(request)
    services = services_of(request)
    slug = tenant.strip() or services.settings.default_tenant
    name = username.strip()
    try:
        count_login(request, slug, name)
        session = services.access.log_in(slug, name, password, address=address_of(request), means=Means.PAGE)
    except SecondFactorRequired as wanted:
        forget_logins(request, slug, name)
        response = page(request, "login_code.html", None, target=safe_next(target), error="")
        _set(response, services, "pending", str(wanted.details["pending"]), _CODE_PATH, seconds=300)
        return response
    except (Unauthenticated, RateLimited) as error:
        return _form(request, target=target, tenant=slug, user=username, error=error)
    forget_logins(request, slug, name)
    response = RedirectResponse(safe_next(target), status_code=303)
    set_session(response, session, services)
    return response


@router.post(_CODE_PATH)
def second_factor(
    request: Request,
    code: Annotated[str, Form(max_length=100)] = "",
    target: Annotated[str, Form(alias="next", max_length=2000)] = "/",
) -> Response:
    """The code of an authenticator app, or a recovery code."""
    check_same_origin(request)
    services = services_of(request)
    pending = request.cookies.get(_cookie(services, "pending"), "")
    try:
        count_login(request, "code", pending[-40:])
        session = services.access.second_factor(pending, code, address=address_of(request))
    except (Unauthenticated, RateLimited) as error:
        return page(request, "login_code.html", None, status=_status(error), target=safe_next(target), error=str(error))
    response = RedirectResponse(safe_next(target), status_code=303)
    set_session(response, session, services)
    _clear(response, services, "pending", _CODE_PATH)
    return response


@router.get(_OIDC_PATH)
def to_provider(
    request: Request,
    tenant: Annotated[str, Query(max_length=40)] = "",
    next: Annotated[str, Query(max_length=2000)] = "/",
) -> Response:
    """On to the hospital's identity provider."""
    services = services_of(request)
    slug = tenant.strip() or services.settings.default_tenant
    try:
        count_login(request, slug, "identity provider")
        beginning = services.access.begin_at_provider(
            slug, redirect_uri=_callback(request, services), target=safe_next(next)
        )
    except (RateLimited, NotFound, ProviderUnavailable) as error:
        return _form(request, target=next, tenant=slug, error=error)
    forget_logins(request, slug, "identity provider")
    response = RedirectResponse(beginning.address, status_code=303)
    # Lax: the provider's page sends the browser back, and that comes from another site.
    _set(response, services, "oidc", beginning.cookie, _OIDC_PATH, seconds=600, samesite="lax")
    return response


@router.get(f"{_OIDC_PATH}/callback")
def from_provider(
    request: Request,
    state: Annotated[str, Query(max_length=500)] = "",
    code: Annotated[str, Query(max_length=4000)] = "",
    error: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Back from it. The answer is a page that leads on: a strict cookie is not sent along a way from elsewhere."""
    services = services_of(request)
    cookie = request.cookies.get(_cookie(services, "oidc"), "")
    try:
        if error or not code:
            raise Unauthenticated("The identity provider did not log you in.", remedy="Try again.")
        back = services.access.providers.finish(
            cookie=cookie,
            state=state,
            code=code,
            redirect_uri=_callback(request, services),
            address=address_of(request),
        )
        session = services.access.provider_session(back.user, address=address_of(request))
    except (Unauthenticated, Forbidden, NotFound, ProviderUnavailable) as problem:
        response = _form(request, target="/", error=problem)
    else:
        response = page(request, "login_done.html", None, target=safe_next(back.target))
        response.headers["Cache-Control"] = "no-store"
        set_session(response, session, services)
    _clear(response, services, "oidc", _OIDC_PATH, samesite="lax")
    return response


@router.post("/logout")
def log_out(request: Request, who: Annotated[Identity, Depends(identify_unsafe)]) -> Response:
    """End the session, on the server too, and forget the cookie."""
    services = services_of(request)
    services.access.log_out(who, address=address_of(request))
    response = RedirectResponse("/login", status_code=303)
    clear_session(response, services)
    return response


def _callback(request: Request, services: Services) -> str:
    base = services.settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")
    return f"{base}{_OIDC_PATH}/callback"


def _cookie(services: Services, name: str) -> str:
    return f"__Secure-overread-{name}" if services.settings.cookie_secure else f"overread_{name}"


def _set(
    response: Response, services: Services, name: str, value: str, path: str, *, seconds: int, samesite: str = "strict"
) -> None:
    response.set_cookie(
        _cookie(services, name),
        value,
        max_age=seconds,
        path=path,
        httponly=True,
        samesite="lax" if samesite == "lax" else "strict",
        secure=services.settings.cookie_secure,
    )


def _clear(response: Response, services: Services, name: str, path: str, *, samesite: str = "strict") -> None:
    response.delete_cookie(
        _cookie(services, name),
        path=path,
        httponly=True,
        samesite="lax" if samesite == "lax" else "strict",
        secure=services.settings.cookie_secure,
    )
