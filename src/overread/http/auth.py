"""Who is calling: bearer token for programs, cookie for pages. The tenant is the token's and nobody else's say.

A cookie alone changes nothing: an unsafe request that is authenticated by cookie must bring the session's form token,
in the header `X-CSRF-Token` or in the form field `csrf_token`, and must not come from another site's page.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request, Response
from fastapi.security import APIKeyHeader, HTTPBearer

from overread.domain.errors import Forbidden, TenantMismatch, Unauthenticated
from overread.http.limits import RateLimiter
from overread.http.security import check_same_origin
from overread.http.wiring import Services, services_of
from overread.services.access import Identity, Permission, Session, require

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
TENANT_HEADER: Final = "X-Tenant-ID"
FORM_TOKEN_HEADER: Final = "X-CSRF-Token"  # noqa: S105 - a header's name
FORM_TOKEN_FIELD: Final = "csrf_token"  # noqa: S105 - a field's name

# For the OpenAPI page only: `identity` below reads the headers itself.
_bearer = HTTPBearer(auto_error=False, description="The token of POST /api/auth/login.")
_tenant = APIKeyHeader(name=TENANT_HEADER, auto_error=False, description="Must be the token's tenant, if it is given.")


@dataclass(frozen=True, kw_only=True)
class Limiters:
    """Counters of the running app, in `app.state.limiters`."""

    api: RateLimiter
    #: Attempts for one user name.
    login: RateLimiter
    #: Attempts from one address: a whole hospital may stand behind it.
    login_address: RateLimiter


def limiters_of(request: Request) -> Limiters:
    """The app's counters."""
    limiters: Limiters = request.app.state.limiters
    return limiters


def count_login(request: Request, tenant: str, name: str) -> None:
    """Count an attempt to log in. Raises `RateLimited`."""
    limiters = limiters_of(request)
    limiters.login_address.take(address_of(request))
    limiters.login.take(f"{tenant}:{name}")


def forget_logins(request: Request, tenant: str, name: str) -> None:
    """After a log-in that worked, the attempts before it no longer count against the name."""
    limiters_of(request).login.give_back(f"{tenant}:{name}")


def address_of(request: Request) -> str:
    """The caller's address as the server saw it (uvicorn applies X-Forwarded-For of trusted proxies)."""
    return request.client.host if request.client else ""


def session_cookie(services: Services) -> str:
    """The cookie's name; with TLS a browser then guarantees its path, host and Secure (RFC 6265bis 4.1.3.2)."""
    return "__Host-overread" if services.settings.cookie_secure else "overread_session"


def set_session(response: Response, session: Session, services: Services) -> None:
    """Put a log-in into the cookie: not readable by scripts, not sent along from other sites."""
    response.set_cookie(
        session_cookie(services),
        session.token,
        max_age=int((session.identity.expires_at - services.clock()).total_seconds()),
        path="/",
        httponly=True,
        samesite="strict",
        secure=services.settings.cookie_secure,
    )


def clear_session(response: Response, services: Services) -> None:
    """Log out of the pages."""
    response.delete_cookie(
        session_cookie(services), path="/", httponly=True, samesite="strict", secure=services.settings.cookie_secure
    )


def _credentials(request: Request, services: Services) -> tuple[str, bool]:
    """The token and whether it came by cookie."""
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("The Authorization header must be a bearer token.")
        return token.strip(), False
    cookie = request.cookies.get(session_cookie(services))
    if cookie:
        return cookie, True
    raise Unauthenticated("Log in first.")


def _check_tenant(request: Request, identity: Identity) -> None:
    named = request.headers.get(TENANT_HEADER)
    if named is not None and not hmac.compare_digest(named.encode(), identity.tenant.slug.encode()):
        raise TenantMismatch(f"{TENANT_HEADER} is not the tenant of the session.")


async def identify(request: Request) -> Identity:
    """Dependency for reading: who is calling, counted against the rate limit."""
    services = services_of(request)
    limiters = limiters_of(request)
    try:
        token, _by_cookie = _credentials(request, services)
        identity = services.access.identify(token)
    except Unauthenticated:
        limiters.api.take(f"address:{address_of(request)}")
        raise
    limiters.api.take(f"session:{identity.session}")
    _check_tenant(request, identity)
    services.check_tenant(identity.tenant)
    request.state.identity = identity
    return identity


def visitor(request: Request) -> Identity | None:
    """Who is looking at a page that needs no log-in; None for anybody."""
    services = services_of(request)
    try:
        return services.access.identify(_credentials(request, services)[0])
    except Unauthenticated:
        return None


async def identify_unsafe(
    request: Request,
    identity: Annotated[Identity, Depends(identify)],
) -> Identity:
    """Dependency for routes that change something: a cookie needs the form token besides."""
    if request.headers.get("authorization") is not None:
        return identity
    check_same_origin(request)
    token = request.headers.get(FORM_TOKEN_HEADER)
    if token is None and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        value = (await request.form()).get(FORM_TOKEN_FIELD)
        token = value if isinstance(value, str) else None
    if token is None or not services_of(request).access.check_form_token(identity.session, token):
        raise Forbidden("The form has expired.", remedy="Reload the page and try again.")
    return identity


def reading(permission: Permission) -> Callable[..., Awaitable[Identity]]:
    """A dependency: somebody with this permission, for a GET."""

    async def check(
        identity: Annotated[Identity, Depends(identify)],
        _bearer: Annotated[object, Depends(_bearer)] = None,
        _tenant: Annotated[object, Depends(_tenant)] = None,
    ) -> Identity:
        require(identity, permission)
        return identity

    return check


def changing(permission: Permission) -> Callable[..., Awaitable[Identity]]:
    """A dependency: somebody with this permission, for a request that changes something."""

    async def check(
        identity: Annotated[Identity, Depends(identify_unsafe)],
        _bearer: Annotated[object, Depends(_bearer)] = None,
        _tenant: Annotated[object, Depends(_tenant)] = None,
    ) -> Identity:
        require(identity, permission)
        return identity

    return check


Reader = Annotated[Identity, Depends(reading(Permission.READ_STUDIES))]
Requester = Annotated[Identity, Depends(changing(Permission.REQUEST_ANALYSIS))]
Uploader = Annotated[Identity, Depends(changing(Permission.UPLOAD))]
RejectionReader = Annotated[Identity, Depends(reading(Permission.SEE_REJECTED))]
SystemReader = Annotated[Identity, Depends(reading(Permission.SEE_SYSTEM))]
FeatureReader = Annotated[Identity, Depends(reading(Permission.MANAGE_FEATURES))]
FeatureManager = Annotated[Identity, Depends(changing(Permission.MANAGE_FEATURES))]
OptOutReader = Annotated[Identity, Depends(reading(Permission.MANAGE_OPT_OUTS))]
OptOutManager = Annotated[Identity, Depends(changing(Permission.MANAGE_OPT_OUTS))]
AccessReporter = Annotated[Identity, Depends(changing(Permission.REPORT_ACCESS))]
Anybody = Annotated[Identity, Depends(identify)]
