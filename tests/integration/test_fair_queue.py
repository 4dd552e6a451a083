"""The queue between hospitals: nobody's flood delays another's critical study, and nobody starves."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy
from procrastinate import sql as procrastinate_sql

from overread.bootstrap import Overread
from overread.config import Settings
from overread.domain.study import TenantId
from overread.services.retry import RetryPolicy
from overread.store import migrate, roles, tenant_rows
from overread.store.worker_queue import WorkerQueue
from tests.integration.conftest import make_tenant

Connection = psycopg.Connection[tuple[object, ...]]
FLOOD = 1000
ROUTINE, URGENT, CRITICAL = 0, 100, 200


@pytest.fixture
def worker(overread: Overread) -> Iterator[Connection]:
    """The worker's log-in, on a queue without jobs."""
    with psycopg.connect(overread.login(roles.WORKER, direct=True), autocommit=True) as connection:
        connection.execute("DELETE FROM procrastinate_jobs")
        yield connection
        connection.execute("DELETE FROM procrastinate_jobs")


def _enqueue(overread: Overread, tenant: TenantId, count: int, priority: int, lock: str | None = None) -> None:
    with overread.database.unit(tenant) as unit:
        for number in range(count):
            unit.jobs.enqueue("fair", {"id": str(number)}, priority=priority, lock=lock)


def _fetch(worker: Connection) -> tuple[int, str] | None:
    """(job, tenant) of the next one; it is `doing` from then on."""
    row = worker.execute("SELECT id, queue_name FROM procrastinate_fetch_job_v2(NULL, NULL)").fetchone()
    return None if row is None or row[0] is None else (int(str(row[0])), str(row[1]).removeprefix("t_"))


def _finish(worker: Connection, job: int) -> None:
    worker.execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', true)", (job,))


def _served(worker: Connection, count: int) -> list[str]:
    """The tenants of the next `count` jobs, each finished before the next is taken."""
    found = []
    for _ in range(count):
        job = _fetch(worker)
        assert job is not None
        _finish(worker, job[0])
        found.append(job[1])
    return found


def _waited(worker: Connection, tenant: TenantId, minutes: int) -> None:
    worker.execute(
        "UPDATE procrastinate_jobs SET enqueued_at = now() - make_interval(mins => %s) WHERE queue_name = %s",
        (minutes, roles.tenant_role(tenant)),
    )


def test_procrastinate_asks_our_function() -> None:
    """A newer procrastinate that asks another one would be unfair again."""
    assert "procrastinate_fetch_job_v2(" in procrastinate_sql.queries["fetch_job"]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_flood_of_critical_studies_delays_anothers_by_no_more_than_one_job_a_slot(
    overread: Overread, tenant: TenantId, other_tenant: TenantId, worker: Connection, concurrency: int
) -> None:
    _enqueue(overread, tenant, FLOOD, CRITICAL)
    started: list[TenantId] = []
    guard = threading.Lock()
    seen_at_enqueue: list[int] = []

    def job(whose: TenantId, _identifier: str) -> None:
        with guard:
            started.append(whose)
        time.sleep(0.02)

    def asks() -> None:
        while len(started) < 20:
            time.sleep(0.005)
        _enqueue(overread, other_tenant, 1, CRITICAL)
        seen_at_enqueue.append(len(started))

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        queue = WorkerQueue(
            overread.login(roles.WORKER, direct=True), {"fair": job}, concurrency=concurrency, policy=RetryPolicy()
        )

        def sweep() -> None:
            if other_tenant in started:
                loop.call_soon_threadsafe(stop.set)

        await asyncio.wait_for(queue.run(sweep, sweep_every_s=0.05, stop=stop), 60)

    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(asks)
        pool.submit(lambda: asyncio.run(run())).result()
        asking.result()
    between = started[seen_at_enqueue[0] : started.index(other_tenant)]
    assert set(between) <= {tenant}
    assert len(between) <= concurrency
    left = worker.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'").fetchone()
    assert left is not None
    assert int(str(left[0])) > FLOOD / 2  # the flood was still there


def test_within_a_class_the_one_served_longest_ago(
    overread: Overread, settings: Settings, tenant: TenantId, other_tenant: TenantId, worker: Connection
) -> None:
    third = make_tenant(settings)
    _enqueue(overread, tenant, 6, URGENT)
    _enqueue(overread, other_tenant, 3, URGENT)
    _enqueue(overread, third, 3, URGENT)
    served = _served(worker, 9)
    for turn in range(0, 9, 3):
        assert set(served[turn : turn + 3]) == {tenant.slug, other_tenant.slug, third.slug}
    assert _served(worker, 3) == [tenant.slug] * 3
    assert _fetch(worker) is None


