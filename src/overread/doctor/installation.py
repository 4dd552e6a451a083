"""Checks of what the processes share: database, hospitals, objects, keys, queue, Redis, audit trail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from overread import bootstrap
from overread.doctor.machine import served_here
from overread.doctor.report import Finding, attention, ill, well
from overread.domain.errors import OverreadError
from overread.domain.study import TenantId
from overread.services.degradation import QueueHealth, overloaded
from overread.store import dump, health, migrate, roles
from overread.store.audit_archive import owner_connection
from overread.store.buckets import RedisBuckets
from overread.store.health import QueueProbe, ServerFacts, TenantFacts
from overread.store.keys import context

OLDEST = 150000
SKEW_S = 5.0
#: A seal a minute; a worker that starts needs a moment.
UNSEALED_S = 300.0
_NEXT = "See the worker's log; a failed analysis can be retried on the worklist."


class Site:
    """The parts of an installation, asked once each. Raises `StoreUnavailable` where the database is away."""

    def __init__(self, overread: bootstrap.Overread) -> None:
        self.overread = overread
        self.settings = overread.settings
        self._facts: tuple[ServerFacts, tuple[TenantFacts, ...], float] | None = None

    def facts(self) -> tuple[ServerFacts, tuple[TenantFacts, ...], float]:
        """Of the server and of each hospital, and how far its clock is ahead of ours, in seconds."""
        if self._facts is None:
            engine = migrate.owner_engine(bootstrap.owner_conninfo(self.settings))
            try:
                with migrate.reachable(), owner_connection(engine) as connection:
                    before = datetime.now(UTC)
                    server = health.server_facts(connection)
                    after = datetime.now(UTC)
                    tenants = health.tenant_facts(connection)
            finally:
                engine.dispose()
            ahead = (server.now - (before + (after - before) / 2)).total_seconds()
            self._facts = server, tenants, ahead
        return self._facts

    def wrapped_keys(self) -> list[tuple[str, str, int, str, bytes]]:
        """(tenant, purpose, version, master key, wrapped key) of all data keys in use."""
        engine = migrate.owner_engine(bootstrap.owner_conninfo(self.settings))
        try:
            with migrate.reachable(), dump.snapshot(engine) as snapshot:
                return snapshot.wrapped_keys()
        finally:
            engine.dispose()

    def queue(self) -> QueueHealth:
        return QueueProbe(self.overread.login(roles.DOOR))()


def database(site: Site) -> Iterator[Finding]:
    server, _, _ = site.facts()
    served = site.overread.directory.tenants()
    where = "external" if site.settings.database_url else str(bootstrap.embedded(site.settings).data)
    if server.version < OLDEST:
        yield ill(f"PostgreSQL {server.shown_version} is too old.", "Use 15 or newer.")
    else:
        yield well(f"PostgreSQL {server.shown_version} ({where}), tenants: {', '.join(map(str, served)) or 'none'}")
    if server.connections > 0.8 * server.most_connections:
        yield attention(
            f"{server.connections} of {server.most_connections} connections are taken.",
            "Raise max_connections, or put pgbouncer in front (OVERREAD_DATABASE_DIRECT_URL).",
        )
    if not server.superuser:
        names = ", ".join(name for name, _ in roles.TENANT_SUPERUSER_LIMITS)
        yield attention(
            f"The owner is no superuser: {names} is not limited per hospital.",
            "Nothing to do if one hospital may fill the server's disk; else ALTER ROLE as superuser.",
        )
    if site.settings.pooled:
        with site.overread.database.unit(served[0]) if served else _nothing() as unit:
            if unit is not None:
                unit.studies.find("1.2.3")
        yield well("the pooler answers")


class _nothing:  # noqa: N801 - reads as a value at its use
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def migrations(site: Site) -> Iterator[Finding]:
    _, tenants, _ = site.facts()
    how = "Run `overread tenant migrate`; what it says is in the log of `overread serve`."
    bad = False
    for tenant in tenants:
        if tenant.out_of_service:
            bad = True
            yield ill(f"{tenant.tenant} is out of service: {tenant.out_of_service}.", how)
        elif not tenant.current and tenant.state in ("active", "suspended"):
            bad = True
            yield ill(f"{tenant.tenant} is of another version.", how)
        elif tenant.state in ("creating", "deleting"):
            bad = True
            yield attention(f"{tenant.tenant} is half {tenant.state}.", "Run that command again until it is done.")
    if not bad:
        yield well(f"{len(tenants)} hospitals up to date")


def clocks(site: Site) -> Iterator[Finding]:
    _, _, ahead = site.facts()
    if abs(ahead) > SKEW_S:
        word = "ahead of" if ahead > 0 else "behind"
        yield ill(
            f"The database's clock is {abs(ahead):.0f} s {word} this machine's.",
            "Let both keep time by NTP: log-ins, seals and waiting times depend on it.",
        )
    else:
        yield well(f"the database's is within {max(0.1, abs(ahead)):.1f} s of ours")


def objects(site: Site) -> Iterator[Finding]:
    if bootstrap.works(site.overread.stored):
        yield well("writes and reads")
    else:
        yield ill("An object came back changed.", "Check the disk.")


def every_object(site: Site) -> Iterator[Finding]:
    """What the database names and what is there, of each hospital. Reads every name: minutes for a million."""
    engine = migrate.owner_engine(bootstrap.owner_conninfo(site.settings))
    bad = False
    try:
        with migrate.reachable(), dump.snapshot(engine) as snapshot:
            for tenant in snapshot.tenants:
                named = set(snapshot.object_keys(tenant))
                there = {item.key for item in site.overread.stored.list(tenant)}
                if lost := named - there:
                    bad = True
                    yield ill(
                        f"{tenant}: {len(lost)} of {len(named)} objects are not in the object store, as {min(lost)}.",
                        "Bring them back from a backup, or let the PACS send those studies again.",
                    )
                if orphans := there - named:
                    bad = True
                    yield attention(
                        f"{tenant}: {len(orphans)} objects are named by no study.",
                        "A crash may leave some, and those of the last minutes are on their way: they take room only.",
                    )
    finally:
        engine.dispose()
    if not bad:
        yield well("every object that is named is there, and no other")


def keys(site: Site) -> Iterator[Finding]:
    """Every data key opens. Asked of the table itself: a process that is asked for keys makes those that lack."""
    master = bootstrap.master_keys(site.settings)
    wrapped = site.wrapped_keys()
    for slug, purpose, version, key_id, key in wrapped:
        master.unwrap(key, key_id, context(TenantId(slug=slug), purpose, version))
    tenants = {slug for slug, *_ in wrapped}
    path = bootstrap.master_key_file(site.settings)
    where = f"the master key is in {path}"
    if path is None:
        where = "the master key is in OVERREAD_MASTER_KEY"
    elif path.is_relative_to(site.settings.state_dir):
        where += ", beside the data: a thief of this disk has both (docs/explanation/encryption.md)"
    yield well(f"{len(tenants)} tenants have theirs; {where}")


def workers(site: Site) -> Iterator[Finding]:
    queue = site.queue()
    if queue.workers:
        yield well(f"{queue.workers} alive, {queue.running} jobs running")
        return
    silent = "never" if queue.silent_s is None else f"{queue.silent_s / 60:.0f} minutes ago"
    text = f"No worker is alive; the last sign of one: {silent}."
    if served_here(site.settings) or queue.waiting:
        yield ill(text, f"Start one: `overread serve` or `overread worker`; see {site.settings.state_dir / 'logs'}.")
    else:
        yield well("none is started, and nothing waits")


def queue_length(site: Site) -> Iterator[Finding]:
    queue = site.queue()
    text = f"{queue.waiting} jobs wait, {queue.pressing} of them urgent or critical, the longest {queue.oldest_s:.0f} s"
    if overloaded(queue, site.settings.overload_jobs):
        yield ill(f"{text}: overloaded.", "Start more workers: `overread worker --name NAME`.")
    elif queue.oldest_s > 3600:
        yield attention(f"{text}.", "Start more workers: `overread worker --name NAME`.")
    else:
        yield well(text)
    letters = site.overread.directory.dead_letters(1)
    if letters:
        last = letters[0]
        yield ill(
            f"{queue.failed} jobs failed for good; the last is job {last.job}, {last.task} of {last.tenant}.", _NEXT
        )


def studies(site: Site) -> Iterator[Finding]:
    _, tenants, _ = site.facts()
    bad = False
    for tenant in tenants:
        if tenant.stuck:
            bad = True
            yield ill(
                f"{tenant.tenant}: {tenant.stuck} analyses are stuck.", "A worker mends them itself: see its log."
            )
        if tenant.unassembled:
            bad = True
            yield ill(
                f"{tenant.tenant}: {tenant.unassembled} studies wait for their end for half an hour.",
                "Is a worker alive? It closes them after the quiet period.",
            )
    if not bad:
        yield well("none is stuck")


def senders(site: Site) -> Iterator[Finding]:
    _, tenants, _ = site.facts()
    bad = False
    for tenant in (t for t in tenants if t.state == "active"):
        if not tenant.senders:
            bad = True
            yield attention(f"{tenant.tenant} has no sender.", "overread sender add --tenant ... --network ...")
        if tenant.open_senders:
            bad = True
            yield attention(f"{tenant.tenant} takes images from any address.", "Give its senders networks.")
    if not bad:
        yield well(f"{sum(t.senders for t in tenants)} registered")


def audit(site: Site) -> Iterator[Finding]:
    _, tenants, _ = site.facts()
    bad = False
    for tenant in (t for t in tenants if t.state == "active" and t.unsealed_s > UNSEALED_S):
        bad = True
        yield (ill if site.queue().workers else attention)(
            f"{tenant.tenant}: rows of the audit trail wait {tenant.unsealed_s / 60:.0f} minutes for their seal.",
            "The worker seals every minute: start one, see its log.",
        )
    if not bad:
        yield well("sealed")


def redis(site: Site) -> Iterator[Finding]:
    if not site.settings.redis_url:
        if site.settings.api_processes > 1:
            yield attention("None, and several web server processes count requests apart.", "Set OVERREAD_REDIS_URL.")
        else:
            yield well("none is needed")
    elif RedisBuckets(site.settings.redis_url).answers():
        yield well("answers")
    else:
        yield ill("It does not answer; each process counts requests for itself.", "Check OVERREAD_REDIS_URL.")


def expected(error: Exception) -> Finding:
    """A check that could not be made says so in the words of the error."""
    if isinstance(error, OverreadError):
        return ill(error.message, error.remedy or f"Code {error.code}.")
    return ill(" ".join(str(error).split())[:300] or type(error).__name__, "See the log.")
