"""Accounts of a tenant: what its administrators do with them, and what everybody does with their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from overread.domain.audit import Actor, AuditAction, AuditOutcome
from overread.domain.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthenticated
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.services.access import lockout, totp
from overread.services.access.identity import Identity, Role
from overread.services.access.passwords import check_new_password, check_password, generate_password, hash_password
from overread.services.access.sealed import Sealer
from overread.services.ports import Clock, Database, UnitOfWork
from overread.services.values import UserRow

#: What a hospital's administrator may give. Operators are made on the machine itself, machines have API keys.
GRANTABLE: Final = (Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMIN)


@dataclass(frozen=True, kw_only=True)
class TotpOffer:
    """A second factor that waits for its first code."""

    secret: str
    #: otpauth:// address, for the QR code.
    uri: str


@dataclass(frozen=True, kw_only=True)
class OwnAccount:
    """What somebody sees of their own account."""

    has_password: bool
    has_totp: bool
    recovery_codes_left: int


class AccountService:
    """`forget` is told whose standing changed, so that this process knows at once and others within seconds."""

    def __init__(self, db: Database, *, clock: Clock, sealer: Sealer, forget: Callable[[TenantId, UUID], None]) -> None:
        self._db = db
        self._clock = clock
        self._sealer = sealer
        self._forget = forget

    # --- administrators --------------------------------------------------------------------------------------

    def all(self, tenant: TenantId) -> tuple[UserRow, ...]:
        """By name."""
        with self._db.unit(tenant) as uow:
            return uow.users.all()

    def named(self, tenant: TenantId, name: str) -> UserRow:
        """Raises `NotFound`."""
        with self._db.unit(tenant) as uow:
            user = uow.users.by_name(name)
        if user is None:
            raise NotFound(f"There is no user {name!r} in {tenant}.", remedy="See `overread user list`.")
        return user

    def by_id(self, tenant: TenantId, user_id: UUID) -> UserRow:
        """Raises `NotFound`."""
        with self._db.unit(tenant) as uow:
            return _of(uow, user_id)

    def add(
        self,
        tenant: TenantId,
        *,
        name: str,
        display_name: str = "",
        role: Role,
        password: str | None = None,
        actor: Actor | str,
        address: str = "",
    ) -> str | None:
        """Make an account. Without a password one is made up and returned, to be changed at the first log-in.

        Raises `InvalidRequest`, or `Conflict` if the name is taken.
        """
        if not 0 < len(name) <= 200 or not name.isprintable() or name != name.strip():
            raise InvalidRequest("The user name has 1 to 200 characters.", parameter="name")
        if len(display_name) > 200 or not (display_name.isprintable() or not display_name):
            raise InvalidRequest("The shown name has at most 200 characters.", parameter="displayName")
        made_up = None
        if password is None:
            password = made_up = generate_password()
        else:
            check_new_password(password, name)
        user = UserRow(
            id=uuid7(),
            tenant=tenant,
            name=name,
            display_name=display_name or name,
            role=role.value,
            password_hash=hash_password(password),
            disabled=False,
            must_change_password=made_up is not None,
        )
        with self._db.unit(tenant) as uow:
            if not uow.users.add(user):
                raise Conflict(f"There is a user {name} already.")
            uow.audit.record(AuditAction.USER_CREATED, actor=actor, user=str(user.id), role=role.value, address=address)
        return made_up

    def set_disabled(
        self, tenant: TenantId, user_id: UUID, disabled: bool, *, actor: Actor | str, address: str = ""
    ) -> None:
        """Out within seconds, everywhere. Raises `NotFound`, `Conflict` for the last administrator."""
        with self._db.unit(tenant) as uow:
            user = _of(uow, user_id)
            if user.disabled == disabled:
                return
            if disabled:
                _keep_an_admin(uow, user)
            uow.users.set_disabled(user_id, disabled)
            change = "disabled" if disabled else "enabled"
            uow.audit.record(AuditAction.USER_CHANGED, actor=actor, user=str(user_id), change=change, address=address)
        self._forget(tenant, user_id)

    def set_role(self, tenant: TenantId, user_id: UUID, role: Role, *, actor: Actor | str, address: str = "") -> None:
        """Ends the user's sessions. Raises `NotFound`, `Conflict` for the last administrator."""
        with self._db.unit(tenant) as uow:
            user = _of(uow, user_id)
            if user.role == role.value:
                return
            _keep_an_admin(uow, user)
            uow.users.set_role(user_id, role.value)
            uow.audit.record(
                AuditAction.USER_CHANGED,
                actor=actor,
                user=str(user_id),
                change="role",
                before=user.role,
                after=role.value,
                address=address,
            )
        self._forget(tenant, user_id)

    def reset_password(
        self, tenant: TenantId, user_id: UUID, *, password: str | None = None, actor: Actor | str, address: str = ""
    ) -> str | None:
        """A new password, made up (and returned) unless given; lifts locks. Raises `NotFound`, `InvalidRequest`."""
        made_up = generate_password() if password is None else None
        with self._db.unit(tenant) as uow:
            user = _of(uow, user_id)
        if user.issuer is not None:
            raise Conflict("This user logs in with the identity provider and has no password here.")
        if password is not None:
            check_new_password(password, user.name)
        hashed = hash_password(password or made_up or "")
        with self._db.unit(tenant) as uow:
            uow.users.set_password(user_id, hashed, must_change=made_up is not None)
            uow.sessions.forget_failures(lockout.account_key(user.name))
            uow.audit.record(AuditAction.PASSWORD_CHANGED, actor=actor, user=str(user_id), how="reset", address=address)
        self._forget(tenant, user_id)
        return made_up

    def reset_totp(self, tenant: TenantId, user_id: UUID, *, actor: Actor | str, address: str = "") -> None:
        """Take the second factor away, after a telephone was lost. Raises `NotFound`."""
        with self._db.unit(tenant) as uow:
            _of(uow, user_id)
            uow.users.clear_totp(user_id)
            uow.audit.record(AuditAction.TOTP_CHANGED, actor=actor, user=str(user_id), change="reset", address=address)
        self._forget(tenant, user_id)

    # --- one's own -------------------------------------------------------------------------------------------

    def own(self, who: Identity) -> OwnAccount:
        """Raises `Forbidden` for a machine."""
        user_id = _person(who)
        with self._db.unit(who.tenant) as uow:
            user = _of(uow, user_id)
            left = uow.users.recovery_codes_left(user_id)
        return OwnAccount(
            has_password=user.issuer is None, has_totp=user.totp_secret is not None, recovery_codes_left=left
        )

    def change_password(self, who: Identity, old: str, new: str, *, address: str) -> None:
        """All sessions end, this one too. Raises `InvalidRequest`, `RateLimited`."""
        user = self._prove(who, old, address)
        if old == new:
            raise InvalidRequest("The new password is the present one.", parameter="newPassword")
        check_new_password(new, user.name)
        hashed = hash_password(new)
        with self._db.unit(who.tenant) as uow:
            uow.users.set_password(user.id, hashed, must_change=False)
            uow.audit.record(AuditAction.PASSWORD_CHANGED, actor=user.name, how="own", address=address)
        self._forget(who.tenant, user.id)

    def _prove(self, who: Identity, password: str, address: str) -> UserRow:
        """Somebody else may sit at an open page: ask for the password again. Raises `InvalidRequest`, `RateLimited`."""
        user_id, now = _person(who), self._clock()
        with self._db.unit(who.tenant) as uow:
            user = _of(uow, user_id)
            lockout.check_not_locked(uow, user.name, address, now)
        if user.issuer is not None:
            raise Forbidden("Your password and second factor are kept by your hospital's identity provider.")
        if not check_password(user.password_hash, password):
            with self._db.unit(who.tenant) as uow:
                uow.sessions.record_failure(lockout.account_key(user.name), lockout.network_of(address), now)
                uow.audit.record(
                    AuditAction.PASSWORD_CHANGED, actor=user.name, outcome=AuditOutcome.DENIED, address=address
                )
            raise InvalidRequest("The present password is wrong.", parameter="password")
        return user

    def offer_totp(self, who: Identity, password: str, *, address: str) -> TotpOffer:
        """A new secret; it counts once `confirm_totp` has seen a code of it. Raises `InvalidRequest`, `RateLimited`."""
        user, secret = self._prove(who, password, address), totp.new_secret()
        with self._db.unit(who.tenant) as uow:
            uow.users.offer_totp(user.id, self._sealer.seal(secret, context(who.tenant, user.id)))
        return TotpOffer(secret=secret, uri=totp.uri(secret, account=who.name, tenant=who.tenant.slug))

    def offered_totp(self, who: Identity) -> TotpOffer | None:
        """The one that waits for its code."""
        user_id = _person(who)
        with self._db.unit(who.tenant) as uow:
            sealed = _of(uow, user_id).totp_offered
        if sealed is None:
            return None
        secret = self._sealer.open(sealed, context(who.tenant, user_id))
        return TotpOffer(secret=secret, uri=totp.uri(secret, account=who.name, tenant=who.tenant.slug))

    def confirm_totp(self, who: Identity, code: str, *, address: str) -> tuple[str, ...]:
        """Ten recovery codes, shown once. Raises `InvalidRequest` if the code is not of the offered secret."""
        user_id = _person(who)
        offer = self.offered_totp(who)
        step = totp.matching_step(offer.secret, code, self._clock()) if offer else None
        if step is None:
            raise InvalidRequest("This is not the code of the moment.", parameter="code")
        codes = totp.new_recovery_codes()
        with self._db.unit(who.tenant) as uow:
            if not uow.users.enable_totp(user_id, step, [totp.recovery_hash(user_id, c) for c in codes]):
                raise Conflict("The second factor was set up elsewhere meanwhile.")
            uow.audit.record(AuditAction.TOTP_CHANGED, actor=who.name, change="enrolled", address=address)
        return codes

    def check_second_factor(self, uow: UnitOfWork, user: UserRow, code: str) -> None:
        """A code of the moment, or a recovery code; each works once. Raises `Unauthenticated`."""
        now = self._clock()
        secret = self._sealer.open(user.totp_secret or "", context(user.tenant, user.id))
        step = totp.matching_step(secret, code, now)
        if step is not None and uow.users.use_totp_step(user.id, step):
            return
        if step is None and uow.users.use_recovery_code(user.id, totp.recovery_hash(user.id, code), now):
            uow.audit.record(AuditAction.TOTP_CHANGED, actor=user.name, change="recovery code used")
            return
        raise Unauthenticated("The code is wrong or was used before.")


def context(tenant: TenantId, user_id: UUID) -> str:
    """Where a TOTP secret belongs."""
    return f"totp {tenant.slug} {user_id}"


def _person(who: Identity) -> UUID:
    if who.user_id is None:
        raise Forbidden("An API key has no account.")
    return who.user_id


def _of(uow: UnitOfWork, user_id: UUID) -> UserRow:
    user = uow.users.by_id(user_id)
    if user is None:
        raise NotFound("There is no such user.")
    return user


def _keep_an_admin(uow: UnitOfWork, user: UserRow) -> None:
    others = [u for u in uow.users.all() if u.role == Role.ADMIN and not u.disabled and u.id != user.id]
    if user.role == Role.ADMIN and not user.disabled and not others:
        raise Conflict("This is the last administrator who can log in.", remedy="Make another one first.")
