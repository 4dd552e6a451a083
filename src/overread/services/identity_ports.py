"""What `services.access` needs from outside: accounts, ended sessions, API keys, an identity provider's addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from overread.services.identity_values import ApiKeyRow, ProviderRow, Standing
from overread.services.values import UserRow


class UserRepository(Protocol):
    """Accounts of the unit of work's tenant."""

    def by_name(self, name: str) -> UserRow | None:
        """Exact match."""
        ...

    def by_id(self, user_id: UUID) -> UserRow | None: ...

    def by_subject(self, issuer: str, subject: str) -> UserRow | None:
        """Who a provider calls `subject`."""
        ...

    def all(self) -> tuple[UserRow, ...]:
        """By name."""
        ...

    def add(self, user: UserRow) -> bool:
        """False if the name is taken (then nothing changes)."""
        ...

    def set_password(self, user_id: UUID, password_hash: str, *, must_change: bool) -> None:
        """All sessions of the user end."""
        ...

    def rehash_password(self, user_id: UUID, old_hash: str, new_hash: str) -> None:
        """The same password under new parameters: nothing ends."""
        ...

    def set_disabled(self, user_id: UUID, disabled: bool) -> None:
        """All sessions of the user end."""
        ...

    def set_role(self, user_id: UUID, role: str) -> None:
        """All sessions of the user end."""
        ...

    def follow_role(self, user_id: UUID, role: str) -> None:
        """As the identity provider says; sessions go on, with the new role."""
        ...

    def end_sessions(self, user_id: UUID) -> None:
        """All tokens given out so far are void."""
        ...

    def note_login(self, user_id: UUID, now: datetime) -> None: ...

    def offer_totp(self, user_id: UUID, sealed: str) -> None:
        """Keep a new secret until its first code confirms it; the present one goes on working."""
        ...

    def enable_totp(self, user_id: UUID, step: int, code_hashes: Sequence[str]) -> bool:
        """The offered secret becomes the one, `step` is used up, recovery codes are replaced. False: none offered."""
        ...

    def clear_totp(self, user_id: UUID) -> None: ...

    def use_totp_step(self, user_id: UUID, step: int) -> bool:
        """False if this step or a later one was used before: a code works once."""
        ...

    def use_recovery_code(self, user_id: UUID, code_hash: str, now: datetime) -> bool:
        """False if there is no such code, or it was used."""
        ...

    def recovery_codes_left(self, user_id: UUID) -> int: ...


class SessionRepository(Protocol):
    """Which sessions ended before their time, and who failed to log in."""

    def standing(self, user_id: UUID, now: datetime) -> Standing | None: ...

    def revoke(self, session: str, user_id: UUID, expires_at: datetime) -> None:
        """End one session; forgotten once its token has expired by itself."""
        ...

    def locked_until(self, account: str, address: str, now: datetime) -> datetime | None:
        """Until when this address may not try this account, or nobody may. None: it may be tried."""
        ...

    def record_failure(self, account: str, address: str, now: datetime) -> bool:
        """Count a failed attempt. True if the account is locked from now on, for this address or for all."""
        ...

    def forget_failures(self, account: str, address: str | None = None) -> None:
        """After a log-in that worked (of one address), or by an administrator (of all)."""
        ...


class ApiKeyRepository(Protocol):
    """Keys of machines."""

    def get(self, key_id: str) -> ApiKeyRow | None: ...

    def all(self) -> tuple[ApiKeyRow, ...]:
        """The newest first."""
        ...

    def add(self, key: ApiKeyRow) -> bool:
        """False if a living key has this name."""
        ...

    def revoke(self, key_id: str, now: datetime) -> bool:
        """False if there is no living key of this id."""
        ...

    def touch(self, key_id: str, now: datetime, address: str) -> None:
        """Last used."""
        ...


class ProviderRepository(Protocol):
    """The tenant's OpenID Connect provider, if it has one."""

    def get(self) -> ProviderRow | None: ...

    def put(self, provider: ProviderRow) -> None: ...

    def remove(self) -> bool: ...


class ProviderWeb(Protocol):
    """`overread.exchange.fetch`: an identity provider's documents, as JSON objects."""

    def get(self, url: str, *, bearer: str | None = None) -> Mapping[str, Any]:
        """Raises `ProviderUnavailable`."""
        ...

    def post_form(
        self, url: str, form: Mapping[str, str], *, basic: tuple[str, str] | None = None
    ) -> Mapping[str, Any]:
        """Raises `ProviderUnavailable`; an error answer with JSON (RFC 6749 5.2) is returned."""
        ...


class SharedBuckets(Protocol):
    """`overread.store.buckets`: token buckets that all API processes share."""

    def take(self, key: str, capacity: float, per_second: float) -> float:
        """Take one token; the seconds to wait if there is none (then nothing is taken), else 0.

        Raises `StoreUnavailable`.
        """
        ...

    def drop(self, key: str) -> None:
        """Fill the bucket. Raises `StoreUnavailable`."""
        ...
