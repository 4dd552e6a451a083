"""Keys of machines: `ovr_TENANT.ID.SECRET`. Shown once; only the secret's SHA-256 is kept (it has 256 random bits)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from overread.domain.audit import Actor, AuditAction
from overread.domain.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from overread.domain.study import TenantId
from overread.services.access.identity import PERMISSIONS, Identity, Means, Permission, Role
from overread.services.access.standing import ShortMemory
from overread.services.identity_values import ApiKeyRow
from overread.services.ports import Clock, Database

PREFIX: Final = "ovr_"
_SHAPE: Final = re.compile(r"ovr_([a-z][a-z0-9_]{0,39})\.([a-z2-7]{12})\.([A-Za-z0-9_-]{43})")
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
#: "Last used" is written once in so many seconds and process, not with every request.
_TOUCH_S: Final = 60.0
LONGEST: Final = timedelta(days=5 * 366)


@dataclass(frozen=True, kw_only=True)
class NewApiKey:
    """The only moment at which the key itself is there."""

    key: str
    row: ApiKeyRow


class ApiKeyService:
    """Makes, lists and revokes keys, and says who brings one."""

    def __init__(
        self,
        db: Database,
        *,
        clock: Clock,
        tenant_exists: Callable[[TenantId], bool],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._clock = clock
        self._ticks = ticks
        self._tenant_exists = tenant_exists
        self._known: ShortMemory[tuple[str, str], ApiKeyRow | None] = ShortMemory(ticks=ticks)
        self._touched: dict[tuple[str, str], float] = {}

    def create(
        self,
        tenant: TenantId,
        *,
        name: str,
        lifetime: timedelta,
        permissions: Sequence[str] | None = None,
        networks: Sequence[str] = (),
        actor: Actor | str,
        address: str = "",
    ) -> NewApiKey:
        """Raises `InvalidRequest` naming what cannot be used, `Conflict` if a living key has the name."""
        if not 0 < len(name) <= 100 or not name.isprintable():
            raise InvalidRequest("The key needs a name of at most 100 characters.", parameter="name")
        if not timedelta(0) < lifetime <= LONGEST:
            raise InvalidRequest("A key lives between one day and five years.", parameter="expires")
        now = self._clock()
        secret = secrets.token_bytes(32)
        row = ApiKeyRow(
            id="".join(secrets.choice(_ALPHABET) for _ in range(12)),
            name=name,
            secret_sha256=hashlib.sha256(secret).hexdigest(),
            permissions=_permissions(permissions),
            networks=tuple(_network(network) for network in networks),
            created_at=now,
            created_by=actor if isinstance(actor, str) else actor.name,
            expires_at=now + lifetime,
        )
        with self._db.unit(tenant) as uow:
            if not uow.api_keys.add(row):
                raise Conflict(f"There is a key with the name {name} already.", remedy="Revoke it first.")
            uow.audit.record(AuditAction.API_KEY_CREATED, actor=actor, key=row.id, name=name, address=address)
        return NewApiKey(key=f"{PREFIX}{tenant.slug}.{row.id}.{_text(secret)}", row=row)

    def all(self, tenant: TenantId) -> tuple[ApiKeyRow, ...]:
        """The newest first; revoked and expired ones too."""
        with self._db.unit(tenant) as uow:
            return uow.api_keys.all()

    def revoke(self, tenant: TenantId, key_id: str, *, actor: Actor | str, address: str = "") -> None:
        """Void everywhere within seconds. Raises `NotFound`."""
        with self._db.unit(tenant) as uow:
            if not uow.api_keys.revoke(key_id, self._clock()):
                raise NotFound("There is no living key with this id.")
            uow.audit.record(AuditAction.API_KEY_REVOKED, actor=actor, key=key_id, address=address)
        self._known.forget((tenant.slug, key_id))

    def identify(self, token: str, *, address: str, cached_only: bool = False) -> Identity:
        """Who brings this key. Raises `Unauthenticated` with one sentence whatever is wrong, `Missing`."""
        shape = _SHAPE.fullmatch(token)
        if shape is None:
            raise _refused()
        tenant, key_id, secret = TenantId(slug=shape[1]), shape[2], shape[3]
        place = (tenant.slug, key_id)
        row = (
            self._known.recall(place) if cached_only else self._known.get(place, lambda: self._look_up(tenant, key_id))
        )
        if row is None or not hmac.compare_digest(row.secret_sha256, _sha256(secret)):
            raise _refused()
        now = self._clock()
        if row.revoked_at is not None or row.expires_at <= now or not _allowed(row.networks, address):
            raise _refused()
        if not cached_only:
            self._touch(tenant, key_id, now, address)
        return Identity(
            user_id=None,
            name=f"key:{row.name}",
            display_name=row.name,
            role=Role.SERVICE,
            tenant=tenant,
            session=f"key:{row.id}",
            expires_at=row.expires_at,
            means=Means.API_KEY,
            only=frozenset(map(Permission, row.permissions)) if row.permissions is not None else None,
        )

    def _look_up(self, tenant: TenantId, key_id: str) -> ApiKeyRow | None:
        if not self._tenant_exists(tenant):
            return None
        with self._db.unit(tenant) as uow:
            return uow.api_keys.get(key_id)

    def _touch(self, tenant: TenantId, key_id: str, now: datetime, address: str) -> None:
        place, ticks = (tenant.slug, key_id), self._ticks()
        if ticks - self._touched.get(place, -_TOUCH_S) >= _TOUCH_S:
            self._touched[place] = ticks
            with self._db.unit(tenant) as uow:
                uow.api_keys.touch(key_id, now, address)


def _refused() -> Unauthenticated:
    return Unauthenticated("The API key is not valid.", remedy="Ask an administrator of your hospital for a new one.")


def _text(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).rstrip(b"=").decode()


def _sha256(text: str) -> str:
    return hashlib.sha256(base64.urlsafe_b64decode(text + "=")).hexdigest()


def _permissions(names: Sequence[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    possible = {permission.value for permission in PERMISSIONS[Role.SERVICE]}
    unknown = sorted(set(names) - possible)
    if unknown or not names:
        raise InvalidRequest(
            f"A key can have these permissions: {', '.join(sorted(possible))}.",
            parameter="permissions",
            allowed=sorted(possible),
        )
    return tuple(sorted(set(names)))


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError as error:
        raise InvalidRequest(f"{text} is no address or network.", remedy="Example: 10.1.2.0/24.") from error


def _allowed(networks: Sequence[str], address: str) -> bool:
    if not networks:
        return True
    try:
        here = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(here, ipaddress.IPv6Address) and here.ipv4_mapped is not None:
        here = here.ipv4_mapped
    return any(here in ipaddress.ip_network(network) for network in networks)
