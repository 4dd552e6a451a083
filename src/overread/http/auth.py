"""Who is calling: bearer token for programs, cookie for pages. The tenant is the token's and nobody else's say.

A cookie alone changes nothing: an unsafe request that is authenticated by cookie must bring the session's form token,
in the header `X-CSRF-Token` or in the form field `csrf_token`, and must not come from another site's page.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import Depends, Request, Response
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overread.domain.errors import Forbidden, OverreadError, StoreUnavailable, TenantMismatch, Unauthenticated
from overread.domain.study import TenantId
from overread.http.limits import Limiter
from overread.http.security import check_same_origin
from overread.http.wiring import Services, services_of
from overread.services.access import Identity, Missing, Permission, Session, require
from overread.services.tenant_settings import TenantSettings

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
TENANT_HEADER: Final = "X-Tenant-ID"
FORM_TOKEN_HEADER: Final = "X-CSRF-Token"  # noqa: S105 - a header's name
FORM_TOKEN_FIELD: Final = "csrf_token"  # noqa: S105 - a field's name

# For the OpenAPI page only: `identity` below reads the headers itself.
_bearer = HTTPBearer(
    auto_error=False, description="The token of POST /api/auth/login or of the identity provider, or an API key."
)
_tenant = APIKeyHeader(name=TENANT_HEADER, auto_error=False, description="Must be the token's tenant, if it is given.")


@dataclass(frozen=True, kw_only=True)
class Limiters:
    """Counters of the running app, in `app.state.limiters`."""

    api: Limiter
    #: Makes a counter for a hospital with a rate of its own, requests a minute.
    make_api: Callable[[int], Limiter]
    #: Attempts for one user name.
    login: Limiter
    #: Attempts from one address: a whole hospital may stand behind it.
    login_address: Limiter
    _by_rate: dict[int, Limiter] = field(default_factory=dict)

    def api_of(self, per_minute: int | None) -> Limiter:
        """The counter of a hospital's requests; None: it has no rate of its own."""
        if per_minute is None:
            return self.api
        if per_minute not in self._by_rate:
            self._by_rate[per_minute] = self.make_api(per_minute)
        return self._by_rate[per_minute]


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


async def _who(request: Request, services: Services, token: str, by_cookie: bool) -> Identity:
    """From memory, in the event loop, as a rule; in a thread where the database or a provider must be asked."""
    ask = functools.partial(
        services.access.identify,
        token,
        by_cookie=by_cookie,
        address=address_of(request),
        tenant=request.headers.get(TENANT_HEADER) or services.settings.default_tenant,
    )
    try:
        return ask(cached_only=True)
    except (Missing, Unauthenticated):
        return await run_in_threadpool(ask)


async def _hospital(services: Services, tenant: TenantId) -> TenantSettings:
    """What the hospital has decided. Raises `TenantSuspended`, `TenantUnavailable`."""
    if services.hospital_known(tenant):
        return services.hospital(tenant)
    return await run_in_threadpool(services.hospital, tenant)


def still_valid(request: Request) -> Callable[[], Awaitable[bool]]:
    """Whether the caller of a long answer would still be let in. Raises `StoreUnavailable` where nobody knows."""
    services = services_of(request)

    async def ask() -> bool:
        try:
            identity = await _who(request, services, *_credentials(request, services))
            await _hospital(services, identity.tenant)
        except StoreUnavailable:
            raise
        except OverreadError:
            return False
        return True

    return ask


async def count(limiter: Limiter, key: str) -> None:
    """Count a request. Raises `RateLimited`."""
    if limiter.remote:
        await run_in_threadpool(limiter.take, key)
    else:
        limiter.take(key)


async def identify(request: Request) -> Identity:
    """Dependency for reading: who is calling, counted against the rate limit."""
    services = services_of(request)
    limiters = limiters_of(request)
    try:
        token, by_cookie = _credentials(request, services)
        identity = await _who(request, services, token, by_cookie)
    except Unauthenticated:
        await count(limiters.api, f"address:{address_of(request)}")
        raise
    _check_tenant(request, identity)
    hospital = await _hospital(services, identity.tenant)
    await count(limiters.api_of(hospital.api_per_minute), f"session:{identity.session}")
    request.state.identity = identity
    # Browsers say whether a person made them ask (W3C Fetch Metadata); event streams and polling are none.
    if by_cookie and request.headers.get("sec-fetch-user") == "?1":
        request.state.renewed = services.access.used(identity)
    return identity


def visitor(request: Request) -> Identity | None:
    """Who is looking at a page that needs no log-in; None for anybody, or if nobody can be asked just now."""
    services = services_of(request)
    try:
        token, by_cookie = _credentials(request, services)
        return services.access.identify(token, by_cookie=by_cookie, address=address_of(request))
    except OverreadError:
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
    services = services_of(request)
    if token is None or not services.access.check_form_token(identity.session, token):
        raise Forbidden("The form has expired.", remedy="Reload the page and try again.")
    request.state.renewed = services.access.used(identity)
    return identity


class KeepsSessions:
    """Gives the page that somebody uses a fresh cookie, with the answer to the request that showed it."""

    def __init__(self, app: ASGIApp, *, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_cookie(message: Message) -> None:
            renewed: Session | None = scope.get("state", {}).get("renewed")
            if message["type"] == "http.response.start" and renewed is not None:
                headers = MutableHeaders(scope=message)
                # A log-out or log-in says itself what becomes of the cookie.
                if not any(c.startswith(session_cookie(self._services)) for c in headers.getlist("set-cookie")):
                    carrier = Response()
                    set_session(carrier, renewed, self._services)
                    headers.append("set-cookie", carrier.headers["set-cookie"])
            await send(message)

        await self._app(scope, receive, with_cookie)


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
StudyExporter = Annotated[Identity, Depends(changing(Permission.EXPORT_STUDIES))]
UserManager = Annotated[Identity, Depends(changing(Permission.MANAGE_USERS))]
UserReader = Annotated[Identity, Depends(reading(Permission.MANAGE_USERS))]
AuditReader = Annotated[Identity, Depends(reading(Permission.SEE_AUDIT))]
AuditSearcher = Annotated[Identity, Depends(changing(Permission.SEE_AUDIT))]
#: Whoever is logged in and changes something of their own.
Oneself = Annotated[Identity, Depends(identify_unsafe)]
Anybody = Annotated[Identity, Depends(identify)]
