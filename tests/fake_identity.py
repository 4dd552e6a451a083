"""In-memory fakes of `services.identity_ports`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from overread.domain.errors import ProviderUnavailable
from overread.services.identity_values import ApiKeyRow, ProviderRow, Standing
from overread.services.values import UserRow

#: Time steps that were used up, by user: not rolled back, as no test needs it.
_STEPS: dict[UUID, int] = {}


class FakeUsers:
    """By name."""

    def __init__(self, users: dict[str, UserRow], codes: dict[tuple[UUID, str], bool]) -> None:
        self._users = users
        self._codes = codes

    def _change(self, user_id: UUID, **changes: Any) -> None:
        user = self.by_id(user_id)
        assert user is not None
        self._users[user.name] = replace(user, **changes)

    def _end(self, user_id: UUID, **changes: Any) -> None:
        user = self.by_id(user_id)
        assert user is not None
        self._change(user_id, epoch=user.epoch + 1, **changes)

    def by_name(self, name: str) -> UserRow | None:
        return self._users.get(name)

    def by_id(self, user_id: UUID) -> UserRow | None:
        return next((u for u in self._users.values() if u.id == user_id), None)

    def by_subject(self, issuer: str, subject: str) -> UserRow | None:
        return next((u for u in self._users.values() if (u.issuer, u.subject) == (issuer, subject)), None)

    def all(self) -> tuple[UserRow, ...]:
        return tuple(sorted(self._users.values(), key=lambda u: u.name))

    def add(self, user: UserRow) -> bool:
        if user.name in self._users:
            return False
        self._users[user.name] = user
        return True

    def set_password(self, user_id: UUID, password_hash: str, *, must_change: bool) -> None:
        self._end(user_id, password_hash=password_hash, must_change_password=must_change)

    def rehash_password(self, user_id: UUID, old_hash: str, new_hash: str) -> None:
        self._change(user_id, password_hash=new_hash)

    def set_disabled(self, user_id: UUID, disabled: bool) -> None:
        self._end(user_id, disabled=disabled)

    def set_role(self, user_id: UUID, role: str) -> None:
        self._end(user_id, role=role)

    def follow_role(self, user_id: UUID, role: str) -> None:
        self._change(user_id, role=role)

    def end_sessions(self, user_id: UUID) -> None:
        self._end(user_id)

    def note_login(self, user_id: UUID, now: datetime) -> None:
        self._change(user_id, last_login_at=now)

    def offer_totp(self, user_id: UUID, sealed: str) -> None:
        self._change(user_id, totp_offered=sealed)

    def enable_totp(self, user_id: UUID, step: int, code_hashes: Sequence[str]) -> bool:
        user = self.by_id(user_id)
        if user is None or user.totp_offered is None:
            return False
        self._change(user_id, totp_secret=user.totp_offered, totp_offered=None)
        _STEPS[user_id] = step
        for key in [k for k in self._codes if k[0] == user_id]:
            del self._codes[key]
        self._codes.update({(user_id, code): True for code in code_hashes})
        return True

    def clear_totp(self, user_id: UUID) -> None:
        self._end(user_id, totp_secret=None, totp_offered=None)

    def use_totp_step(self, user_id: UUID, step: int) -> bool:
        if _STEPS.get(user_id, 0) >= step:
            return False
        _STEPS[user_id] = step
        return True

    def use_recovery_code(self, user_id: UUID, code_hash: str, now: datetime) -> bool:
        return self._codes.pop((user_id, code_hash), False)

    def recovery_codes_left(self, user_id: UUID) -> int:
        return sum(key[0] == user_id for key in self._codes)


class FakeSessions:
    """The rules of locking are the real store's own (tests/integration/test_identity_store.py)."""

    def __init__(
        self,
        users: dict[str, UserRow],
        revoked: dict[str, UUID],
        failures: dict[tuple[str, str], tuple[int, datetime]],
    ) -> None:
        self._users = users
        self._revoked = revoked
        self._failures = failures

    def standing(self, user_id: UUID, now: datetime) -> Standing | None:
        user = next((u for u in self._users.values() if u.id == user_id), None)
        if user is None:
            return None
        return Standing(
            user_id=user.id,
            name=user.name,
            display_name=user.display_name,
            role=user.role,
            disabled=user.disabled,
            epoch=user.epoch,
            must_change_password=user.must_change_password,
            revoked=frozenset(s for s, u in self._revoked.items() if u == user_id),
        )

    def revoke(self, session: str, user_id: UUID, expires_at: datetime) -> None:
        self._revoked[session] = user_id

    def locked_until(self, account: str, address: str, now: datetime) -> datetime | None:
        failures, last = self._failures.get((account, address), (0, now))
        until = last + timedelta(minutes=1)
        return until if failures >= 5 and until > now else None

    def record_failure(self, account: str, address: str, now: datetime) -> bool:
        failures, _last = self._failures.get((account, address), (0, now))
        self._failures[(account, address)] = (failures + 1, now)
        return self.locked_until(account, address, now) is not None

    def forget_failures(self, account: str, address: str | None = None) -> None:
        for key in [k for k in self._failures if k[0] == account and address in (None, k[1])]:
            del self._failures[key]


class FakeApiKeys:
    """By id."""

    def __init__(self, keys: dict[str, ApiKeyRow]) -> None:
        self._keys = keys

    def get(self, key_id: str) -> ApiKeyRow | None:
        return self._keys.get(key_id)

    def all(self) -> tuple[ApiKeyRow, ...]:
        return tuple(sorted(self._keys.values(), key=lambda k: k.created_at, reverse=True))

    def add(self, key: ApiKeyRow) -> bool:
        if any(k.name == key.name and k.revoked_at is None for k in self._keys.values()):
            return False
        self._keys[key.id] = key
        return True

    def revoke(self, key_id: str, now: datetime) -> bool:
        key = self._keys.get(key_id)
        if key is None or key.revoked_at is not None:
            return False
        self._keys[key_id] = replace(key, revoked_at=now)
        return True

    def touch(self, key_id: str, now: datetime, address: str) -> None:
        self._keys[key_id] = replace(self._keys[key_id], last_used_at=now, last_used_from=address)


class FakeProvider:
    """One row, or none."""

    def __init__(self, rows: list[ProviderRow]) -> None:
        self._rows = rows

    def get(self) -> ProviderRow | None:
        return self._rows[0] if self._rows else None

    def put(self, provider: ProviderRow) -> None:
        self._rows[:] = [provider]

    def remove(self) -> bool:
        there = bool(self._rows)
        self._rows.clear()
        return there


class FakeProviderWeb:
    """Documents by address; nothing else is there."""

    def __init__(self, documents: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.documents: dict[str, Mapping[str, Any]] = dict(documents or {})
        self.asked: list[str] = []
        self.posted: list[tuple[str, dict[str, str], tuple[str, str] | None]] = []
        self.down = False

    def get(self, url: str, *, bearer: str | None = None) -> Mapping[str, Any]:
        self.asked.append(url)
        if self.down or url not in self.documents:
            raise ProviderUnavailable("The identity provider cannot be reached just now.")
        return self.documents[url]

    def post_form(
        self, url: str, form: Mapping[str, str], *, basic: tuple[str, str] | None = None
    ) -> Mapping[str, Any]:
        self.posted.append((url, dict(form), basic))
        return self.get(url)
