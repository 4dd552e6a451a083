"""Accounts, API keys, identity providers and token keys, from the machine itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

from overread import bootstrap
from overread.admin.connection import find_tenant, operator, owner
from overread.config import Settings
from overread.domain.audit import AuditAction
from overread.domain.errors import Conflict, InvalidRequest, NotFound, StoreUnavailable, TenantSuspended
from overread.domain.study import TenantId
from overread.exchange.fetch import ProviderFetch
from overread.services.access import AccessService, Role
from overread.services.access.api_keys import NewApiKey
from overread.services.access.oidc import secret_context
from overread.services.access.provider_tokens import ProviderKeys
from overread.services.identity_values import ApiKeyRow, ProviderRow
from overread.services.values import UserRow
from overread.store import token_keys


@contextmanager
def _hospital(settings: Settings, slug: str) -> Iterator[tuple[AccessService, TenantId, bootstrap.Overread]]:
    """Works with the tenant's own log-in; the database must run."""
    with owner(settings) as engine:
        tenant = find_tenant(engine, slug)
    overread = bootstrap.build(settings)
    try:
        yield bootstrap.access(overread), tenant, overread
    finally:
        overread.close()


def users(settings: Settings, tenant: str) -> tuple[UserRow, ...]:
    """By name. Raises `NotFound` for a tenant that is none."""
    with _hospital(settings, tenant) as (access, slug, _):
        return access.accounts.all(slug)


def add_user(
    settings: Settings, tenant: str, name: str, *, display_name: str, role: str, password: str | None
) -> str | None:
    """The password that was made up. Raises `Conflict`, `InvalidRequest`."""
    with _hospital(settings, tenant) as (access, slug, _):
        return access.accounts.add(
            slug, name=name, display_name=display_name, role=_role(role), password=password, actor=operator()
        )


def set_disabled(settings: Settings, tenant: str, name: str, disabled: bool) -> None:
    """Raises `NotFound`, `Conflict`."""
    with _hospital(settings, tenant) as (access, slug, _):
        user = access.accounts.named(slug, name)
        access.accounts.set_disabled(slug, user.id, disabled, actor=operator())


def set_role(settings: Settings, tenant: str, name: str, role: str) -> None:
    """Raises `NotFound`, `Conflict`, `InvalidRequest`."""
    with _hospital(settings, tenant) as (access, slug, _):
        user = access.accounts.named(slug, name)
        access.accounts.set_role(slug, user.id, _role(role), actor=operator())


def reset_password(settings: Settings, tenant: str, name: str, password: str | None) -> str | None:
    """The password that was made up. Raises `NotFound`, `InvalidRequest`."""
    with _hospital(settings, tenant) as (access, slug, _):
        user = access.accounts.named(slug, name)
        return access.accounts.reset_password(slug, user.id, password=password, actor=operator())


def reset_totp(settings: Settings, tenant: str, name: str) -> None:
    """Raises `NotFound`."""
    with _hospital(settings, tenant) as (access, slug, _):
        access.accounts.reset_totp(slug, access.accounts.named(slug, name).id, actor=operator())


def log_out(settings: Settings, tenant: str, name: str) -> None:
    """Everywhere. Raises `NotFound`."""
    with _hospital(settings, tenant) as (access, slug, _):
        access.log_out_everywhere(slug, access.accounts.named(slug, name).id, actor=operator())


def create_key(
    settings: Settings,
    tenant: str,
    *,
    name: str,
    lifetime: timedelta,
    permissions: list[str] | None,
    networks: list[str],
) -> NewApiKey:
    """Raises `Conflict`, `InvalidRequest`."""
    with _hospital(settings, tenant) as (access, slug, _):
        return access.api_keys.create(
            slug, name=name, lifetime=lifetime, permissions=permissions, networks=networks, actor=operator()
        )


