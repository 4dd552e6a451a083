"""The worker process: runs jobs, closes revisions, puts stalled jobs back. `overread worker`."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from uuid import UUID

import structlog

from overread import bootstrap
from overread.config import Settings
from overread.dicom.decoder import pool as decoders
from overread.domain.errors import OverreadError, StoreUnavailable
from overread.domain.study import TenantId
from overread.services.assemble import ANALYSE_TASK, SR_TASK
from overread.services.retry import RetryPolicy
from overread.store import roles
from overread.store.worker_queue import JobFunction, WorkerQueue, queued_ids, tenants_to_assemble

log = structlog.get_logger(__name__)

_SWEEP_S = 1.0
_RECONCILE_S = 30.0


def run(settings: Settings, *, ready: Callable[[], None] = lambda: None) -> None:
    """Work until SIGTERM or SIGINT; running jobs are finished first. Raises if the database stays away."""
    overread = bootstrap.build(settings)
    parts = bootstrap.build_worker(overread)
    _warm_up(parts)
    try:
        asyncio.run(_run(overread, parts, ready))
    finally:
        parts.shelf.close()
        overread.close()


def _warm_up(parts: bootstrap.WorkerParts) -> None:
    """Load weights and tables before the first study waits for them; a model that fails is left to its study."""
    decoders.warm()
    parts.sr_writer.warm_up()
    for refused in parts.shelf.refused:
        log.warning("model package refused", path=str(refused.path), reason=refused.reason)
    for card in parts.shelf.cards():
        model = parts.shelf.find(card.task)
        if model is None:
            continue
        try:
            model.warm_up()
        except OverreadError as error:
            log.error("model does not run", model=str(model.identity), code=error.code, reason=str(error))
        else:
            log.info("model ready", model=str(model.identity))


async def _run(overread: bootstrap.Overread, parts: bootstrap.WorkerParts, ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    conninfo = overread.login(roles.WORKER, direct=True)
    queue = WorkerQueue(
        conninfo,
        {ANALYSE_TASK: _analyse(parts), SR_TASK: _structured_report(parts)},
        concurrency=overread.settings.concurrency,
        policy=RetryPolicy(),
    )
    keeper = bootstrap.audit_keeper(overread)
    ready()
    with keeper.running(), bootstrap.retention_keeper(overread).running():
        await queue.run(_sweep(overread, parts, conninfo), sweep_every_s=_SWEEP_S, stop=stop)


def _analyse(parts: bootstrap.WorkerParts) -> JobFunction:
    def job(tenant: TenantId, identifier: str) -> None:
        analysis = UUID(identifier)
        try:
            parts.analyse.run(tenant, analysis)
        except OverreadError:
            raise
        except Exception as error:  # the outermost loop: a fault must end this study, not hang it
            log.exception("analysis crashed", tenant=tenant.slug, analysis=identifier)
            message = f"A fault in Overread stopped this analysis ({type(error).__name__}); it was logged."
            parts.analyse.give_up(tenant, analysis, "INTERNAL_ERROR", message)

    return job


def _structured_report(parts: bootstrap.WorkerParts) -> JobFunction:
    def job(tenant: TenantId, identifier: str) -> None:
        parts.structured_report.run(tenant, UUID(identifier))

    return job


def _sweep(overread: bootstrap.Overread, parts: bootstrap.WorkerParts, conninfo: str) -> Callable[[], None]:
    """Assembly every second, the comparison with the queue every half minute; a lost database waits for the next."""
    last_reconcile = time.monotonic()

    def sweep() -> None:
        nonlocal last_reconcile
        try:
            for tenant in tenants_to_assemble(conninfo):
                _one(tenant, lambda t: overread.assemble.sweep(t))
            if time.monotonic() - last_reconcile >= _RECONCILE_S:
                last_reconcile = time.monotonic()
                queued = queued_ids(conninfo, ANALYSE_TASK, "analysis")
                for tenant in overread.directory.tenants():
                    _one(tenant, lambda t: parts.reconcile.run(t, queued))
        except StoreUnavailable as error:
            log.warning("sweep postponed", code=error.code)

    return sweep


def _one(tenant: TenantId, work: Callable[[TenantId], object]) -> None:
    """One hospital that cannot be worked for must not keep the others waiting."""
    try:
        work(tenant)
    except OverreadError as error:
        log.warning("sweep postponed", tenant=tenant.slug, code=error.code)
