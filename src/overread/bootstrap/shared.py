"""The parts that processes share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from psycopg.conninfo import make_conninfo

from overread.bootstrap.connections import database_url, now
from overread.bootstrap.keys import ciphers
from overread.config import Settings
from overread.dicom.read import PydicomParser
from overread.domain.study import TenantId
from overread.observe.logs import configure_logging
from overread.services.assemble import AssembleService
from overread.services.audit_tally import Tally
from overread.services.object_ports import KeptObjects
from overread.services.ports import DicomParser
from overread.services.receive import ReceiveService
from overread.services.requests import RequestService
from overread.services.tenant_settings import TenantSettings, TenantSettingsService
from overread.store import roles
from overread.store.database import Postgres
from overread.store.directory import Directory, TenantGate
from overread.store.encrypted_objects import EncryptedObjects
from overread.store.objects import PieceStore, open_objects


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
