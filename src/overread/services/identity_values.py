"""Rows of accounts, sessions, API keys and identity providers, as the store has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the server knows of a user just now, whatever their token says. Kept for a few seconds at most."""

    user_id: UUID
    name: str
    display_name: str
    role: str
    disabled: bool
    #: Grows when all tokens of the user end; a token of a smaller one is void.
    epoch: int
    must_change_password: bool
    #: Tokens that the identity provider gave out before are void.
    not_before: datetime | None = None
    #: `jti` of sessions that were ended and whose tokens would still be valid.
    revoked: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class ApiKeyRow:
    """A machine's key. The secret itself is nowhere."""

    id: str
    name: str
    #: SHA-256 of the 32 random bytes, hexadecimal.
    secret_sha256: str
    #: `Permission` values; None: all that the role service has.
    permissions: tuple[str, ...] | None = None
    #: Where it may come from, in CIDR notation; empty: anywhere.
    networks: tuple[str, ...] = ()
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    last_used_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProviderRow:
    """A tenant's OpenID Connect provider."""

    issuer: str
    client_id: str
    #: Sealed (`services.access.sealed`); None for a public client (PKCE alone).
    client_secret: str | None = None
    #: `aud` of access tokens for our API, beside `client_id`; None: `client_id` only.
    audience: str | None = None
    scopes: str = "openid profile email"
    #: Claim (dots go into objects) that holds groups or roles, a string or a list.
    role_claim: str = "roles"
    #: Value of the claim -> our role. The strongest of several is taken: admin, radiologist, technician, operator.
    roles: Mapping[str, str] = field(default_factory=dict)
    #: Claim that must hold `tenant_value`, where several tenants share a provider.
    tenant_claim: str | None = None
    tenant_value: str | None = None
    #: Whether accounts with a password may log in besides.
    local_accounts: bool = True
