"""POST /api/auth/login: name and password for a token."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, ConfigDict, Field

from overread.http.auth import address_of, count_login, forget_logins
from overread.http.text import CleanText
from overread.http.wire import WireModel
from overread.http.wiring import services_of
from overread.services.access import Role

router = APIRouter(prefix="/api/auth", tags=["log-in"])


class LogIn(WireModel):
    """Who logs in. `tenant` may be left out where the installation has one hospital."""

    model_config = ConfigDict(extra="forbid")

    username: CleanText = Field(min_length=1, max_length=200)
    password: CleanText = Field(min_length=1, max_length=1000)
    tenant: str | None = Field(default=None, max_length=40)


class LoggedIn(WireModel):
    """Send `token` as `Authorization: Bearer …` until `expiresAt`."""

    token: str
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750's word
    expires_at: AwareDatetime
    tenant_id: str
    user: str
    display_name: str
    role: Role


@router.post("/login", response_model=LoggedIn, summary="Log in")
def log_in(request: Request, body: LogIn) -> LoggedIn:
    """A token for the API. 401 for whatever is wrong; 429 after too many attempts."""
    services = services_of(request)
    tenant = body.tenant or services.settings.default_tenant
    address = address_of(request)
    count_login(request, tenant, body.username)
    session = services.access.log_in(tenant, body.username, body.password, address=address)
    forget_logins(request, tenant, body.username)
    who = session.identity
    return LoggedIn(
        token=session.token,
        expires_at=who.expires_at,
        tenant_id=who.tenant.slug,
        user=who.name,
        display_name=who.display_name,
        role=who.role,
    )
