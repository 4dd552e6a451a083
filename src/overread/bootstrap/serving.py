"""The HTTP application, log-in, and what watches the parts of an installation."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from overread import __version__
from overread.bootstrap.connections import DEMO_AE, DEMO_TENANT, now
from overread.bootstrap.keys import sealer
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.store import roles

if TYPE_CHECKING:  # each process imports only what it runs: a receiver needs no web server
    from collections.abc import Callable
    from pathlib import Path

    from fastapi import FastAPI

    from overread.bootstrap.shared import Overread
    from overread.config import Settings
    from overread.services.access import AccessService
    from overread.services.degradation import Watch
    from overread.store.objects import PieceStore

log = structlog.get_logger(__name__)


def access(overread: Overread) -> AccessService:
    """Log-in, sessions, accounts."""
    from overread.exchange.fetch import ProviderFetch
    from overread.services.access import AccessService, KeyRing
    from overread.store.token_keys import TokenKeys

    settings = overread.settings
    secret = settings.secret()
    return AccessService(
        overread.database,
        ring=KeyRing(TokenKeys(overread.login(roles.DOOR), secret)),
        sealer=sealer(settings),
        clock=now,
        web=ProviderFetch(),
        lifetime=timedelta(seconds=settings.token_seconds),
        idle=timedelta(minutes=settings.idle_minutes),
        idle_of=overread.idle_of,
        tenant_exists=overread.gate.known,
    )


def build_app(overread: Overread) -> FastAPI:
    """The HTTP application: API and pages."""
    from overread import api, web
    from overread.dicom.deidentify.copier import Copier
    from overread.http.app import create_app
    from overread.http.wiring import HttpSettings, Services
    from overread.services.audit_search import AuditSearchService
    from overread.services.export import StudyExport
    from overread.services.features import FeatureService
    from overread.services.optout import OptOutService
    from overread.services.patient_report import PatientReportService
    from overread.store.buckets import RedisBuckets
    from overread.store.events import PostgresEvents

    settings = overread.settings
    redis = RedisBuckets(settings.redis_url) if settings.redis_url else None
    services = Services(
        db=overread.database,
        objects=overread.objects,
        parser=overread.parser,
        receive=overread.receive,
        requests=overread.requests,
        access=access(overread),
        features=FeatureService(database=overread.database, clock=now, cache=overread.assemble.features),
        opt_outs=OptOutService(database=overread.database, clock=now),
        exports=StudyExport(database=overread.database, objects=overread.objects),
        copier=lambda members, write: Copier()(members, write),
        patient_reports=PatientReportService(database=overread.database, clock=now),
        events=PostgresEvents(overread.login(roles.DOOR, direct=True)),
        settings=HttpSettings(
            version=__version__,
            default_tenant=DEMO_TENANT.slug,
            dicom_ae_title=DEMO_AE,
            dicom_host=settings.dicom_host,
            dicom_port=settings.dicom_port,
            cookie_secure=settings.behind_tls,
            public_url=settings.public_url,
            max_upload_bytes=settings.upload_limit_mib * 1024 * 1024,
            spool_dir=_spool(settings),
        ),
        clock=now,
        started_at=now(),
        dead_letters=overread.directory.dead_letters,
        watch=watch(overread, redis.answers if redis is not None else None),
        hospital=overread.hospital,
        hospital_known=lambda t: overread.gate.fresh(t) and overread.tenant_settings.known(t),
        buckets=redis,
        tally=overread.tally,
        audit_search=AuditSearchService(database=overread.database),
    )
    if services.buckets is None and settings.api_processes > 1:
        log.warning("each web server process counts requests for itself: set OVERREAD_REDIS_URL to count together")
    app = create_app(services, routers=[*api.ROUTERS, *web.ROUTERS], error_page=web.error_page)
    app.mount("/static", web.STATIC)
    return app


def watch(overread: Overread, redis: Callable[[], bool] | None = None) -> Watch:
    """What works and what does not."""
    from overread.services.degradation import DISK, OBJECTS, REDIS, Watch
    from overread.store.health import QueueProbe

    settings, stored = overread.settings, overread.stored
    probes: dict[str, Callable[[], bool]] = {
        OBJECTS: lambda: works(stored),
        DISK: lambda: shutil.disk_usage(settings.state_dir).free >= settings.low_disk_gib * 1024**3,
    }
    if redis is not None:
        probes[REDIS] = redis
    return Watch(queue=QueueProbe(overread.login(roles.DOOR)), probes=probes, overload_jobs=settings.overload_jobs)


def works(stored: PieceStore) -> bool:
    """Whether an object can be written, read and deleted. Raises `StorageFull`, `StoreUnavailable`."""
    tenant, key, content = TenantId(slug="doctor"), f"probe/{uuid7()}", b"overread probe"
    stored.put_pieces(tenant, key, lambda: (content,))
    try:
        with stored.reader(tenant, key) as stream:
            return stream.read(100) == content
    finally:
        stored.delete(tenant, key)


def _spool(settings: Settings) -> Path:
    folder = settings.state_dir / "spool"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
