"""Wiring: the one place that knows every concrete class."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from psycopg.conninfo import make_conninfo

from overread import __version__
from overread.config import Settings
from overread.dicom.read import PydicomParser
from overread.domain.errors import SetupError
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.observe.logs import configure_logging
from overread.services.assemble import AssembleService
from overread.services.audit_tally import Tally
from overread.services.ports import Database, DicomParser, KeptObjects, KeyManagement
from overread.services.receive import ReceiveService
from overread.services.requests import RequestService
from overread.services.tenant_settings import TenantSettings, TenantSettingsService
from overread.store import keys_master, roles
from overread.store.cipher import Ciphers
from overread.store.database import Postgres
from overread.store.directory import Directory, TenantGate
from overread.store.encrypted_objects import EncryptedObjects
from overread.store.engine import EmbeddedPostgres
from overread.store.keys import DatabaseKeyRing, tenant_login
from overread.store.objects import PieceStore, open_objects

if TYPE_CHECKING:  # each process imports only what it runs: a receiver needs no web server, a web server no model
    from collections.abc import Callable

    import sqlalchemy
    from fastapi import FastAPI

    from overread.dicom.sr import HighdicomSrWriter
    from overread.domain.audit import AuditEvent
    from overread.exchange.syslog import TlsSyslog
    from overread.inference.registry import Registry
    from overread.pipeline.analysers.contract import VolumeAnalyser
    from overread.services.access import AccessService, Sealer
    from overread.services.analyse import AnalyseService
    from overread.services.audit_forward import Render
    from overread.services.audit_keeper import AuditKeeper
    from overread.services.custody import CustodyService
    from overread.services.custody_ports import CommitmentPeer
    from overread.services.degradation import Watch
    from overread.services.reconcile import ReconcileService
    from overread.services.retention import RetentionService
    from overread.services.retention_keeper import RetentionKeeper
    from overread.services.structured_report import StructuredReportService
    from overread.store.keys_admin import OwnerKeys
    from overread.store.keys_reencrypt import Reencryption

log = structlog.get_logger(__name__)

DEMO_TENANT = TenantId(slug="demo")
DEMO_AE = "OVERREAD"


def now() -> datetime:
    """The one clock: aware, UTC."""
    return datetime.now(UTC)


def embedded(settings: Settings) -> EmbeddedPostgres:
    """The embedded server of this installation (not started)."""
    return EmbeddedPostgres(settings.prepare_state(), roles.password(settings.secret(), "owner"))


def database_url(settings: Settings) -> str:
    """Connection string of the serving processes; `store.database` adds user and password."""
    return settings.database_url or embedded(settings).url


def owner_conninfo(settings: Settings) -> str:
    """Connection string of the owner, past any pooler: for commands and migrations, never for a serving process."""
    if settings.database_url:
        return settings.database_direct_url or settings.database_url
    return make_conninfo(embedded(settings).url, password=roles.password(settings.secret(), "owner"))


def master_keys(settings: Settings) -> KeyManagement:
    """What wraps the data keys of tenants."""
    path = master_key_file(settings)
    return keys_master.from_environment(settings.master_key) if path is None else keys_master.from_file(path)


def master_key_file(settings: Settings) -> Path | None:
    """Where the master key lies; None if it is in the environment."""
    return None if settings.master_key else settings.master_key_file or settings.prepare_state() / "master.key"


def owner_keys(settings: Settings, engine: sqlalchemy.Engine) -> OwnerKeys:
    """What the owner does with data keys."""
    from overread.store.keys_admin import OwnerKeys

    return OwnerKeys(engine, master_keys(settings))


def shred_keys(engine: sqlalchemy.Engine, tenant: TenantId) -> None:
    """Delete a tenant's data keys for good: no master key is needed for that."""
    from overread.store.keys_admin import OwnerKeys

    OwnerKeys(engine, None).shred(tenant)


def reencryption(settings: Settings) -> tuple[Postgres, Reencryption]:
    """What encrypts again, and its database, to close."""
    from overread.store.keys_reencrypt import Reencryption

    cipher = ciphers(settings)
    units = Postgres(database_url(settings), settings.secret(), cipher, pooled=settings.pooled)
    stored = open_objects(settings.objects_url, settings.state_dir / "objects")
    return units, Reencryption(units, EncryptedObjects(stored, cipher))


def ciphers(settings: Settings) -> Ciphers:
    """What encrypts and finds, for every tenant."""
    login = tenant_login(database_url(settings), settings.secret())
    return Ciphers(DatabaseKeyRing(login, master_keys(settings)))


def database(settings: Settings) -> Postgres:
    """Units of work; the database need not run yet."""
    return Postgres(database_url(settings), settings.secret(), ciphers(settings), pooled=settings.pooled)


