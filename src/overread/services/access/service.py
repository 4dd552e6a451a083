"""Log-in and session tokens.

A session token is a JWT (RFC 7519, HS256). Its header names the key (`kid`), so that a new key can be introduced while
tokens of the old one still verify. The tenant is a claim of the token and comes from nowhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import jwt

from overread.domain.errors import Unauthenticated
from overread.domain.study import TenantId
from overread.services.access.identity import Identity, Role, Session
from overread.services.access.passwords import DECOY, check_password
from overread.services.ports import Clock, Database
from overread.services.values import UserRow

ISSUER: Final = "overread"
ALGORITHM: Final = "HS256"
MINIMUM_KEY_BYTES: Final = 32


class AccessService:
    """Logs people in and says who a token is.

    `keys` maps key ids to secrets of at least 32 bytes; new tokens are signed with `active_key`. `tenant_exists` tells
    whether there is such a tenant, so that an unknown one answers like a wrong password.
    """

    def __init__(
        self,
        db: Database,
        *,
        keys: Mapping[str, bytes],
        active_key: str,
        clock: Clock,
        lifetime: timedelta = timedelta(hours=10),
        tenant_exists: Callable[[TenantId], bool] = lambda _tenant: True,
    ) -> None:
        if active_key not in keys:
            raise ValueError(f"no secret for the active key {active_key!r}")
        short = [kid for kid, secret in keys.items() if len(secret) < MINIMUM_KEY_BYTES]
        if short:
            raise ValueError(f"secrets need at least {MINIMUM_KEY_BYTES} bytes: {', '.join(short)}")
        self._db = db
        self._keys = dict(keys)
        self._active = active_key
        self._clock = clock
        self._lifetime = lifetime
        self._tenant_exists = tenant_exists

    def log_in(self, tenant: str, name: str, password: str, *, address: str) -> Session:
        """Check name and password. Raises `Unauthenticated` with one sentence for every reason there can be."""
        user = self._user(tenant, name)
        good = check_password(user.password_hash if user else DECOY, password)
        if user is None or not good or user.disabled or user.role not in set(Role):
            if user is not None:
                with self._db.unit(user.tenant) as uow:
                    uow.audit.record("login.failed", actor=user.name, address=address)
            raise Unauthenticated("User name or password is wrong.")
        with self._db.unit(user.tenant) as uow:
            uow.audit.record("login", actor=user.name, address=address)
        return self._issue(user)

    def _user(self, tenant: str, name: str) -> UserRow | None:
        try:
            tenant_id = TenantId(slug=tenant)
        except ValueError:
            return None
        if not 0 < len(name) <= 200 or not name.isprintable() or not self._tenant_exists(tenant_id):
            return None
        with self._db.unit(tenant_id) as uow:
            return uow.users.by_name(name)

    def _issue(self, user: UserRow) -> Session:
        now = self._clock().astimezone(UTC).replace(microsecond=0)
        identity = Identity(
            user_id=user.id,
            name=user.name,
            display_name=user.display_name,
            role=Role(user.role),
            tenant=user.tenant,
            session=secrets.token_urlsafe(16),
            expires_at=now + self._lifetime,
        )
        claims = {
            "iss": ISSUER,
            "sub": str(user.id),
            "tenant": user.tenant.slug,
            "name": user.name,
            "display": user.display_name,
            "role": user.role,
            "jti": identity.session,
            "iat": int(now.timestamp()),
            "exp": int(identity.expires_at.timestamp()),
        }
        token = jwt.encode(claims, self._keys[self._active], algorithm=ALGORITHM, headers={"kid": self._active})
        return Session(token=token, identity=identity)

    def identify(self, token: str) -> Identity:
        """Whose token it is. Raises `Unauthenticated` if it is not ours, altered or expired."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            secret = self._keys.get(kid) if isinstance(kid, str) else None
            if secret is None:
                raise Unauthenticated("The session is not valid.", remedy="Log in again.")
            claims = jwt.decode(
                token,
                secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={
                    "require": ["exp", "iat", "sub", "jti", "tenant", "name", "role"],
                    # The clock is ours, so that tests and leap seconds do not depend on the machine's.
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
            identity = Identity(
                user_id=UUID(claims["sub"]),
                name=str(claims["name"]),
                display_name=str(claims.get("display") or claims["name"]),
                role=Role(claims["role"]),
                tenant=TenantId(slug=claims["tenant"]),
                session=str(claims["jti"]),
                expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError) as error:
            raise Unauthenticated("The session is not valid.", remedy="Log in again.") from error
        if identity.expires_at <= self._clock():
            raise Unauthenticated("The session has expired.", remedy="Log in again.")
        return identity

    def form_token(self, session: str) -> str:
        """What a form of this session must send back (against cross-site requests)."""
        return hmac.new(self._keys[self._active], f"form:{session}".encode(), hashlib.sha256).hexdigest()

    def check_form_token(self, session: str, token: str) -> bool:
        """Whether `token` is this session's, under any of the keys."""
        return any(
            hmac.compare_digest(hmac.new(key, f"form:{session}".encode(), hashlib.sha256).hexdigest(), token)
            for key in self._keys.values()
        )
