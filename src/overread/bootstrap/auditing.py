"""What seals, forwards and renders the audit trail."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from overread import __version__
from overread.bootstrap.connections import now

if TYPE_CHECKING:
    from overread.bootstrap.shared import Overread
    from overread.config import Settings
    from overread.domain.audit import AuditEvent
    from overread.domain.study import TenantId
    from overread.exchange.syslog import TlsSyslog
    from overread.services.audit_forward import Render
    from overread.services.audit_keeper import AuditKeeper


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