def test_the_one_with_fewest_running_jobs_first(
    overread: Overread, tenant: TenantId, other_tenant: TenantId, worker: Connection
) -> None:
    _enqueue(overread, tenant, 10, CRITICAL)
    running = [_fetch(worker) for _ in range(3)]
    assert {job[1] for job in running if job} == {tenant.slug}
    _enqueue(overread, other_tenant, 3, CRITICAL)
    following = [_fetch(worker) for _ in range(3)]  # none is finished
    assert [job[1] for job in following if job] == [other_tenant.slug] * 3


def test_a_higher_class_first_whoever_was_served(
    overread: Overread, tenant: TenantId, other_tenant: TenantId, worker: Connection
) -> None:
    _enqueue(overread, tenant, 20, CRITICAL)
    _enqueue(overread, other_tenant, 1, ROUTINE)
    assert _served(worker, 20) == [tenant.slug] * 20  # it has not waited long
    assert _served(worker, 1) == [other_tenant.slug]


def test_what_has_waited_long_gets_every_eighth_turn(
    overread: Overread, tenant: TenantId, other_tenant: TenantId, worker: Connection
) -> None:
    _enqueue(overread, tenant, 40, CRITICAL)
    _enqueue(overread, other_tenant, 3, ROUTINE)
    _waited(worker, other_tenant, 6)
    served = _served(worker, 24)
    assert Counter(served) == {tenant.slug: 21, other_tenant.slug: 3}
    places = [n for n, whose in enumerate(served) if whose == other_tenant.slug]
    assert [b - a for a, b in itertools.pairwise(places)] == [8, 8]


def test_jobs_of_a_suspended_tenant_wait(
    overread: Overread,
    settings: Settings,
    tenant: TenantId,
    other_tenant: TenantId,
    worker: Connection,
    owner_engine: sqlalchemy.Engine,
) -> None:
    _enqueue(overread, tenant, 2, CRITICAL)
    _enqueue(overread, other_tenant, 1, ROUTINE)
    tenant_rows.suspend(owner_engine, tenant)
    assert _served(worker, 1) == [other_tenant.slug]
    assert _fetch(worker) is None
    tenant_rows.resume(owner_engine, tenant)
    assert _served(worker, 2) == [tenant.slug] * 2
    with owner_engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE overread.tenants SET out_of_service = 'test' WHERE slug = %s", (tenant.slug,)
        )
    _enqueue(overread, other_tenant, 1, ROUTINE)
    assert _served(worker, 1) == [other_tenant.slug]
    assert migrate.migrate_tenants(owner_engine, settings.secret(), [tenant]) == ()


def test_locks_as_procrastinate_has_them(overread: Overread, tenant: TenantId, worker: Connection) -> None:
    with overread.database.unit(tenant) as unit:
        for name, priority in (("low", ROUTINE), ("high", URGENT), ("low again", ROUTINE)):
            unit.jobs.enqueue("fair", {"id": name}, priority=priority, lock="study")
        unit.jobs.enqueue("fair", {"id": "later"}, priority=CRITICAL, lock="other", delay_s=3600)
        unit.jobs.enqueue("fair", {"id": "free"}, priority=ROUTINE)

    def take() -> tuple[int, str]:
        job = _fetch(worker)
        assert job is not None
        row = worker.execute("SELECT args->>'id' FROM procrastinate_jobs WHERE id = %s", (job[0],)).fetchone()
        assert row is not None
        return job[0], str(row[0])

    first, name = take()
    assert name == "high"
    free, name = take()
    assert name == "free"  # while "high" runs, nothing of its lock does
    assert _fetch(worker) is None
    _finish(worker, free)
    _finish(worker, first)
    for wanted in ("low", "low again"):
        job, name = take()
        assert name == wanted
        assert _fetch(worker) is None
        _finish(worker, job)


def test_fetching_does_not_slow_down_with_what_waits(
    overread: Overread, tenant: TenantId, other_tenant: TenantId, worker: Connection
) -> None:
    """Pages that a fetch touches: time on a shared machine says little (`benchmarks/walls.py` measures it)."""

    def pages() -> int:
        worker.execute("SET search_path = jobs")
        plan = worker.execute(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"
        ).fetchone()
        assert plan is not None
        top = plan[0][0]["Plan"]  # type: ignore[index]
        return int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"])

    def fill(count: int) -> None:
        worker.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, args)"
            " SELECT %s, 'fair', 200, %s || n, '{}' FROM generate_series(1, %s) n",
            (roles.tenant_role(tenant), f"{count}:", count),
        )

    fill(5)  # of one tenant: the others' queues are empty
    few = min(pages() for _ in range(10))  # plans are made, and kept by this session, while there is little
    fill(100_000)
    many = min(pages() for _ in range(3))
    assert many <= 1.5 * few + 700  # not 100,000: an index is deeper, and a dead entry or two is passed
    _enqueue(overread, other_tenant, 5, ROUTINE)  # behind all of them
    assert min(pages() for _ in range(3)) <= 1.5 * few + 700
