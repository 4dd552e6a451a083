"""Who may do what: accounts, log-in, session tokens, roles."""

from overread.services.access.identity import PERMISSIONS, Identity, Permission, Role, Session, require
from overread.services.access.passwords import check_password, hash_password
from overread.services.access.service import AccessService

__all__ = [
    "PERMISSIONS",
    "AccessService",
    "Identity",
    "Permission",
    "Role",
    "Session",
    "check_password",
    "hash_password",
    "require",
]
