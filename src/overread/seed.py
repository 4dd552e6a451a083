"""What a new installation starts with: one demo tenant, its senders on this machine, and users that can log in."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

import sqlalchemy

from overread import bootstrap
from overread.config import Settings
from overread.domain.ids import uuid7
from overread.services.access import hash_password
from overread.services.values import UserRow
from overread.store import migrate

#: Loopback only: a modality on the network is registered by an admin.
_LOCAL_NETWORKS = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, kw_only=True)
class DemoUser:
    """A seeded log-in."""

    name: str
    display_name: str
    role: str


USERS = (
    DemoUser(name="radiologist", display_name="Dr. Demo (radiologist)", role="radiologist"),
    DemoUser(name="technician", display_name="Demo technician", role="technician"),
    DemoUser(name="admin", display_name="Demo administrator", role="admin"),
    DemoUser(name="operator", display_name="Demo operator", role="operator"),
)


def password_of(settings: Settings, user: str) -> str:
    """A seeded user's password: made from the installation's secret, so each installation has its own."""
    digest = hmac.new(settings.secret(), f"overread demo user {user}".encode(), hashlib.sha256).digest()
    return base64.b32encode(digest)[:12].decode().lower()


def ensure(engine: sqlalchemy.Engine, settings: Settings) -> None:
    """Make the demo tenant if there is no tenant at all, and its users; changes nothing that is there."""
    tenant = bootstrap.DEMO_TENANT
    known = migrate.list_tenants(engine)
    if known and tenant not in migrate.list_tenants(engine, served=True):
        return
    secret = settings.secret()
    if not known:
        migrate.create_tenant(engine, secret, tenant, "Demo hospital")
    for network in _LOCAL_NETWORKS:
        migrate.add_sender(engine, tenant, called_ae=bootstrap.DEMO_AE, network=network)
    database = bootstrap.database(settings)
    try:
        with database.unit(tenant) as unit:
            for user in USERS:
                if unit.users.by_name(user.name) is not None:
                    continue
                unit.users.add(
                    UserRow(
                        id=uuid7(),
                        tenant=tenant,
                        name=user.name,
                        display_name=user.display_name,
                        role=user.role,
                        password_hash=hash_password(password_of(settings, user.name)),
                        disabled=False,
                    )
                )
    finally:
        database.close()
