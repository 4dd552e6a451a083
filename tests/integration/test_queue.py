"""The queue: most pressing first, then the older; errors by class; nothing lost when a worker is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from overread.bootstrap import Overread
from overread.domain.errors import InferenceError, ModelOutOfMemory
from overread.domain.study import TenantId
from overread.services.retry import RetryPolicy
from overread.services.values import DeadLetter
from overread.store import roles
from overread.store.worker_queue import JobFunction, WorkerQueue, queued_ids

FAST = RetryPolicy(first_delay_s=0.1, longest_delay_s=0.1)


def _enqueue(overread: Overread, tenant: TenantId, task: str, *identifiers: str, priority: int = 0) -> None:
    with overread.database.unit(tenant) as unit:
        for identifier in identifiers:
            unit.jobs.enqueue(task, {"id": identifier}, priority=priority)


def _work(
    overread: Overread, tasks: Mapping[str, JobFunction], until: Callable[[], bool], *, concurrency: int = 1
) -> None:
    """Run a worker in this process until `until` says so (checked at each sweep)."""

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        queue = WorkerQueue(overread.login(roles.WORKER, direct=True), tasks, concurrency=concurrency, policy=FAST)

        def sweep() -> None:
            if until():
                loop.call_soon_threadsafe(stop.set)

        await asyncio.wait_for(queue.run(sweep, sweep_every_s=0.05, stop=stop), 60)

    with ThreadPoolExecutor(1) as pool:  # Playwright leaves an event loop in the main thread
        pool.submit(lambda: asyncio.run(run())).result()


def test_most_pressing_first_then_the_older(overread: Overread, tenant: TenantId) -> None:
    for identifier, priority in (("r1", 0), ("c1", 200), ("r2", 0), ("u1", 100), ("c2", 200)):
        _enqueue(overread, tenant, "order", identifier, priority=priority)
    seen: list[str] = []
    _work(overread, {"order": lambda _tenant, identifier: seen.append(identifier)}, lambda: len(seen) == 5)
    assert seen == ["c1", "c2", "u1", "r1", "r2"]


def test_a_job_vanishes_with_its_transaction(overread: Overread, tenant: TenantId) -> None:
    with pytest.raises(RuntimeError), overread.database.unit(tenant) as unit:
        unit.jobs.enqueue("never", {"id": "x"}, priority=0)
        raise RuntimeError
    assert (tenant.slug, "x") not in queued_ids(overread.login(roles.WORKER, direct=True), "never", "id")


def test_one_at_a_time_per_lock(overread: Overread, tenant: TenantId) -> None:
    with overread.database.unit(tenant) as unit:
        for n in range(4):
            unit.jobs.enqueue("locked", {"id": str(n)}, priority=0, lock="study")
    running, most, done = 0, 0, 0
    guard = threading.Lock()

    def job(_tenant: TenantId, _identifier: str) -> None:
        nonlocal running, most, done
        with guard:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with guard:
            running -= 1
            done += 1

    _work(overread, {"locked": job}, lambda: done == 4, concurrency=4)
    assert most == 1


def test_transient_errors_again_permanent_ones_to_the_dead_letters(overread: Overread, tenant: TenantId) -> None:
    _enqueue(overread, tenant, "errors", "transient", "permanent")
    tries = {"transient": 0, "permanent": 0}

    def job(_tenant: TenantId, identifier: str) -> None:
        tries[identifier] += 1
        raise ModelOutOfMemory("no room") if identifier == "transient" else InferenceError("no use")

    def letters() -> list[DeadLetter]:
        return [letter for letter in overread.directory.dead_letters(50) if letter.task == "errors"]

    def settled() -> bool:
        return {letter.ids["id"] for letter in letters()} == set(tries)

    _work(overread, {"errors": job}, settled)
    assert tries == {"transient": 3, "permanent": 1}
    assert {letter.tenant for letter in letters()} == {tenant.slug}


def test_jobs_of_a_killed_worker_run_elsewhere(overread: Overread, tenant: TenantId) -> None:
    """A real process, kill -9 in the middle of a job; its heartbeat is set back instead of waiting for it."""
    script = textwrap.dedent(
        """
        import asyncio, sys, time
        from overread.services.retry import RetryPolicy
        from overread.store.worker_queue import WorkerQueue
        def job(tenant, identifier):
            print("started", flush=True)
            time.sleep(600)
        async def main():
            queue = WorkerQueue(sys.argv[1], {"killed": job}, concurrency=1, policy=RetryPolicy())
            await queue.run(lambda: None, sweep_every_s=1.0, stop=asyncio.Event())
        asyncio.run(main())
        """
    )
    _enqueue(overread, tenant, "killed", "precious")
    conninfo = overread.login(roles.WORKER, direct=True)
    with subprocess.Popen([sys.executable, "-c", script, conninfo], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        os.kill(process.pid, signal.SIGKILL)
    with psycopg.connect(conninfo) as connection:
        connection.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    seen: list[str] = []
    _work(overread, {"killed": lambda _tenant, identifier: seen.append(identifier)}, lambda: bool(seen))
    assert seen == ["precious"]


def test_a_job_whose_end_could_not_be_written_is_queued_again(overread: Overread, tenant: TenantId) -> None:
    """As after a database restart between the work and its acknowledgement: `doing`, by a worker that lives."""
    _enqueue(overread, tenant, "orphan", "first", "second")
    conninfo = overread.login(roles.WORKER, direct=True)
    seen: list[str] = []

    def job(_tenant: TenantId, identifier: str) -> None:
        seen.append(identifier)
        if identifier == "first" and seen.count("first") == 1:
            with psycopg.connect(conninfo) as connection:  # the second job looks as if this worker had begun it
                connection.execute(
                    "UPDATE procrastinate_jobs SET status = 'doing', worker_id ="
                    " (SELECT worker_id FROM procrastinate_jobs WHERE args->>'id' = 'first' AND task_name = 'orphan')"
                    " WHERE args->>'id' = 'second' AND task_name = 'orphan'"
                )

    _work(overread, {"orphan": job}, lambda: "second" in seen)
    assert seen == ["first", "second"]
