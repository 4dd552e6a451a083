"""Keys: the master key, the data keys of tenants, what seals secrets; and units of work, which need them."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import TYPE_CHECKING

from overread.bootstrap.connections import database_url
from overread.config import Settings
from overread.domain.study import TenantId
from overread.services.key_ports import KeyManagement
from overread.store import keys_master
from overread.store.cipher import Ciphers
from overread.store.database import Postgres
from overread.store.encrypted_objects import EncryptedObjects
from overread.store.keys import DatabaseKeyRing, tenant_login
from overread.store.objects import open_objects

if TYPE_CHECKING:
    import sqlalchemy

    from overread.services.access import Sealer
    from overread.store.keys_admin import OwnerKeys
    from overread.store.keys_reencrypt import Reencryption


def master_keys(settings: Settings) -> KeyManagement:
    """What wraps the data keys of tenants."""
    path = master_key_file(settings)
    return keys_master.from_environment(settings.master_key) if path is None else keys_master.from_file(path)


def master_key_file(settings: Settings) -> Path | None:
    """Where the master key lies; None if it is in the environment."""
    return None if settings.master_key else settings.master_key_file or settings.prepare_state() / "master.key"


def owner_keys(settings: Settings, engine: sqlalchemy.Engine) -> OwnerKeys:
    """What the owner does with data keys."""
    from overread.store.keys_admin import OwnerKeys

    return OwnerKeys(engine, master_keys(settings))


def shred_keys(engine: sqlalchemy.Engine, tenant: TenantId) -> None:
    """Delete a tenant's data keys for good: no master key is needed for that."""
    from overread.store.keys_admin import OwnerKeys

    OwnerKeys(engine, None).shred(tenant)


def reencryption(settings: Settings) -> tuple[Postgres, Reencryption]:
    """What encrypts again, and its database, to close."""
    from overread.store.keys_reencrypt import Reencryption

    cipher = ciphers(settings)
    units = Postgres(database_url(settings), settings.secret(), cipher, pooled=settings.pooled)
    stored = open_objects(settings.objects_url, settings.state_dir / "objects")
    return units, Reencryption(units, EncryptedObjects(stored, cipher))


def ciphers(settings: Settings) -> Ciphers:
    """What encrypts and finds, for every tenant."""
    login = tenant_login(database_url(settings), settings.secret())
    return Ciphers(DatabaseKeyRing(login, master_keys(settings)))


def database(settings: Settings) -> Postgres:
    """Units of work; the database need not run yet."""
    return Postgres(database_url(settings), settings.secret(), ciphers(settings), pooled=settings.pooled)


def sealer(settings: Settings) -> Sealer:
    """Encrypts the secrets that the database keeps for us."""
    from overread.services.access import Sealer

    return Sealer(hmac.new(settings.secret(), b"overread sealed secrets 1", hashlib.sha256).digest())
