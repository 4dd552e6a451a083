"""/api/auth: log in and out, one's own session and password."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from overread.domain.errors import Forbidden
from overread.http.auth import Anybody, Oneself, address_of, count_login, forget_logins
from overread.http.text import CleanText
from overread.http.wire import WireModel
from overread.http.wiring import services_of
from overread.services.access import Identity, Means, Permission, Role

router = APIRouter(prefix="/api/auth", tags=["log-in"])


class LogIn(WireModel):
    """Who logs in. `tenant` may be left out where the installation has one hospital."""

    model_config = ConfigDict(extra="forbid")

    username: CleanText = Field(min_length=1, max_length=200)
    password: CleanText = Field(min_length=1, max_length=1000)
    tenant: str | None = Field(default=None, max_length=40)
    #: Of the second factor, where the account has one: of an authenticator app, or a recovery code.
    code: CleanText = Field(default="", max_length=100)


class LoggedIn(WireModel):
    """Send `token` as `Authorization: Bearer …` until `expiresAt`."""

    token: str
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750's word
    expires_at: AwareDatetime
    tenant_id: str
    user: str
    display_name: str
    role: Role


class OwnSession(WireModel):
    """Who the server takes the caller for."""

    user: str
    display_name: str
    tenant_id: str
    role: Role
    #: What the role, and the API key, allow.
    permissions: list[Permission]
    #: "page", "token", "provider" or "api_key".
    means: Means
    #: When it ends by itself, if nobody does anything.
    ends_at: AwareDatetime
    ends_in_seconds: int
    must_change_password: bool


class PasswordChange(WireModel):
    """All sessions end with it."""

    model_config = ConfigDict(extra="forbid")

    password: CleanText = Field(max_length=1000, description="The present one.")
    new_password: CleanText = Field(max_length=1000, description="12 characters or more.")


@router.post("/login", response_model=LoggedIn, summary="Log in")
def log_in(request: Request, body: LogIn) -> LoggedIn:
    """A token for the API.

    401 for whatever is wrong, 401 SECOND_FACTOR_REQUIRED if only `code` is missing, 429 after too many attempts.
    """
    services = services_of(request)
    tenant = body.tenant or services.settings.default_tenant
    address = address_of(request)
    count_login(request, tenant, body.username)
    session = services.access.log_in(tenant, body.username, body.password, address=address, code=body.code)
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


@router.get("/session", response_model=OwnSession, summary="Whose session this is")
def own_session(request: Request, who: Anybody) -> OwnSession:
    """And when it ends. Asking does not count as using a page."""
    return _session(request, who)


@router.post("/session/used", response_model=OwnSession, summary="Somebody uses the page")
def used(request: Request, who: Oneself) -> OwnSession:
    """Pages say so when keys are pressed or the pointer moves; the session of a page then goes on."""
    renewed = getattr(request.state, "renewed", None)
    return _session(request, renewed.identity if renewed is not None else who)


@router.post("/logout", status_code=204, response_class=Response, summary="Log out")
def log_out(request: Request, who: Oneself) -> Response:
    """The token is void within 5 s, everywhere. An API key goes on: it is revoked by an administrator."""
    services_of(request).access.log_out(who, address=address_of(request))
    return Response(status_code=204)


@router.post("/logout/everywhere", status_code=204, response_class=Response, summary="Log out on all machines")
def log_out_everywhere(request: Request, who: Oneself) -> Response:
    """All tokens and pages of the user end within 5 s."""
    if who.user_id is None:
        raise Forbidden("An API key has no sessions.")
    services_of(request).access.log_out_everywhere(who.tenant, who.user_id, actor=who.name, address=address_of(request))
    return Response(status_code=204)


@router.post("/password", status_code=204, response_class=Response, summary="Change one's password")
def change_password(request: Request, who: Oneself, body: PasswordChange) -> Response:
    """All sessions end, this one too: log in again. 400 if the present password is wrong, or the new one too weak."""
    services = services_of(request)
    services.access.accounts.change_password(who, body.password, body.new_password, address=address_of(request))
    return Response(status_code=204)


def _session(request: Request, who: Identity) -> OwnSession:
    left = who.valid_until - services_of(request).clock()
    return OwnSession(
        user=who.name,
        display_name=who.display_name,
        tenant_id=who.tenant.slug,
        role=who.role,
        permissions=sorted(p for p in Permission if who.may(p)),
        means=who.means,
        ends_at=who.valid_until,
        ends_in_seconds=max(0, int(left.total_seconds())),
        must_change_password=who.must_change_password,
    )