@dataclass(frozen=True, kw_only=True)
class Overread:
    """The parts that processes share. Models are loaded by the worker only."""

    settings: Settings
    database: Postgres
    objects: KeptObjects
    #: Where `objects` puts what it encrypted.
    stored: PieceStore
    parser: DicomParser
    receive: ReceiveService
    assemble: AssembleService
    requests: RequestService
    directory: Directory
    gate: TenantGate
    tenant_settings: TenantSettingsService
    #: What happens again and again, counted for the audit trail.
    tally: Tally

    def close(self) -> None:
        """Write what was counted, and give connections back."""
        self.tally.close()
        self.database.close()
        self.gate.close()

    def hospital(self, tenant: TenantId) -> TenantSettings:
        """What a hospital has decided. Raises `TenantSuspended` or `TenantUnavailable` if it is not worked for."""
        self.gate.check(tenant)
        return self.tenant_settings.current(tenant)

    def idle_of(self, tenant: TenantId) -> timedelta | None:
        """How long a page's session lasts that nobody uses, where the hospital decided that."""
        minutes = self.tenant_settings.current(tenant).page_idle_minutes
        return None if minutes is None else timedelta(minutes=minutes)

    def login(self, role: str, *, direct: bool = False) -> str:
        """Connection string of a shared log-in; `direct` for LISTEN."""
        if direct and self.settings.database_direct_url:
            secret = roles.password(self.settings.secret(), role)
            return make_conninfo(self.settings.database_direct_url, user=role, password=secret)
        return self.database.login(role)


def build(settings: Settings) -> Overread:
    """Everything but models and HTTP. The database need not run yet."""
    configure_logging(settings.log_level)
    cipher = ciphers(settings)
    gate = TenantGate(roles.login(database_url(settings), settings.secret(), roles.DOOR))
    database = Postgres(database_url(settings), settings.secret(), cipher, gate=gate.check, pooled=settings.pooled)
    stored = open_objects(settings.objects_url, settings.state_dir / "objects")
    objects = EncryptedObjects(stored, cipher)
    parser = PydicomParser()
    assemble = AssembleService(database=database, clock=now, quiet_factor=settings.quiet_factor)
    tally = Tally(database, clock=now, monotonic=time.monotonic)
    return Overread(
        settings=settings,
        database=database,
        objects=objects,
        stored=stored,
        parser=parser,
        assemble=assemble,
        receive=ReceiveService(
            database=database, objects=objects, parser=parser, assemble=assemble, clock=now, tally=tally
        ),
        requests=RequestService(database=database, clock=now, concurrency=max(1, settings.concurrency)),
        directory=Directory(database.login(roles.DOOR)),
        gate=gate,
        tenant_settings=TenantSettingsService(database, now),
        tally=tally,
    )


def registry(settings: Settings) -> Registry:
    """The installed model packages."""
    from overread.inference.registry import Registry, shipped_folder

    return Registry(
        [shipped_folder(), settings.models_dir],
        threads=settings.model_threads or None,
        memory_bytes=settings.model_memory_mib * 1024 * 1024,
        timeout_s=settings.model_timeout_s,
    )


#: Entry points of installed packages: each names a class (or function) that makes a `VolumeAnalyser`.
ANALYSERS_GROUP = "overread.analysers"


def analysers() -> tuple[VolumeAnalyser, ...]:
    """What reads volumes: our own, then those of installed packages by name. Raises `SetupError` for a broken one."""
    from overread.pipeline.analysers.chest_ct.analyser import ChestCt

    found: list[VolumeAnalyser] = [ChestCt()]
    for point in sorted(entry_points(group=ANALYSERS_GROUP), key=lambda p: p.name):
        try:
            found.append(point.load()())
        except (ImportError, AttributeError, TypeError) as error:
            raise SetupError(
                f"The analyser {point.name} ({point.value}) could not be loaded: {error}",
                remedy="Repair the package that brings it, or uninstall it.",
            ) from error
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class WorkerParts:
    """What only the worker has."""

    analyse: AnalyseService
    structured_report: StructuredReportService
    reconcile: ReconcileService
    shelf: Registry
    sr_writer: HighdicomSrWriter


