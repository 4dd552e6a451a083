"""`overread tenant`: make, list, suspend, resume, migrate and delete hospitals. Each may be run again after a crash."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from overread import bootstrap
from overread.admin.audit import archive_tenant_audit
from overread.admin.connection import find_tenant, new_tenant, operator, owner
from overread.admin.record import put_on_record
from overread.config import Settings
from overread.domain.audit import AuditAction
from overread.domain.errors import Conflict, InvalidRequest, NotFound, TenantUnavailable
from overread.domain.study import TenantId
from overread.services.tenant_settings import TenantSettingsService
from overread.services.values import StoredSetting
from overread.store import migrate, tenant_rows
from overread.store.keys_admin import OwnerKeys
from overread.store.migrate import Failure
from overread.store.objects import open_objects
from overread.store.tenant_rows import TenantSize, TenantState

#: How long deleting waits for jobs that still run; their results are refused anyway.
_PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """A line of `overread tenant list`."""

    state: TenantState
    size: TenantSize


def create(settings: Settings, slug: str, name: str) -> bool:
    """False if it was there already (it is brought up to date). Raises `InvalidRequest`, `Conflict`."""
    tenant = new_tenant(slug)
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise InvalidRequest("Give the hospital a name of at most 200 characters.", parameter="name")
    with owner(settings) as engine:
        created = migrate.create_tenant(engine, settings.secret(), tenant, name.strip())
        if created:
            put_on_record(settings, engine, tenant, AuditAction.TENANT_CREATED, operator(), "", {})
    return created


def listing(settings: Settings) -> tuple[Hospital, ...]:
    """All hospitals, by their short name."""
    with owner(settings) as engine:
        return tuple(Hospital(state=s, size=tenant_rows.size(engine, s.tenant)) for s in tenant_rows.states(engine))


def size(settings: Settings, slug: str) -> TenantSize:
    """How much of one hospital there is."""
    with owner(settings) as engine:
        return tenant_rows.size(engine, find_tenant(engine, slug))


def suspend(settings: Settings, slug: str, reason: str) -> None:
    """From now on nobody works for it: log-ins, sessions, DICOM, jobs. Nothing is deleted, queued jobs wait."""
    with owner(settings) as engine:
        tenant = find_tenant(engine, slug)
        put_on_record(settings, engine, tenant, AuditAction.TENANT_SUSPENDED, operator(), reason, {})
        tenant_rows.suspend(engine, tenant)


def resume(settings: Settings, slug: str, reason: str) -> None:
    """Raises `Conflict` for one that is being made or deleted."""
    with owner(settings) as engine:
        tenant = find_tenant(engine, slug)
        state = tenant_rows.state(engine, tenant)
        if state is not None and state.state in ("creating", "deleting"):
            raise Conflict(f"The tenant {tenant} is {state.state}.", remedy="Run that command again until it is done.")
        tenant_rows.resume(engine, tenant)
        put_on_record(settings, engine, tenant, AuditAction.TENANT_RESUMED, operator(), reason, {})


def migrate_all(settings: Settings, slugs: tuple[str, ...]) -> tuple[Failure, ...]:
    """Bring the named hospitals, or all, up to date again; those that fail, with the reason."""
    with owner(settings) as engine:
        only = tuple(find_tenant(engine, slug) for slug in slugs) or None
        failures = migrate.migrate_tenants(engine, settings.secret(), only)
        for failure in failures:
            tenant_rows.write_log(
                engine, failure.tenant, "tenant.migration_failed", operator().name, failure.reason, {}
            )
    return failures


def check_deletable(settings: Settings, slug: str) -> TenantState:
    """Raises `Conflict` unless it is suspended (or its deletion was begun), `NotFound` if it is gone or never was."""
    with owner(settings) as engine:
        tenant = new_tenant(slug)
        state = tenant_rows.state(engine, tenant)
        if state is None and tenant_rows.was_deleted(engine, tenant):
            raise NotFound(f"The tenant {tenant} was deleted already.")
        if state is None:
            state = tenant_rows.state(engine, find_tenant(engine, slug))
    if state is None or state.state not in ("suspended", "deleting", "creating"):
        raise Conflict(
            f"The tenant {slug} is in use.", remedy=f"Run `overread tenant suspend {slug} --reason ...` first."
        )
    return state


def delete(settings: Settings, slug: str, say: Callable[[str], None] = lambda _text: None) -> None:
    """Everything of a suspended tenant: jobs, objects, data keys, schema, log-in. What stays: its sealed audit trail in
    the archive, and that its name was taken. Interrupted, it goes on where it was when it is run again.
    """
    check_deletable(settings, slug)
    with owner(settings) as engine:
        tenant = find_tenant(engine, slug)
        tenant_rows.write_log(engine, tenant, AuditAction.TENANT_DELETED.value, operator().name, "begun", {})
        tenant_rows.begin_deleting(engine, tenant)
        say("waiting for running jobs")
        _wait_for_jobs(lambda: tenant_rows.running_jobs(engine, tenant), tenant)
        say("jobs")
        tenant_rows.delete_jobs(engine, tenant)
        say("audit trail to the archive")
        archive_tenant_audit(settings, engine, tenant)
        say("objects")
        open_objects(settings.objects_url, settings.state_dir / "objects").delete_all(tenant)
        say("data key")
        OwnerKeys(engine, None).shred(tenant)
        say("tables and log-in")
        tenant_rows.drop(engine, tenant)
        tenant_rows.write_log(engine, tenant, AuditAction.TENANT_DELETED.value, operator().name, "done", {})


def _wait_for_jobs(running: Callable[[], int], tenant: TenantId) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while running():
        if time.monotonic() > deadline:
            raise TenantUnavailable(
                f"A worker still runs a job of {tenant}.", remedy="Run the same command again in a minute."
            )
        time.sleep(0.5)


# --- settings -------------------------------------------------------------------------------------------------------


def change_setting(settings: Settings, slug: str, key: str, value: str, reason: str) -> StoredSetting:
    """Raises `InvalidRequest` for an unknown key, a value that cannot be, or without a reason."""
    with owner(settings) as engine:
        tenant = find_tenant(engine, slug)
    database = bootstrap.database(settings)
    try:
        service = TenantSettingsService(database, bootstrap.now)
        return service.set(tenant, key, value, reason=reason, actor=operator())
    finally:
        database.close()


def stored_settings(settings: Settings, slug: str) -> tuple[StoredSetting, ...]:
    """What a hospital has set, with who, when and why."""
    with owner(settings) as engine:
        tenant = find_tenant(engine, slug)
    database = bootstrap.database(settings)
    try:
        return TenantSettingsService(database, bootstrap.now).stored(tenant)
    finally:
        database.close()
