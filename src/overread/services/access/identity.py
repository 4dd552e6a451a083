"""Roles, what each may do, and who is calling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from overread.domain.audit import Actor, ActorKind
from overread.domain.errors import Forbidden, PasswordChangeRequired
from overread.domain.study import TenantId


class Role(StrEnum):
    """What somebody is in their hospital (DESIGN.md 1)."""

    #: Reads, corrects, signs.
    RADIOLOGIST = "radiologist"
    #: Sends studies, looks at quality and repeats.
    TECHNICIAN = "technician"
    #: Of one tenant: users, senders, features, what was rejected.
    ADMIN = "admin"
    #: Of the installation: machines and models. Sees no patient data.
    OPERATOR = "operator"
    #: A machine of the hospital: a RIS, a script.
    SERVICE = "service"


class Permission(StrEnum):
    """What a route asks for."""

    READ_STUDIES = "read_studies"
    REQUEST_ANALYSIS = "request_analysis"
    UPLOAD = "upload"
    SEE_REJECTED = "see_rejected"
    SEE_SYSTEM = "see_system"
    #: Accounts, roles and API keys of the tenant.
    MANAGE_USERS = "manage_users"
    #: Which AI runs.
    MANAGE_FEATURES = "manage_features"
    #: Patients who object to AI.
    MANAGE_OPT_OUTS = "manage_opt_outs"
    #: The audit trail.
    SEE_AUDIT = "see_audit"
    #: Who looked at a patient's studies.
    REPORT_ACCESS = "report_access"
    #: Copies of images without names, to take out of the house.
    EXPORT_STUDIES = "export_studies"


_CLINICAL = frozenset({Permission.READ_STUDIES, Permission.REQUEST_ANALYSIS, Permission.UPLOAD})

PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.RADIOLOGIST: _CLINICAL,
    Role.TECHNICIAN: _CLINICAL | {Permission.MANAGE_OPT_OUTS},
    Role.ADMIN: _CLINICAL
    | {
        Permission.SEE_REJECTED,
        Permission.SEE_SYSTEM,
        Permission.MANAGE_USERS,
        Permission.MANAGE_FEATURES,
        Permission.MANAGE_OPT_OUTS,
        Permission.REPORT_ACCESS,
        Permission.EXPORT_STUDIES,
        Permission.SEE_AUDIT,
    },
    Role.OPERATOR: frozenset({Permission.SEE_SYSTEM}),
    Role.SERVICE: _CLINICAL,
}


class Means(StrEnum):
    """How somebody proved who they are."""

    #: Session of the pages: a cookie, ends when nobody uses it.
    PAGE = "page"
    #: Token of POST /api/auth/login.
    TOKEN = "token"  # noqa: S105 - a kind, not a secret
    #: Token of the hospital's identity provider.
    PROVIDER = "provider"
    #: Key of a machine.
    API_KEY = "api_key"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Somebody who is logged in: who they are by their token, what they may do by the server's own row."""

    #: None for a machine with an API key.
    user_id: UUID | None
    name: str
    display_name: str
    role: Role
    tenant: TenantId
    #: `jti` of the token: one log-in.
    session: str
    expires_at: datetime
    means: Means = Means.TOKEN
    #: A page's session ends then, unless somebody uses the page.
    idle_at: datetime | None = None
    #: Less than the role has; None: all of it.
    only: frozenset[Permission] | None = None
    must_change_password: bool = False

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it (and the API key, for a machine)."""
        if self.must_change_password:
            return False
        return permission in PERMISSIONS[self.role] and (self.only is None or permission in self.only)

    def actor(self, address: str = "") -> Actor:
        """As the audit trail names who is calling."""
        machine = self.role is Role.SERVICE or self.means is Means.API_KEY
        return Actor(
            kind=ActorKind.MACHINE if machine else ActorKind.PERSON,
            name=self.name,
            user_id=self.user_id,
            role=self.role.value,
            session=self.session,
            address=address,
            channel="page" if self.means is Means.PAGE else "api",
        )

    @property
    def valid_until(self) -> datetime:
        """When it ends by itself as things stand."""
        return self.expires_at if self.idle_at is None else min(self.expires_at, self.idle_at)


@dataclass(frozen=True, kw_only=True)
class Session:
    """A fresh log-in."""

    token: str
    identity: Identity


def require(identity: Identity, permission: Permission) -> None:
    """Raises `Forbidden` unless the role allows it, `PasswordChangeRequired` before anything else is done."""
    if identity.must_change_password:
        raise PasswordChangeRequired("Choose a password of your own first.")
    if not identity.may(permission):
        raise Forbidden(
            f"The role {identity.role.value} may not do this.",
            remedy="Ask an administrator of your hospital.",
            permission=permission.value,
        )