def build_worker(overread: Overread) -> WorkerParts:
    """Adds models and the SR writer."""
    from overread.dicom.seg import HighdicomSegWriter
    from overread.dicom.sr import HighdicomSrWriter
    from overread.dicom.stacked import DicomVolumes
    from overread.pipeline.triage import TriageTable
    from overread.services.analyse import AnalyseService
    from overread.services.reconcile import ReconcileService
    from overread.services.segmentation import SegmentationService
    from overread.services.structured_report import StructuredReportService

    database: Database = overread.database
    shelf = registry(overread.settings)
    writer = HighdicomSrWriter()
    return WorkerParts(
        shelf=shelf,
        sr_writer=writer,
        analyse=AnalyseService(
            database=database,
            objects=overread.objects,
            parser=overread.parser,
            volumes=DicomVolumes(),
            segmentation=SegmentationService(
                objects=overread.objects, writer=HighdicomSegWriter(), uid_root=overread.settings.uid_root
            ),
            shelf=shelf,
            analysers=analysers(),
            clock=now,
            table=TriageTable.from_catalogue(),
            choices=overread.tenant_settings.current,
        ),
        structured_report=StructuredReportService(
            database=database,
            objects=overread.objects,
            writer=writer,
            clock=now,
            uid_root=overread.settings.uid_root,
        ),
        reconcile=ReconcileService(database=database, clock=now),
    )


def custody(overread: Overread, peer: CommitmentPeer | None = None) -> CustodyService:
    """Storage commitment; `peer` asks (`commitment_peer`), without it answers are taken only."""
    from overread.services.custody import CustodyService

    return CustodyService(database=overread.database, clock=now, peer=peer, uid_root=overread.settings.uid_root)


def commitment_peer(settings: Settings) -> CommitmentPeer:
    """What asks PACS; over TLS with the receiver's own certificate, which the PACS knows us by."""
    from overread.dicom.commitment import CommitmentScu
    from overread.dicom.send import sender_tls

    pair, trusted = settings.dicom_tls, settings.dicom_tls_senders
    if pair is None or trusted is None:
        return CommitmentScu()
    return CommitmentScu(lambda: sender_tls(trusted, *pair))


def retention(overread: Overread) -> RetentionService:
    """What may go, and what takes it away."""
    from overread.services.retention import RetentionService

    return RetentionService(
        database=overread.database, objects=overread.objects, clock=now, choices=overread.tenant_settings.current
    )


def retention_keeper(overread: Overread) -> RetentionKeeper:
    """Both, once an hour, in the worker."""
    from overread.services.retention_keeper import RetentionKeeper

    return RetentionKeeper(
        custody=custody(overread, commitment_peer(overread.settings)),
        retention=retention(overread),
        tenants=overread.directory.tenants,
    )


def audit_sink(settings: Settings) -> TlsSyslog | None:
    """Where the audit trail is forwarded; None where no receiver is set. Raises `InvalidRequest`, `SetupError`."""
    if not settings.audit_syslog:
        return None
    from overread.exchange.syslog import TlsSyslog

    return TlsSyslog(
        settings.audit_syslog,
        ca=settings.audit_syslog_ca,
        certificate=settings.audit_syslog_certificate,
        key=settings.audit_syslog_key,
    )


def audit_render() -> Render:
    """A row as the syslog message that goes out."""
    from overread.exchange.syslog import syslog_message

    host = socket.gethostname()

    xml = audit_xml()

    def render(tenant: TenantId, event: AuditEvent, study_uid: str | None) -> bytes:
        return syslog_message(xml(tenant, event, study_uid), at=event.at, host=host, version=__version__)

    return render


def audit_xml() -> Render:
    """A row as a DICOM audit message."""
    from overread.exchange.audit_message import audit_message

    source = f"overread@{socket.gethostname()}"

    def render(tenant: TenantId, event: AuditEvent, study_uid: str | None) -> bytes:
        return audit_message(event, tenant=tenant.slug, source=source, study_uid=study_uid)

    return render


def audit_keeper(overread: Overread) -> AuditKeeper:
    """Seals and forwards the audit trail."""
    from overread.services.audit_chain import SealKey
    from overread.services.audit_forward import ForwardService
    from overread.services.audit_keeper import AuditKeeper
    from overread.services.audit_seal import SealService
    from overread.store.audit_anchors import FileAnchors
    from overread.store.audit_log import SealedLogs
    from overread.store.audit_seals import PostgresLedgers

    settings, database = overread.settings, overread.database
    sink = audit_sink(settings)
    return AuditKeeper(
        seal=SealService(
            ledgers=PostgresLedgers(database),
            anchors=FileAnchors(settings.state_dir / "audit"),
            key=SealKey(settings.secret()),
            clock=now,
        ),
        tenants=overread.directory.tenants,
        forward=ForwardService(logs=SealedLogs(database), sink=sink, render=audit_render(), clock=now)
        if sink is not None
        else None,
    )


def sealer(settings: Settings) -> Sealer:
    """Encrypts the secrets that the database keeps for us."""
    from overread.services.access import Sealer

    return Sealer(hmac.new(settings.secret(), b"overread sealed secrets 1", hashlib.sha256).digest())


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
