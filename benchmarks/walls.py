"""What the hospital's walls cost, and whether a million analyses slow anybody down.

`python -m benchmarks.walls [--analyses 1000000 --tenants 50 --jobs 100000 --report docs/reference/walls.md]`

1. A unit of work with the tenant's own log-in and pool, beside one shared pool that sets the schema each time.
2. The API over real HTTP at 50 requests a second, sent when they are due whether or not the one before was answered:
   list, filters, one analysis; in a hospital with 10,000 analyses, in one with `--analyses`, and over all hospitals.
3. The queue: taking a job while 1,000 and `--jobs` others wait, from two hospitals.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg_pool import ConnectionPool

from benchmarks import walls_data
from benchmarks.installation import installation
from overread import bootstrap
from overread.config import Settings
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.services.access import hash_password
from overread.services.values import UserRow
from overread.store import migrate, roles

SMALL = 10_000
_PARTS = 5
ELSEWHERE = 2_000
PASSWORD = "correct horse battery staple"
TARGET_P95_MS = 25.0
TARGET_RATIO = 1.5


@dataclass(kw_only=True)
class Hospital:
    """One that is asked."""

    tenant: TenantId
    count: int
    ids: Sequence[UUID] = ()
    token: str = ""


@dataclass(kw_only=True)
class Times:
    """Milliseconds, by what was asked."""

    by_kind: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: int = 0

    def add(self, more: Times) -> None:
        """Those of another run."""
        for kind, found in more.by_kind.items():
            self.by_kind[kind] += found
        self.wrong += more.wrong

    @property
    def all(self) -> list[float]:
        return [t for times in self.by_kind.values() for t in times]


def percentile(times: Sequence[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# --- 1. pools -------------------------------------------------------------------------------------------------------


def pools(settings: Settings, hospitals: Sequence[Hospital], rounds: int) -> list[tuple[str, float, float]]:
    """(what, median, 95th percentile) of one unit of work, ms: the tenants in turn, as requests of all of them come."""
    overread = bootstrap.build(settings.model_copy(update={"log_level": "CRITICAL"}))
    some = [h.tenant for h in hospitals]
    few = some[: min(len(some), 20)]
    shared = ConnectionPool(walls_data.owner_login(settings), min_size=1, max_size=6, open=True)
    query = b"SELECT id FROM studies WHERE study_instance_uid = '1.2.3'"

    def own(tenant: TenantId) -> None:
        with overread.database.unit(tenant) as unit:
            unit.connection.execute(query)

    def one_for_all(tenant: TenantId) -> None:
        with shared.connection() as connection, connection.transaction():
            connection.execute(f"SET LOCAL search_path = {roles.tenant_role(tenant)}".encode())
            connection.execute(query)

    def fresh(tenant: TenantId) -> None:
        psycopg.connect(overread.login(roles.tenant_role(tenant))).close()

    try:
        found = []
        for name, work, whom in (
            ("one shared pool, schema set in each transaction", one_for_all, few),
            (f"own log-in and pool, {len(few)} hospitals in turn", own, few),
            (f"own log-in and pool, {len(some)} hospitals in turn", own, some),
            ("a new connection (when a pool grows)", fresh, few),
        ):
            for tenant in whom:
                work(tenant)
            times = [_timed(work, whom[n % len(whom)]) for n in range(max(rounds, 2 * len(whom)))]
            found.append((name, statistics.median(times), percentile(times, 0.95)))
        return found
    finally:
        shared.close()
        overread.close()


def _timed(work: Callable[[TenantId], None], tenant: TenantId) -> float:
    began = time.perf_counter()
    work(tenant)
    return (time.perf_counter() - began) * 1000


# --- 2. the API -----------------------------------------------------------------------------------------------------


def _requests(rng: random.Random, hospital: Hospital) -> tuple[str, str, str, dict[str, object] | None]:
    """(kind, method, path, body): as a RIS and people at their pages ask."""
    base = "/api/image-analysis"
    kind = rng.choices(("get", "list", "status", "priority", "modality", "dates", "patient"), (40, 20, 10, 8, 8, 7, 7))[
        0
    ]
    if kind == "get":
        return kind, "GET", f"{base}/{rng.choice(list(hospital.ids))}", None
    if kind == "list":
        return kind, "GET", f"{base}?page={rng.randint(1, 5)}", None
    if kind == "status":
        return kind, "GET", f"{base}?status={rng.choice(('failed', 'completed', 'pending'))}", None
    if kind == "priority":
        return kind, "GET", f"{base}?priority={rng.choice(('critical', 'urgent'))}", None
    if kind == "modality":
        return kind, "GET", f"{base}?modality={rng.choice(('CT', 'MRI', 'X-ray'))}", None
    if kind == "dates":
        return kind, "GET", f"{base}?dateFrom=2026-0{rng.randint(1, 8)}-01&dateTo=2026-0{rng.randint(8, 9)}-28", None
    return kind, "POST", f"{base}/search", {"patientId": f"P-{rng.randrange(hospital.count // 3)}"}


def drive(settings: Settings, hospitals: Sequence[Hospital], *, rate: float, seconds: float, seed: int) -> Times:
    """Open loop: each request has its moment; its time counts from there."""
    rng, times, lock, local = random.Random(seed), Times(), threading.Lock(), threading.local()
    plan = [
        (n / rate, h, *_requests(rng, h)) for n in range(int(rate * seconds)) for h in [rng.choice(list(hospitals))]
    ]
    start = time.perf_counter() + 0.2

    def send(
        moment: float, hospital: Hospital, kind: str, method: str, path: str, body: dict[str, object] | None
    ) -> None:
        due = start + moment
        time.sleep(max(0.0, due - time.perf_counter()))
        if getattr(local, "connection", None) is None:
            local.connection = http.client.HTTPConnection("127.0.0.1", settings.http_port, timeout=30)
        headers = {"Authorization": f"Bearer {hospital.token}", "Content-Type": "application/json"}
        local.connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = local.connection.getresponse()
        answer.read()
        took = (time.perf_counter() - due) * 1000
        with lock:
            times.by_kind[kind].append(took)
            times.wrong += answer.status != 200

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(send, *item) for item in plan]:
            future.result()
    return times


# --- 3. the queue ---------------------------------------------------------------------------------------------------


def queue(settings: Settings, hospitals: Sequence[Hospital], jobs: int) -> list[tuple[int, float, float]]:
    """(jobs that wait, median, 95th percentile) of taking one, ms."""
    overread = bootstrap.build(settings.model_copy(update={"log_level": "CRITICAL"}))
    found = []
    with psycopg.connect(overread.login(roles.WORKER), autocommit=True) as worker:
        for waiting in (1_000, jobs):
            worker.execute("DELETE FROM procrastinate_jobs")
            for hospital, share in ((hospitals[0], 0.99), (hospitals[1], 0.01)):
                worker.execute(
                    "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, args)"
                    " SELECT %s, 'bench', 200, %s || n, '{}' FROM generate_series(1, %s) n",
                    (roles.tenant_role(hospital.tenant), f"{hospital.tenant}:", int(waiting * share)),
                )

            times = []
            for _ in range(300):
                began = time.perf_counter()
                row = worker.execute("SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)").fetchone()
                times.append((time.perf_counter() - began) * 1000)
                worker.execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', true)", row)
            found.append((waiting, statistics.median(times), percentile(times, 0.95)))
        worker.execute("DELETE FROM procrastinate_jobs")
    overread.close()
    return found


# --- all together ---------------------------------------------------------------------------------------------------


def prepare(settings: Settings, analyses: int, count: int) -> list[Hospital]:
    """The small one, the large one, and `count` - 2 others."""
    hospitals = [
        Hospital(tenant=TenantId(slug="small"), count=SMALL),
        Hospital(tenant=TenantId(slug="large"), count=analyses),
    ]
    hospitals += [Hospital(tenant=TenantId(slug=f"other_{n}"), count=ELSEWHERE) for n in range(count - 2)]
    engine = migrate.owner_engine(walls_data.owner_login(settings))
    began = time.monotonic()
    for hospital in hospitals:
        migrate.create_tenant(engine, settings.secret(), hospital.tenant, "Benchmark")
    print(f"{count} hospitals made in {time.monotonic() - began:.1f} s", flush=True)
    began = time.monotonic()
    migrate.ensure(engine, settings.secret())
    print(f"and found up to date in {time.monotonic() - began:.1f} s", flush=True)
    engine.dispose()
    values, password = bootstrap.ciphers(settings), hash_password(PASSWORD)
    database = bootstrap.database(settings)
    began = time.monotonic()
    for number, hospital in enumerate(hospitals):
        hospital.ids = walls_data.fill(
            walls_data.owner_login(settings),
            values.values(hospital.tenant),
            hospital.tenant,
            hospital.count,
            seed=number,
        )
        with database.unit(hospital.tenant) as unit:
            unit.users.add(
                UserRow(
                    id=uuid7(),
                    tenant=hospital.tenant,
                    name="bench",
                    display_name="Benchmark",
                    role="radiologist",
                    password_hash=password,
                    disabled=False,
                )
            )
    database.close()
    print(f"{sum(h.count for h in hospitals)} analyses put in within {time.monotonic() - began:.0f} s", flush=True)
    return hospitals


def log_in(settings: Settings, hospital: Hospital) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", settings.http_port, timeout=30)
    body = {"tenant": hospital.tenant.slug, "username": "bench", "password": PASSWORD}
    connection.request("POST", "/api/auth/login", json.dumps(body), {"Content-Type": "application/json"})
    return str(json.loads(connection.getresponse().read())["token"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--analyses", type=int, default=1_000_000)
    parser.add_argument("--tenants", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    with installation(log_level="WARNING") as (settings, supervisor):
        os.kill(supervisor.pids()["worker-1"], signal.SIGSTOP)  # it would take up what we say is pending
        hospitals = prepare(settings, options.analyses, max(2, options.tenants))
        for hospital in hospitals:
            hospital.token = log_in(settings, hospital)
        small, large = hospitals[:2]
        scenes = [("10,000 in one hospital", [small]), (f"{options.analyses:,} in one hospital", [large])]
        scenes.append((f"all {len(hospitals)} hospitals", hospitals))
        for _, whom in scenes:  # plans and caches
            drive(settings, whom, rate=options.rate, seconds=min(5.0, options.seconds), seed=1)
        times = {name: Times() for name, _ in scenes}
        for part in range(_PARTS):  # in turn, so that what else the machine does meets all of them
            for name, whom in scenes:
                share = options.seconds / _PARTS
                times[name].add(drive(settings, whom, rate=options.rate, seconds=share, seed=2 + part))
        pool_times = pools(settings, hospitals, 2000)
        queue_times = queue(settings, hospitals, options.jobs)
        os.kill(supervisor.pids()["worker-1"], signal.SIGCONT)
    lines = report(options.rate, times, pool_times, queue_times)
    print("\n".join(lines))
    if options.report:
        options.report.write_text("\n".join(lines) + "\n")
    return 0 if good(times) else 1


def good(times: dict[str, Times]) -> bool:
    """Whether the claims hold: 95th percentile, growth, and every answer right."""
    p95 = [percentile(t.all, 0.95) for t in times.values()]
    return max(p95) <= TARGET_P95_MS and p95[1] <= TARGET_RATIO * p95[0] and not any(t.wrong for t in times.values())


def report(
    rate: float,
    times: dict[str, Times],
    pool_times: list[tuple[str, float, float]],
    queue_times: list[tuple[int, float, float]],
) -> list[str]:
    """Markdown."""
    names = list(times)
    p95 = [percentile(t.all, 0.95) for t in times.values()]
    lines = ["# What the walls cost", "", f"`python -m benchmarks.walls`; the API at {rate:.0f} requests/s, ms.", ""]
    lines += [
        "| | " + " | ".join(f"{n}: median" + " | 95%" for n in names) + " |",
        "| --- |" + " --- |" * 2 * len(names),
    ]
    kinds = sorted({k for t in times.values() for k in t.by_kind})
    for kind in [*kinds, "all"]:
        cells = []
        for t in times.values():
            found = t.all if kind == "all" else t.by_kind[kind]
            cells += [f"{statistics.median(found):.1f}", f"{percentile(found, 0.95):.1f}"]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    lines += ["", f"Growth of the 95th percentile from {names[0]} to {names[1]}: {p95[1] / p95[0]:.2f} times"]
    lines += [f"(claim: at most {TARGET_RATIO}); claim for the 95th percentile: {TARGET_P95_MS:.0f} ms.", ""]
    lines += [f"Answers other than 200: {sum(t.wrong for t in times.values())}.", "", "## A unit of work", ""]
    lines += ["| | median ms | 95% ms |", "| --- | --- | --- |"]
    lines += [f"| {name} | {median:.2f} | {high:.2f} |" for name, median, high in pool_times]
    lines += [
        "",
        "## Taking a job from the queue",
        "",
        "| jobs that wait | median ms | 95% ms |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {waiting:,} | {median:.2f} | {high:.2f} |" for waiting, median, high in queue_times]
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