def api_keys(settings: Settings, tenant: str) -> tuple[ApiKeyRow, ...]:
    """The newest first."""
    with _hospital(settings, tenant) as (access, slug, _):
        return access.api_keys.all(slug)


def revoke_key(settings: Settings, tenant: str, key_id: str) -> None:
    """Raises `NotFound`."""
    with _hospital(settings, tenant) as (access, slug, _):
        access.api_keys.revoke(slug, key_id, actor=operator())


def provider(settings: Settings, tenant: str) -> ProviderRow | None:
    """What is set."""
    with _hospital(settings, tenant) as (_, slug, overread), overread.database.unit(slug) as unit:
        return unit.provider.get()


def set_provider(settings: Settings, tenant: str, row: ProviderRow, *, check: bool = True) -> None:
    """Keep it; `row.client_secret` comes in the clear and is sealed here.

    Raises `InvalidRequest`, `Conflict` where another tenant could not be told apart, `ProviderUnavailable` if `check`
    cannot read the discovery document.
    """
    if urlsplit(row.issuer).scheme not in ("https", "http"):
        raise InvalidRequest("The issuer is an address that begins with https://.")
    for role in row.roles.values():
        _role(role)
    if not row.roles:
        raise InvalidRequest("Nobody would get a role.", remedy="Give --role VALUE=ROLE at least once.")
    if (row.tenant_claim is None) is not (row.tenant_value is None):
        raise InvalidRequest("The tenant's claim is given as CLAIM=VALUE.")
    if check:
        ProviderKeys(ProviderFetch()).endpoint(row.issuer, "authorization_endpoint")
    with _hospital(settings, tenant) as (_, slug, overread):
        _told_apart(overread, slug, row)
        if row.client_secret is not None:
            sealed = bootstrap.sealer(settings).seal(row.client_secret, secret_context(slug))
            row = replace(row, client_secret=sealed)
        with overread.database.unit(slug) as unit:
            unit.provider.put(row)
            unit.audit.record(
                AuditAction.SETTING_CHANGED,
                actor=operator(),
                setting="identity provider",
                issuer=row.issuer,
                local_accounts=row.local_accounts,
            )


def remove_provider(settings: Settings, tenant: str) -> None:
    """Local accounts only, again. Raises `NotFound`."""
    with _hospital(settings, tenant) as (_, slug, overread), overread.database.unit(slug) as unit:
        if not unit.provider.remove():
            raise NotFound(f"{tenant} has no identity provider.")
        unit.audit.record(
            AuditAction.SETTING_CHANGED, actor=operator(), setting="identity provider", issuer="", local_accounts=True
        )


def _told_apart(overread: bootstrap.Overread, tenant: TenantId, row: ProviderRow) -> None:
    """Two tenants that take the same tokens must differ by a claim, else people of one could enter the other."""
    ours = {row.client_id, row.audience} - {None}
    for other in overread.directory.tenants():
        if other == tenant:
            continue
        try:
            with overread.database.unit(other) as unit:
                theirs = unit.provider.get()
        except (StoreUnavailable, TenantSuspended):
            continue
        if theirs is None or theirs.issuer != row.issuer or not ours & {theirs.client_id, theirs.audience}:
            continue
        apart = row.tenant_claim is not None and (
            theirs.tenant_claim == row.tenant_claim and theirs.tenant_value != row.tenant_value
        )
        if not apart:
            raise Conflict(
                f"The tenant {other} takes tokens of the same issuer for the same client.",
                remedy="Give each hospital a client of its own, or tell them apart with --tenant-claim CLAIM=VALUE.",
            )


def rotate_token_keys(settings: Settings, *, at_once: bool) -> str:
    """The id of the new key. Tokens of the old ones count until the last one has expired, or no longer `at_once`."""
    with owner(settings) as engine:
        old = timedelta(0) if at_once else timedelta(seconds=settings.token_seconds)
        return token_keys.rotate(engine, old_verify_for=old)


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is no role.", remedy=f"Known: {', '.join(Role)}.") from error
