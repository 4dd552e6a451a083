"""OpenID Connect: any provider by its discovery document. Code flow with PKCE for pages, its tokens for the API.

OpenID Connect Core 1.0 (3.1), Discovery 1.0; RFC 7636 (PKCE, S256 only), RFC 8725 (JWT best practices), RFC 9207 is not
needed: a tenant has one provider.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from overread.domain.audit import AuditAction
from overread.domain.errors import Forbidden, NotFound, Unauthenticated
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.services.access.identity import Role
from overread.services.access.provider_tokens import ProviderKeys, read_provider_token
from overread.services.access.sealed import Sealer
from overread.services.access.standing import ShortMemory
from overread.services.access.tokens import KeyRing, Tokens
from overread.services.identity_ports import ProviderWeb
from overread.services.identity_values import ProviderRow
from overread.services.ports import Clock, Database
from overread.services.values import UserRow

#: Somebody who starts to log in has so long to finish.
PATIENCE: Final = timedelta(minutes=10)
#: Of several roles the first one counts.
_STRONGEST: Final = (Role.ADMIN, Role.RADIOLOGIST, Role.TECHNICIAN, Role.OPERATOR, Role.SERVICE)


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Where to send the browser, and what it must bring back in a cookie."""

    address: str
    cookie: str


@dataclass(frozen=True, kw_only=True)
class Return:
    """Somebody whom the provider knows, back from it."""

    user: UserRow
    #: Where they wanted to go.
    target: str


