"""Roles, what each may do, and who is calling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from overread.domain.errors import Forbidden
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


_CLINICAL = frozenset({Permission.READ_STUDIES, Permission.REQUEST_ANALYSIS, Permission.UPLOAD})

PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.RADIOLOGIST: _CLINICAL,
    Role.TECHNICIAN: _CLINICAL,
    Role.ADMIN: _CLINICAL | {Permission.SEE_REJECTED, Permission.SEE_SYSTEM},
    Role.OPERATOR: frozenset({Permission.SEE_SYSTEM}),
    Role.SERVICE: _CLINICAL,
}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Somebody who is logged in, as their token says."""

    user_id: UUID
    name: str
    display_name: str
    role: Role
    tenant: TenantId
    #: `jti` of the token: one log-in.
    session: str
    expires_at: datetime

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it."""
        return permission in PERMISSIONS[self.role]


@dataclass(frozen=True, kw_only=True)
class Session:
    """A fresh log-in."""

    token: str
    identity: Identity


def require(identity: Identity, permission: Permission) -> None:
    """Raises `Forbidden` unless the role allows it."""
    if not identity.may(permission):
        raise Forbidden(
            f"The role {identity.role.value} may not do this.",
            remedy="Ask an administrator of your hospital.",
            permission=permission.value,
        )
