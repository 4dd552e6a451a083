"""/api/users: the accounts of a hospital, for its administrators."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from overread.domain.errors import InvalidRequest
from overread.http.auth import UserManager, UserReader, address_of
from overread.http.text import CleanText
from overread.http.wire import Instant, WireModel
from overread.http.wiring import services_of
from overread.services.access import Role
from overread.services.access.accounts import GRANTABLE
from overread.services.values import UserRow

router = APIRouter(prefix="/api/users", tags=["users"])


class User(WireModel):
    """An account."""

    user_id: UUID
    name: str
    display_name: str
    role: Role
    disabled: bool
    has_second_factor: bool
    #: Whether they log in with the hospital's identity provider, which then says which role they have.
    from_provider: bool
    must_change_password: bool
    last_login_at: Instant | None


class UserList(BaseModel):
    users: list[User]


class NewUser(WireModel):
    """A password is made up, shown once, and changed at the first log-in."""

    model_config = ConfigDict(extra="forbid")

    name: CleanText = Field(min_length=1, max_length=200)
    display_name: CleanText = Field(default="", max_length=200)
    role: Role = Field(description="radiologist, technician or admin; operators are made by `overread user add`.")


class UserChange(WireModel):
    """What is left out stays."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    disabled: bool | None = None


class MadePassword(WireModel):
    """Shown this once."""

    name: str
    password: str


@router.get("", response_model=UserList, summary="Accounts of the hospital")
def list_users(request: Request, who: UserReader) -> UserList:
    """By name."""
    users = services_of(request).access.accounts.all(who.tenant)
    return UserList(users=[_user(user) for user in users])


@router.post("", status_code=201, response_model=MadePassword, summary="Make an account")
def add_user(request: Request, who: UserManager, body: NewUser) -> MadePassword:
    """409 if the name is taken."""
    password = services_of(request).access.accounts.add(
        who.tenant,
        name=body.name.strip(),
        display_name=body.display_name.strip(),
        role=grantable(body.role),
        actor=who.name,
        address=address_of(request),
    )
    return MadePassword(name=body.name.strip(), password=password or "")


@router.patch("/{userId}", status_code=204, response_class=Response, summary="Change a role, disable, enable")
def change_user(request: Request, userId: UUID, who: UserManager, body: UserChange) -> Response:  # noqa: N803
    """The user's sessions end. 409 for the last administrator who can log in."""
    accounts = services_of(request).access.accounts
    if body.role is not None:
        accounts.set_role(who.tenant, userId, grantable(body.role), actor=who.name, address=address_of(request))
    if body.disabled is not None:
        accounts.set_disabled(who.tenant, userId, body.disabled, actor=who.name, address=address_of(request))
    return Response(status_code=204)


@router.post("/{userId}/password", response_model=MadePassword, summary="Make up a new password")
def reset_password(request: Request, userId: UUID, who: UserManager) -> MadePassword:  # noqa: N803
    """Ends the user's sessions and lifts locks. Shown once, and changed at the next log-in."""
    accounts = services_of(request).access.accounts
    password = accounts.reset_password(who.tenant, userId, actor=who.name, address=address_of(request))
    return MadePassword(name=accounts.by_id(who.tenant, userId).name, password=password or "")


@router.delete("/{userId}/second-factor", status_code=204, response_class=Response, summary="Take a second factor away")
def reset_totp(request: Request, userId: UUID, who: UserManager) -> Response:  # noqa: N803
    """After a telephone was lost. Ends the user's sessions."""
    services_of(request).access.accounts.reset_totp(who.tenant, userId, actor=who.name, address=address_of(request))
    return Response(status_code=204)


@router.delete("/{userId}/sessions", status_code=204, response_class=Response, summary="Log a user out everywhere")
def end_sessions(request: Request, userId: UUID, who: UserManager) -> Response:  # noqa: N803
    """Within 5 s."""
    access = services_of(request).access
    access.accounts.by_id(who.tenant, userId)
    access.log_out_everywhere(who.tenant, userId, actor=who.name, address=address_of(request))
    return Response(status_code=204)


def grantable(role: Role) -> Role:
    """Raises `InvalidRequest` for a role that a hospital's administrator cannot give."""
    if role not in GRANTABLE:
        allowed = ", ".join(r.value for r in GRANTABLE)
        raise InvalidRequest(f"An administrator can give these roles: {allowed}.", parameter="role")
    return role


def _user(user: UserRow) -> User:
    return User(
        user_id=user.id,
        name=user.name,
        display_name=user.display_name,
        role=Role(user.role),
        disabled=user.disabled,
        has_second_factor=user.totp_secret is not None,
        from_provider=user.issuer is not None,
        must_change_password=user.must_change_password,
        last_login_at=user.last_login_at,
    )