class ProviderService:
    """Each tenant's provider."""

    def __init__(
        self,
        db: Database,
        *,
        web: ProviderWeb,
        ring: KeyRing,
        sealer: Sealer,
        clock: Clock,
        forget: Callable[[TenantId, UUID], None],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._web = web
        self._sealer = sealer
        self._clock = clock
        self._forget = forget
        self._keys = ProviderKeys(web, ticks=ticks)
        self._states = Tokens(ring, clock, purpose="oidc", required=("tenant", "state", "nonce", "verifier", "next"))
        self._configured: ShortMemory[str, ProviderRow | None] = ShortMemory(ticks=ticks)

    def configured(self, tenant: TenantId) -> ProviderRow | None:
        """None: this hospital has local accounts only."""

        def look_up() -> ProviderRow | None:
            with self._db.unit(tenant) as uow:
                return uow.provider.get()

        return self._configured.get(tenant.slug, look_up)

    # --- pages -----------------------------------------------------------------------------------------------

    def begin(self, tenant: TenantId, *, redirect_uri: str, target: str) -> Beginning:
        """Raises `NotFound` where there is no provider, `ProviderUnavailable`."""
        provider = self._provider(tenant)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        now = self._clock()
        cookie = self._states.sign(
            {
                "tenant": tenant.slug,
                "state": state,
                "nonce": nonce,
                "verifier": verifier,
                "next": target,
                "iat": int(now.timestamp()),
                "exp": int((now + PATIENCE).timestamp()),
            }
        )
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = urlencode(
            {
                "response_type": "code",
                "client_id": provider.client_id,
                "redirect_uri": redirect_uri,
                "scope": provider.scopes,
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        endpoint = self._keys.endpoint(provider.issuer, "authorization_endpoint")
        return Beginning(address=f"{endpoint}{'&' if '?' in endpoint else '?'}{query}", cookie=cookie)

    def finish(self, *, cookie: str, state: str, code: str, redirect_uri: str, address: str) -> Return:
        """Trade the code for who it is. Raises `Unauthenticated`, `Forbidden` (no role here), `ProviderUnavailable`."""
        try:
            begun = self._states.read(cookie)
            tenant = TenantId(slug=str(begun["tenant"]))
        except (Unauthenticated, ValueError) as error:
            raise Unauthenticated("The log-in took too long or was begun elsewhere.", remedy="Try again.") from error
        if not hmac.compare_digest(str(begun["state"]), state):
            raise Unauthenticated("The answer belongs to another log-in.", remedy="Try again.")
        provider = self._provider(tenant)
        answer = self._trade(tenant, provider, code, str(begun["verifier"]), redirect_uri)
        id_token = answer.get("id_token")
        if not isinstance(id_token, str):
            raise Unauthenticated("The identity provider refused the log-in.", remedy="Try again.")
        claims = self._claims(provider, id_token)
        if not hmac.compare_digest(str(claims.get("nonce", "")), str(begun["nonce"])):
            raise Unauthenticated("The answer belongs to another log-in.", remedy="Try again.")
        claims = self._with_user_info(provider, claims, answer.get("access_token"))
        user = self.user_of(tenant, provider, claims, address=address)
        return Return(user=user, target=str(begun["next"]))

    def _trade(
        self, tenant: TenantId, provider: ProviderRow, code: str, verifier: str, redirect_uri: str
    ) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": provider.client_id,
        }
        basic = None
        if provider.client_secret is not None:
            secret = self._sealer.open(provider.client_secret, secret_context(tenant))
            methods = self._keys.document(provider.issuer).get("token_endpoint_auth_methods_supported")
            if isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods:
                form["client_secret"] = secret
            else:
                basic = (provider.client_id, secret)
        return self._web.post_form(self._keys.endpoint(provider.issuer, "token_endpoint"), form, basic=basic)

    def _with_user_info(
        self, provider: ProviderRow, claims: Mapping[str, Any], access_token: object
    ) -> Mapping[str, Any]:
        """Some providers tell roles at their userinfo endpoint only (OpenID Connect Core 5.3)."""
        endpoint = self._keys.document(provider.issuer).get("userinfo_endpoint")
        if claim(claims, provider.role_claim) is not None or not isinstance(access_token, str) or not endpoint:
            return claims
        more = self._web.get(str(endpoint), bearer=access_token)
        if more.get("sub") != claims["sub"]:
            raise Unauthenticated("The identity provider contradicts itself.", remedy="Try again.")
        return {**more, **claims}

    # --- API -------------------------------------------------------------------------------------------------

    def user_of_bearer(self, tenant: TenantId, token: str, *, address: str) -> tuple[UserRow, datetime, datetime]:
        """Whose access or ID token it is, when it was given out and ends. Raises as `finish`."""
        provider = self._provider(tenant)
        claims = self._claims(provider, token)
        user = self.user_of(tenant, provider, claims, address=address)
        issued = datetime.fromtimestamp(int(claims["iat"]), UTC)
        return user, issued, datetime.fromtimestamp(int(claims["exp"]), UTC)

    def is_issuer(self, tenant: TenantId, issuer: str) -> bool:
        """Whether this tenant's provider is called so."""
        provider = self.configured(tenant)
        return provider is not None and provider.issuer == issuer

    # --- both ------------------------------------------------------------------------------------------------

    def user_of(self, tenant: TenantId, provider: ProviderRow, claims: Mapping[str, Any], *, address: str) -> UserRow:
        """The row of somebody whom the provider knows; made at their first log-in. Raises `Forbidden`, one sentence."""
        if provider.tenant_claim is not None and provider.tenant_value not in _values(
            claim(claims, provider.tenant_claim)
        ):
            raise Forbidden("Your account at the identity provider belongs to another hospital.")
        role = role_of(provider, claims)
        if role is None:
            raise Forbidden(
                "Your account at the identity provider has no role in Overread.",
                remedy="Ask an administrator of your hospital.",
            )
        subject = str(claims["sub"])
        with self._db.unit(tenant) as uow:
            user = uow.users.by_subject(provider.issuer, subject)
            if user is None:
                user = self._new(tenant, provider, claims, role)
                # A local account of the same name is somebody else's until an administrator says otherwise.
                if not uow.users.add(user):
                    user = self._new(tenant, provider, claims, role, name_suffix=f" ({subject[:40]})")
                    if not uow.users.add(user):
                        raise Forbidden("There is an account with your name already.")
                uow.audit.record(
                    AuditAction.USER_CREATED,
                    actor="identity provider",
                    user=str(user.id),
                    role=role.value,
                    address=address,
                )
            elif user.role != role.value:
                uow.users.follow_role(user.id, role.value)
                uow.audit.record(
                    AuditAction.USER_CHANGED,
                    actor="identity provider",
                    user=str(user.id),
                    change="role",
                    before=user.role,
                    after=role.value,
                )
                self._forget(tenant, user.id)
        if user.disabled:
            raise Unauthenticated("Your account is disabled.", remedy="Ask an administrator of your hospital.")
        return user

    def _new(
        self, tenant: TenantId, provider: ProviderRow, claims: Mapping[str, Any], role: Role, *, name_suffix: str = ""
    ) -> UserRow:
        subject = str(claims["sub"])
        name = _printable(claims.get("preferred_username") or claims.get("email") or subject)
        return UserRow(
            id=uuid7(),
            tenant=tenant,
            name=f"{name}{name_suffix}"[:200],
            display_name=_printable(claims.get("name") or name)[:200],
            role=role.value,
            password_hash="",
            disabled=False,
            issuer=provider.issuer,
            subject=subject,
        )

    def _provider(self, tenant: TenantId) -> ProviderRow:
        provider = self.configured(tenant)
        if provider is None:
            raise NotFound("This hospital has no identity provider here.")
        return provider

    def _claims(self, provider: ProviderRow, token: str) -> Mapping[str, Any]:
        audiences = [a for a in (provider.client_id, provider.audience) if a]
        return read_provider_token(
            token, keys=self._keys, issuer=provider.issuer, audiences=audiences, now=self._clock()
        )


def secret_context(tenant: TenantId) -> str:
    """Where a client secret belongs."""
    return f"oidc client secret {tenant.slug}"


def role_of(provider: ProviderRow, claims: Mapping[str, Any]) -> Role | None:
    """Our role for what the provider says; the strongest of several, None if it says nothing that we know."""
    mapped = {provider.roles.get(value) for value in _values(claim(claims, provider.role_claim))}
    return next((role for role in _STRONGEST if role.value in mapped), None)


def claim(claims: Mapping[str, Any], path: str) -> object:
    """A claim by its name; a dot goes into an object (`realm_access.roles`) unless the name itself has the dot."""
    if path in claims:
        return claims[path]
    found: object = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _values(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _printable(value: object) -> str:
    return "".join(c for c in str(value) if c.isprintable()).strip()[:150] or "unnamed"
