"""What the routes need, filled by `bootstrap`. Nothing here knows how it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from overread.domain.analysis import AnalysisStatus
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.study import Sender, TenantId
from overread.services.access import AccessService
from overread.services.audit_search import AuditSearchService
from overread.services.audit_tally import Tally
from overread.services.degradation import Watch
from overread.services.export import Copier, StudyExport
from overread.services.features import FeatureService
from overread.services.identity_ports import SharedBuckets
from overread.services.object_ports import ObjectStore
from overread.services.optout import OptOutService
from overread.services.patient_report import PatientReportService
from overread.services.ports import Clock, Database, DicomParser, EventSource
from overread.services.tenant_settings import TenantSettings
from overread.services.values import DeadLetter, Filed

if TYPE_CHECKING:
    from fastapi import Request

GIB = 1024**3


class ReceivesInstances(Protocol):
    """`services.receive.ReceiveService`."""

    def receive(self, tenant: TenantId, data: bytes | memoryview, sender: Sender, *, name: str) -> Filed: ...


class RequestedAnalysis(Protocol):
    """An analysis that was asked for."""

    @property
    def analysis_id(self) -> UUID: ...

    @property
    def status(self) -> AnalysisStatus: ...

    @property
    def estimated_seconds(self) -> float: ...


class HandlesRequests(Protocol):
    """`services.requests.RequestService`."""

    def create(
        self,
        tenant: TenantId,
        *,
        study: str,
        modality: Modality | None,
        priority: Level | None,
        requested_by: str,
    ) -> RequestedAnalysis:
        """Raises `StudyNotFound`, `UnsupportedModality`, `Conflict`."""
        ...

    def cancel(self, tenant: TenantId, analysis_id: UUID, actor: str) -> AnalysisStatus:
        """Raises `AnalysisNotFound`, `Conflict`."""
        ...

    def retry(self, tenant: TenantId, analysis_id: UUID, actor: str) -> AnalysisStatus:
        """Raises `AnalysisNotFound`, `Conflict`."""
        ...


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """Numbers and names that pages and routes show or obey."""

    version: str
    #: Tenant of a log-in that names none.
    default_tenant: str
    #: How a modality reaches us: shown where the worklist is empty.
    dicom_ae_title: str = "OVERREAD"
    dicom_host: str = "localhost"
    dicom_port: int = 11112
    #: True behind TLS: the session cookie is then `Secure`.
    cookie_secure: bool = False
    #: Where browsers reach us; "": as the request says.
    public_url: str = ""
    #: An upload in all, and what an archive may unpack to, in bytes.
    max_upload_bytes: int = 4 * GIB
    #: Any other request's body, in bytes.
    max_body_bytes: int = 1024 * 1024
    #: Requests a minute of one log-in (or one address when anonymous). Scrolling through a CT takes 20 a second.
    api_per_minute: int = 6000
    #: Attempts to log in a minute, for one user name; ten times as many from one address.
    login_per_minute: int = 10
    #: Where an upload is spooled; None: the system's temporary folder.
    spool_dir: Path | None = None
    #: Seconds between two signs of life on an event stream.
    heartbeat_s: float = 15.0


@dataclass(frozen=True, kw_only=True)
class Services:
    """All that routes need."""

    db: Database
    objects: ObjectStore
    parser: DicomParser
    receive: ReceivesInstances
    requests: HandlesRequests
    access: AccessService
    features: FeatureService
    opt_outs: OptOutService
    patient_reports: PatientReportService
    audit_search: AuditSearchService
    exports: StudyExport
    #: Makes one export's copies, with a key of its own.
    copier: Copier
    events: EventSource
    settings: HttpSettings
    clock: Clock
    started_at: datetime
    #: Jobs of all tenants that failed for good, newest first, for the operator's page.
    dead_letters: Callable[[int], tuple[DeadLetter, ...]] = lambda _limit: ()
    #: What a hospital has decided. Raises `TenantSuspended` or `TenantUnavailable` if it is not worked for just now.
    hospital: Callable[[TenantId], TenantSettings] = lambda _tenant: TenantSettings()
    #: Whether `hospital` answers from memory, so that an event loop may ask it.
    hospital_known: Callable[[TenantId], bool] = lambda _tenant: True
    #: Counts requests for all API processes together; None: each for itself.
    buckets: SharedBuckets | None = None
    #: What is looked at again and again, counted for the audit trail; None: the app makes one.
    tally: Tally | None = None
    #: What works and what does not: for /readyz, the system page, and the note on the worklist.
    watch: Watch = field(default_factory=Watch)


def services_of(request: Request) -> Services:
    """The services of the app that a request came to."""
    services: Services = request.app.state.services
    return services
