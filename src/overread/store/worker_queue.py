"""The worker's side of the queue: procrastinate's worker with our retry rule, and the sweep that it lacks.

Which job is next is decided by our own version of procrastinate's SQL function (`migrations/shared/0003_tenants.py`):
fair between tenants, and no job of a tenant that is suspended or out of service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import procrastinate
import psycopg
import structlog
from procrastinate import jobs as procrastinate_jobs
from procrastinate.manager import JobManager, NotificationCallback
from procrastinate.retry import BaseRetryStrategy, RetryDecision

from overread.domain.errors import OverreadError, StoreUnavailable, TenantSuspended, TenantUnavailable
from overread.domain.study import TenantId
from overread.services.retry import RetryPolicy

log = structlog.get_logger(__name__)

HEARTBEAT_S = 2.0
#: A worker that was silent for so long is dead, and its jobs run elsewhere. Running twice is harmless (claims).
STALLED_S = 10.0

#: What a job does, given its tenant and the id it carries.
JobFunction = Callable[[TenantId, str], None]


class _ByErrorClass(BaseRetryStrategy):
    """Transient errors again after a delay, anything else at once to the dead letters."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy

    def get_retry_decision(self, *, exception: BaseException, job: procrastinate_jobs.Job) -> RetryDecision | None:
        if isinstance(exception, TenantSuspended | TenantUnavailable):
            # Its jobs are not handed out until it is back; this one was under way.
            return RetryDecision(retry_in={"seconds": 1})
        if not isinstance(exception, OverreadError):
            return None
        delay = self._policy.delay_after(exception, job.attempts + 1)
        return None if delay is None else RetryDecision(retry_in={"seconds": max(1, round(delay))})


class _Doorbell(JobManager):
    """Hears of new jobs on the secret channel. What is said there is not read: it only wakes the worker.

    On procrastinate's own channels any log-in could speak, and one word that is no JSON would end the worker.
    """

    async def listen_for_jobs(
        self,
        *,
        on_notification: NotificationCallback,
        queues: Iterable[str] | None = None,  # noqa: ARG002
    ) -> None:
        """Of all queues, whatever `queues` says."""
        row = await self.connector.execute_query_one_async("SELECT name FROM overread.channels WHERE purpose = 'jobs'")

        async def ring(channel: str, payload: str) -> None:  # noqa: ARG001
            await on_notification(channel=channel, notification={"type": "job_inserted", "job_id": 0})

        await self.connector.listen_notify(on_notification=ring, channels=[row["name"]])


class WorkerQueue:
    """Runs jobs of all tenants, most pressing first."""

    def __init__(
        self, conninfo: str, tasks: Mapping[str, JobFunction], *, concurrency: int, policy: RetryPolicy
    ) -> None:
        """`conninfo` with the worker's log-in, direct (not through a pooler in transaction mode)."""
        self._app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=conninfo, min_size=1, max_size=4)
        )
        self._app.job_manager = _Doorbell(self._app.connector)
        self._concurrency = concurrency
        self._running: set[int] = set()
        self._suspects: set[int] = set()
        self._worker_id: int | None = None
        for name, function in tasks.items():
            self._register(name, function, policy)

    def _register(self, name: str, function: JobFunction, policy: RetryPolicy) -> None:
        def run(context: procrastinate.JobContext, /, tenant: str, **ids: str) -> None:
            job = context.job
            self._worker_id = job.worker_id
            if job.id is not None:
                self._running.add(job.id)
            try:
                (identifier,) = ids.values()
                function(TenantId(slug=tenant), identifier)
            finally:
                if job.id is not None:
                    self._running.discard(job.id)

        self._app.task(name=name, pass_context=True, retry=_ByErrorClass(policy))(run)

    async def run(self, sweep: Callable[[], None], *, sweep_every_s: float, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then finish the running jobs. Raises if the database stays away."""
        async with self._app.open_async():
            worker = asyncio.create_task(
                self._app.run_worker_async(
                    concurrency=self._concurrency,
                    install_signal_handlers=False,
                    delete_jobs="successful",
                    fetch_job_polling_interval=2.0,
                    update_heartbeat_interval=HEARTBEAT_S,
                    stalled_worker_timeout=STALLED_S,
                ),
                name="procrastinate worker",
            )
            sweeper = asyncio.create_task(self._sweep_forever(sweep, sweep_every_s), name="sweep")
            stopper = asyncio.create_task(stop.wait(), name="stop")
            done, _ = await asyncio.wait({worker, sweeper, stopper}, return_when=asyncio.FIRST_COMPLETED)
            sweeper.cancel()
            stopper.cancel()
            worker.cancel()
            results = await asyncio.gather(worker, sweeper, stopper, return_exceptions=True)
            if stopper not in done:
                for result in results:
                    if isinstance(result, Exception):
                        raise result

    async def _sweep_forever(self, sweep: Callable[[], None], every_s: float) -> None:
        while True:
            await self._retry_stalled()
            await asyncio.to_thread(sweep)
            await asyncio.sleep(every_s)

    async def _retry_stalled(self) -> None:
        """Put jobs of dead workers back, and those of ours whose end could not be written down."""
        manager = self._app.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
            log.warning("job of a dead worker is queued again", job=job.id, task=job.task_name)
            await manager.retry_job(job)
        if self._worker_id is None:
            return
        ours = await manager.list_jobs_async(status="doing", worker_id=self._worker_id)
        orphans = {job.id: job for job in ours if job.id is not None and job.id not in self._running}
        for job_id, job in orphans.items():
            if job_id in self._suspects:
                log.warning("job without an end is queued again", job=job_id, task=job.task_name)
                await manager.retry_job(job)
        self._suspects = set(orphans)


def tenants_to_assemble(conninfo: str) -> tuple[TenantId, ...]:
    """Served tenants with images that no revision covers yet. Raises `StoreUnavailable`."""
    return tuple(TenantId(slug=row[0]) for row in _ask(conninfo, "SELECT * FROM overread.tenants_to_assemble()", ()))


def queued_ids(conninfo: str, task: str, argument: str) -> set[tuple[str, str]]:
    """(tenant, id) of every waiting or running job of a task: what the sweep compares the analyses with."""
    rows = _ask(
        conninfo,
        "SELECT args->>'tenant', args->>%s FROM procrastinate_jobs"
        " WHERE task_name = %s AND status IN ('todo', 'doing')",
        (argument, task),
    )
    return {(row[0], row[1]) for row in rows}


def _ask(conninfo: str, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    try:
        with psycopg.connect(conninfo, connect_timeout=5) as connection:
            return connection.execute(query.encode(), values).fetchall()
    except psycopg.OperationalError as error:
        raise StoreUnavailable("The database cannot be reached just now.", remedy="Try again shortly.") from error
