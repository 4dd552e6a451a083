"""Log-in, sessions, and who is calling.

The tenant is a claim of the token and comes from nowhere else. What somebody may do does not: role, and whether they
may come in at all, are read from the server's own row, remembered for a few seconds (`standing`), so that a disabled
user, another role or an ended session holds in all processes within 5 s.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from overread.domain.audit import Actor, ActorKind, AuditAction, AuditOutcome
from overread.domain.errors import NotFound, SecondFactorRequired, SessionEnded, Unauthenticated
from overread.domain.study import TenantId
from overread.services.access import lockout
from overread.services.access.accounts import AccountService
from overread.services.access.api_keys import PREFIX, ApiKeyService
from overread.services.access.identity import Identity, Means, Role, Session
from overread.services.access.oidc import Beginning, ProviderService
from overread.services.access.passwords import DECOY, check_password, hash_password, is_outdated
from overread.services.access.sealed import Sealer
from overread.services.access.standing import Missing, ShortMemory
from overread.services.access.tokens import ISSUER, KeyRing, Tokens, issuer_of
from overread.services.identity_ports import ProviderWeb
from overread.services.identity_values import ProviderRow, Standing
from overread.services.ports import Clock, Database
from overread.services.values import UserRow

#: Between the password and the code.
_PENDING: Final = timedelta(minutes=5)
_WRONG: Final = "User name or password is wrong."


class AccessService:
    """Logs people in and says who a token is.

    `ring` holds the keys that sign tokens, `sealer` keeps secrets in the database. `tenant_exists` tells whether there
    is such a tenant (suspended ones are not), so that an unknown one answers like a wrong password. `lifetime` is that
    of any token, `idle` how long a page's session lasts that nobody uses, where `idle_of` names no other time for its
    hospital. `ticks` counts seconds and never goes back.
    """

    def __init__(
        self,
        db: Database,
        *,
        ring: KeyRing,
        sealer: Sealer,
        clock: Clock,
        web: ProviderWeb,
        lifetime: timedelta = timedelta(hours=10),
        idle: timedelta = timedelta(minutes=15),
        idle_of: Callable[[TenantId], timedelta | None] = lambda _tenant: None,
        tenant_exists: Callable[[TenantId], bool] = lambda _tenant: True,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._ring = ring
        self._clock = clock
        self._lifetime = lifetime
        self.idle = idle
        self._idle_of = idle_of
        self._tenant_exists = tenant_exists
        self._tokens = Tokens(ring, clock, required=("sub", "jti", "tenant", "epoch", "kind"))
        self._pending = Tokens(ring, clock, purpose="second factor", required=("sub", "tenant", "epoch"))
        self._standings: ShortMemory[tuple[str, UUID], Standing | None] = ShortMemory(ticks=ticks)
        self._bearers: ShortMemory[tuple[str, str], Identity] = ShortMemory(ticks=ticks)
        self.accounts = AccountService(db, clock=clock, sealer=sealer, forget=self.forget)
        self.api_keys = ApiKeyService(db, clock=clock, tenant_exists=tenant_exists, ticks=ticks)
        self.providers = ProviderService(
            db, web=web, ring=ring, sealer=sealer, clock=clock, forget=self.forget, ticks=ticks
        )

    def idle_for(self, tenant: TenantId) -> timedelta:
        """How long a page's session of this hospital lasts that nobody uses."""
        return self._idle_of(tenant) or self.idle

    def forget(self, tenant: TenantId, user_id: UUID) -> None:
        """Look the user up anew at the next request; other processes do within seconds."""
        self._standings.forget((tenant.slug, user_id))

    # --- log-in ----------------------------------------------------------------------------------------------

    def log_in(
        self, tenant: str, name: str, password: str, *, address: str, code: str = "", means: Means = Means.TOKEN
    ) -> Session:
        """Check name, password and (where the account has one) second factor.

        Raises `Unauthenticated` with one sentence for every reason there can be, `RateLimited` after too many of them,
        `SecondFactorRequired` if only the code is missing; its `details["pending"]` is for `second_factor`.
        """
        now = self._clock()
        tenant_id = self._tenant(tenant)
        if tenant_id is None or not 0 < len(name) <= 200 or not name.isprintable():
            check_password(DECOY, password)
            raise Unauthenticated(_WRONG)
        with self._db.unit(tenant_id) as uow:
            lockout.check_not_locked(uow, name, address, now)
            user = uow.users.by_name(name)
            provider = uow.provider.get()
        if provider is not None and not provider.local_accounts:
            raise Unauthenticated("This hospital logs in with its identity provider only.")
        good = check_password(user.password_hash if user and user.password_hash else DECOY, password)
        if user is None or not good or user.disabled or user.role not in set(Role):
            self._failed(tenant_id, name, user, address)
            raise Unauthenticated(_WRONG)
        if user.totp_secret is not None and not code:
            raise SecondFactorRequired("This account needs the code of its second factor.", pending=self._wait(user))
        return self._enter(user, code, address, means, password=password)

    def second_factor(self, pending: str, code: str, *, address: str, means: Means = Means.PAGE) -> Session:
        """The second step of a page's log-in. Raises `Unauthenticated`, `RateLimited`."""
        claims = self._pending.read(pending)
        try:
            tenant, user_id = TenantId(slug=str(claims["tenant"])), UUID(str(claims["sub"]))
        except ValueError as error:
            raise Unauthenticated("The session is not valid.", remedy="Log in again.") from error
        with self._db.unit(tenant) as uow:
            user = uow.users.by_id(user_id)
            if user is not None:
                lockout.check_not_locked(uow, user.name, address, self._clock())
        if user is None or user.disabled or user.epoch != claims["epoch"] or user.totp_secret is None:
            raise Unauthenticated("The log-in is no longer valid.", remedy="Log in again.")
        return self._enter(user, code, address, means)

    def provider_session(self, user: UserRow, *, address: str) -> Session:
        """A page's session for somebody whom the identity provider knows."""
        return self._enter(user, "", address, Means.PAGE)

    def provider_of(self, tenant: str) -> ProviderRow | None:
        """The identity provider of a hospital by its name; None too if there is no such hospital."""
        tenant_id = self._tenant(tenant)
        return self.providers.configured(tenant_id) if tenant_id is not None else None

    def begin_at_provider(self, tenant: str, *, redirect_uri: str, target: str) -> Beginning:
        """Raises `NotFound`, one sentence whether there is no such hospital or no provider; `ProviderUnavailable`."""
        tenant_id = self._tenant(tenant)
        if tenant_id is None:
            raise NotFound("This hospital has no identity provider here.")
        return self.providers.begin(tenant_id, redirect_uri=redirect_uri, target=target)

    def _wait(self, user: UserRow) -> str:
        now = self._clock()
        return self._pending.sign(
            {
                "sub": str(user.id),
                "tenant": user.tenant.slug,
                "epoch": user.epoch,
                "iat": int(now.timestamp()),
                "exp": int((now + _PENDING).timestamp()),
            }
        )

    def _enter(self, user: UserRow, code: str, address: str, means: Means, *, password: str | None = None) -> Session:
        now = self._clock()
        try:
            with self._db.unit(user.tenant) as uow:
                if user.totp_secret is not None and user.issuer is None:
                    self.accounts.check_second_factor(uow, user, code)
                if user.issuer is None:
                    uow.sessions.forget_failures(lockout.account_key(user.name), lockout.network_of(address))
                if password is not None and is_outdated(user.password_hash):
                    uow.users.rehash_password(user.id, user.password_hash, hash_password(password))
                uow.users.note_login(user.id, now)
                how = "identity provider" if user.issuer else "password and code" if user.totp_secret else "password"
                session = self._issue(user, means)
                uow.audit.record(AuditAction.LOGIN, actor=session.identity.actor(address), how=how)
        except Unauthenticated:
            self._failed(user.tenant, user.name, user, address)
            raise
        return session

    def _failed(self, tenant: TenantId, name: str, user: UserRow | None, address: str) -> None:
        with self._db.unit(tenant) as uow:
            account, network = lockout.account_key(name), lockout.network_of(address)
            locked = uow.sessions.record_failure(account, network, self._clock())
            # What was typed as a name that nobody has may be a password: it is not written down.
            actor = _known(user) if user else "unknown"
            action = AuditAction.LOGIN_LOCKED if locked else AuditAction.LOGIN_FAILED
            uow.audit.record(action, actor=actor, outcome=AuditOutcome.DENIED, address=address)

    def _tenant(self, slug: str) -> TenantId | None:
        try:
            tenant = TenantId(slug=slug)
        except ValueError:
            return None
        return tenant if self._tenant_exists(tenant) else None

    def _issue(self, user: UserRow, means: Means) -> Session:
        now = self._clock().astimezone(UTC).replace(microsecond=0)
        identity = Identity(
            user_id=user.id,
            name=user.name,
            display_name=user.display_name,
            role=Role(user.role),
            tenant=user.tenant,
            session=secrets.token_urlsafe(16),
            expires_at=now + self._lifetime,
            means=means,
            idle_at=now + self.idle_for(user.tenant) if means is Means.PAGE else None,
            must_change_password=user.must_change_password,
        )
        return self._signed(identity, user.epoch, now)

    def _signed(self, identity: Identity, epoch: int, now: datetime) -> Session:
        claims = {
            "sub": str(identity.user_id),
            "tenant": identity.tenant.slug,
            "jti": identity.session,
            "kind": identity.means.value,
            "epoch": epoch,
            "iat": int(now.timestamp()),
            "exp": int(identity.expires_at.timestamp()),
        }
        if identity.idle_at is not None:
            claims["idle"] = int(identity.idle_at.timestamp())
        return Session(token=self._tokens.sign(claims), identity=identity)

    # --- who is calling --------------------------------------------------------------------------------------

    def identify(
        self,
        token: str,
        *,
        by_cookie: bool = False,
        address: str = "",
        tenant: str = "",
        cached_only: bool = False,
    ) -> Identity:
        """Whose token it is. `tenant` says whose identity provider to ask for a token that is not ours.

        Raises `Unauthenticated` if it does not count (any more), `SessionEnded` if nobody used the page for a while.
        With `cached_only` it asks no database and no provider: raises `Missing` where it would have to.
        """
        if cached_only and not self._ring.fresh:
            raise Missing
        if not by_cookie and token.startswith(PREFIX):
            return self.api_keys.identify(token, address=address, cached_only=cached_only)
        if not by_cookie and issuer_of(token) not in (None, ISSUER):
            return self._identify_bearer(token, tenant, address, cached_only)
        claims = self._tokens.read(token, ask=not cached_only)
        try:
            user_id, tenant_id = UUID(claims["sub"]), TenantId(slug=claims["tenant"])
            means, session, epoch = Means(claims["kind"]), str(claims["jti"]), int(claims["epoch"])
            expires_at = datetime.fromtimestamp(int(claims["exp"]), UTC)
            idle_at = datetime.fromtimestamp(int(claims["idle"]), UTC) if means is Means.PAGE else None
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError) as error:
            raise _void() from error
        # What the pages' cookie holds ends when nobody uses the page: it is no key for programs, nor the other way.
        if by_cookie is not (means is Means.PAGE):
            raise _void()
        if idle_at is not None and idle_at <= self._clock():
            minutes = int((self.idle if cached_only else self.idle_for(tenant_id)).total_seconds() // 60)
            raise SessionEnded(f"Nobody used the page for {minutes} minutes.", remedy="Log in again.", reason="idle")
        standing = self._standing(tenant_id, user_id, cached_only)
        if standing.epoch != epoch or session in standing.revoked:
            raise _void()
        return self._identity(standing, tenant_id, session, expires_at, means, idle_at)

    def _identify_bearer(self, token: str, slug: str, address: str, cached_only: bool) -> Identity:
        digest = hashlib.sha256(token.encode()).hexdigest()
        key = (slug, digest)

        def look_up() -> Identity:
            tenant = self._tenant(slug)
            issuer = issuer_of(token)
            if tenant is None or issuer is None or not self.providers.is_issuer(tenant, issuer):
                raise _void()
            user, issued, expires_at = self.providers.user_of_bearer(tenant, token, address=address)
            standing = self._standing(tenant, user.id, False)
            if standing.not_before is not None and issued < standing.not_before:
                raise _void()
            return self._identity(standing, tenant, f"idp:{digest[:32]}", expires_at, Means.PROVIDER, None)

        try:
            known = self._bearers.recall(key) if cached_only else self._bearers.get(key, look_up)
        except NotFound as error:
            raise _void() from error
        if known.expires_at + timedelta(seconds=60) <= self._clock() or known.user_id is None:
            raise Unauthenticated("The token of the identity provider has expired.", remedy="Log in again.")
        standing = self._standing(known.tenant, known.user_id, cached_only)
        if known.session in standing.revoked:
            raise _void()
        return replace(known, role=Role(standing.role), name=standing.name, display_name=standing.display_name)

    def _standing(self, tenant: TenantId, user_id: UUID, cached_only: bool) -> Standing:
        def look_up() -> Standing | None:
            with self._db.unit(tenant) as uow:
                return uow.sessions.standing(user_id, self._clock())

        key = (tenant.slug, user_id)
        standing = self._standings.recall(key) if cached_only else self._standings.get(key, look_up)
        if standing is None or standing.disabled or standing.role not in set(Role):
            raise _void()
        return standing

    def _identity(
        self,
        standing: Standing,
        tenant: TenantId,
        session: str,
        expires_at: datetime,
        means: Means,
        idle_at: datetime | None,
    ) -> Identity:
        return Identity(
            user_id=standing.user_id,
            name=standing.name,
            display_name=standing.display_name,
            role=Role(standing.role),
            tenant=tenant,
            session=session,
            expires_at=expires_at,
            means=means,
            idle_at=idle_at,
            must_change_password=standing.must_change_password,
        )

    # --- going on, and out -----------------------------------------------------------------------------------

    def used(self, who: Identity) -> Session | None:
        """A fresh cookie for a page that somebody uses; None while the one they have is less than a minute old."""
        if who.idle_at is None or who.user_id is None:
            return None
        now = self._clock().astimezone(UTC).replace(microsecond=0)
        idle = self.idle_for(who.tenant)
        later = now + idle
        if later - who.idle_at < min(timedelta(minutes=1), idle / 4):
            return None
        try:
            standing = self._standings.recall((who.tenant.slug, who.user_id))
        except Missing:
            return None
        return self._signed(replace(who, idle_at=later), standing.epoch, now) if standing else None

    def log_out(self, who: Identity, *, address: str) -> None:
        """End this session. An API key ends by being revoked, not so."""
        if who.user_id is None:
            return
        with self._db.unit(who.tenant) as uow:
            uow.sessions.revoke(who.session, who.user_id, who.expires_at + timedelta(minutes=2))
            uow.audit.record(AuditAction.LOGOUT, actor=who.name, address=address)
        self.forget(who.tenant, who.user_id)

    def log_out_everywhere(self, tenant: TenantId, user_id: UUID, *, actor: Actor | str, address: str = "") -> None:
        """End all sessions of a user, on all machines."""
        with self._db.unit(tenant) as uow:
            uow.users.end_sessions(user_id)
            uow.audit.record(AuditAction.SESSION_REVOKED, actor=actor, user=str(user_id), address=address)
        self.forget(tenant, user_id)

    # --- forms -----------------------------------------------------------------------------------------------

    def form_token(self, session: str) -> str:
        """What a form of this session must send back (against cross-site requests)."""
        return _form_token(self._ring.known()[0].secret, session)

    def check_form_token(self, session: str, token: str) -> bool:
        """Whether `token` is this session's, under any of the keys."""
        return any(
            hmac.compare_digest(_form_token(key.secret, session).encode(), token.encode("utf-8", "replace"))
            for key in self._ring.known()
        )


def _known(user: UserRow) -> Actor:
    """Whose account it was tried with; that is not to say who tried."""
    return Actor(kind=ActorKind.PERSON, name=user.name, user_id=user.id, role=user.role)


def _form_token(secret: bytes, session: str) -> str:
    return hmac.new(secret, f"form:{session}".encode(), hashlib.sha256).hexdigest()


def _void() -> Unauthenticated:
    return Unauthenticated("The session is not valid.", remedy="Log in again.")
