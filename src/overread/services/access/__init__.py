"""Who may do what: accounts, log-in, sessions, identity providers, API keys, roles."""

from overread.services.access.identity import PERMISSIONS, Identity, Means, Permission, Role, Session, require
from overread.services.access.passwords import check_password, hash_password
from overread.services.access.sealed import Sealer
from overread.services.access.service import AccessService
from overread.services.access.standing import Missing
from overread.services.access.tokens import KeyRing, SigningKey

__all__ = [
    "PERMISSIONS",
    "AccessService",
    "Identity",
    "KeyRing",
    "Means",
    "Missing",
    "Permission",
    "Role",
    "Sealer",
    "Session",
    "SigningKey",
    "check_password",
    "hash_password",
    "require",
]
