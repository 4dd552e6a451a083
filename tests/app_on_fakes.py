"""The whole HTTP application on in-memory fakes, with the real services, parser and renderer."""

from __future__ import annotations

import io
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
import pydicom
from fastapi import FastAPI
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from starlette.testclient import TestClient

from overread import api, web
from overread.dicom.deidentify.copier import Copier
from overread.dicom.read import PydicomParser
from overread.domain import catalogue
from overread.domain.analysis import (
    AnalysisOutcome,
    Finding,
    InstanceProblem,
    Measurement,
    NotAssessed,
    QualityAssessment,
    QualityIssue,
    QualityLevel,
    TriageDecision,
)
from overread.domain.errors import StoreUnavailable
from overread.domain.evidence import Interval, ModelIdentity
from overread.domain.ids import new_uid, uuid7
from overread.domain.image import BoundingBox
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.study import Sender, TenantId
from overread.http.app import create_app
from overread.http.wiring import HttpSettings, Services
from overread.services.access import AccessService, KeyRing, Role, Sealer, hash_password
from overread.services.assemble import AssembleService
from overread.services.audit_search import AuditSearchService
from overread.services.degradation import QueueHealth, Watch
from overread.services.export import StudyExport
from overread.services.features import FeatureService
from overread.services.identity_ports import SharedBuckets
from overread.services.optout import OptOutService
from overread.services.patient_report import PatientReportService
from overread.services.receive import ReceiveService
from overread.services.requests import RequestService
from overread.services.values import DeadLetter, UserRow
from tests.fake_identity import FakeProviderWeb
from tests.fakes import FakeClock, FakeDatabase, FakeObjects

PASSWORD = "correct horse battery staple"
_HASH = hash_password(PASSWORD)
ALPHA, BETA = TenantId(slug="alpha"), TenantId(slug="beta")
MODEL = ModelIdentity(name="chest_xray", version="1.0.0", sha256="ab" * 32)
#: Worlds have the same keys and begin at the same moment, and argon2 is slow on purpose.
_TOKENS: dict[tuple[str, str, date], str] = {}
SECRET_NAME = "Zzyzx^Planted"


def queue_health(db: FakeDatabase) -> QueueHealth:
    """A worker, and nothing to do."""
    if db.down:
        raise StoreUnavailable("down")
    return QueueHealth(workers=1, silent_s=1.0, waiting=0, pressing=0, running=0, failed=0, oldest_s=0.0)


def make_dicom(**attributes: Any) -> bytes:
    """A small radiograph; keywords overwrite attributes, None leaves one out."""
    rows, columns = attributes.pop("Rows", 64), attributes.pop("Columns", 80)
    no_pixels = attributes.pop("no_pixels", False)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": new_uid(),
        "SeriesInstanceUID": new_uid(),
        "StudyInstanceUID": new_uid(),
        "PatientID": "P-1",
        "PatientName": SECRET_NAME,
        "PatientBirthDate": "19600229",
        "PatientSex": "F",
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "StudyDescription": "Chest PA",
        "SeriesDescription": "PA",
        "AccessionNumber": "A-77",
        "StudyDate": "20260114",
        "StudyTime": "231500",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "SpecificCharacterSet": "ISO_IR 192",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelSpacing": [0.2, 0.2],
    }
    if no_pixels:
        values = {k: v for k, v in values.items() if k not in ("Rows", "Columns", "PixelSpacing")}
    values.update(attributes)
    meta.MediaStorageSOPClassUID = values["SOPClassUID"]
    for keyword, value in values.items():
        if value is not None:
            setattr(file, keyword, value)
    meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    if no_pixels:
        rows = columns = 0
    ramp = np.linspace(0, 4095, rows * columns).reshape(rows, columns).astype(np.uint16)
    if not no_pixels:
        file.PixelData = ramp.tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


def make_finding(key: str, sop_instance_uid: str, confidence: float = 0.82, **changes: Any) -> Finding:
    """A finding of the catalogue, with figures that do not meet the bar."""
    entry = catalogue.entry(key)
    return replace(
        Finding(
            id=uuid7(),
            finding_type=key,
            severity=entry.severity,
            confidence=confidence,
            sop_instance_uid=sop_instance_uid,
            bounding_box=BoundingBox(x=10, y=12, width=20, height=16),
            model=MODEL,
            exploratory=True,
            sensitivity=Interval(value=0.81, low=0.70, high=0.89),
            specificity=Interval(value=0.84, low=0.80, high=0.87),
        ),
        **changes,
    )


def make_outcome(findings: tuple[Finding, ...], urgency: Level, reason: str) -> AnalysisOutcome:
    """A completed radiograph with something in every part."""
    return AnalysisOutcome(
        modality=Modality.XRAY,
        body_part="CHEST",
        findings=findings,
        not_assessed=(
            NotAssessed(finding_type="rib_fracture", name="Rib fracture", reason="no installed model looks for it"),
            NotAssessed(finding_type="lung_nodule", name="Lung nodule", reason="no installed model looks for it"),
        ),
        assessed=("pneumothorax", "pleural_effusion", "cardiomegaly"),
        quality=QualityAssessment(
            level=QualityLevel.SUBOPTIMAL,
            score=0.7,
            issues=(QualityIssue(type="poor_positioning", severity="mild", description="Left apex cut off."),),
            recommendations="Repeat if the apex matters.",
        ),
        triage=TriageDecision(urgency=urgency, reason=reason),
        models=(MODEL,),
        measurements=(
            Measurement(id=uuid7(), measurement_type="cardiothoracic_ratio", value=0.52, unit="1", method="automated"),
        ),
        problems=(InstanceProblem(instance="lateral", code="PIXEL_DATA_MISMATCH", message="Pixels are cut off."),),
    )


@dataclass
class World:
    """The application and what stands behind it."""

    app: FastAPI
    db: FakeDatabase
    objects: FakeObjects
    clock: FakeClock
    services: Services
    #: What the identity provider answers.
    provider: FakeProviderWeb

    def client(self, **kwargs: Any) -> TestClient:
        return TestClient(self.app, base_url="http://testserver", follow_redirects=False, **kwargs)

    def token(self, role: str = "radiologist", tenant: TenantId = ALPHA) -> str:
        key = (tenant.slug, role, self.clock().date())
        if key not in _TOKENS:
            _TOKENS[key] = self.services.access.log_in(tenant.slug, role, PASSWORD, address="test").token
        return _TOKENS[key]

    def bearer(self, role: str = "radiologist", tenant: TenantId = ALPHA) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(role, tenant)}", "X-Tenant-ID": tenant.slug}

    def receive_only(self, tenant: TenantId = ALPHA, **attributes: Any) -> tuple[UUID, UUID | None, str]:
        """Send one instance in; (study, analysis if there is one, SOPInstanceUID)."""
        data = make_dicom(**attributes)
        sender = Sender(channel="dicom", name="CR1", address="10.0.0.9")
        filed = self.services.receive.receive(tenant, data, sender, name="x.dcm")
        assert filed.study_id is not None
        with self.db.unit(tenant) as uow:
            row = uow.analyses.latest_for_study(filed.study_id)
        uid = str(pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID)
        return filed.study_id, row.id if row is not None else None, uid

    def receive(self, tenant: TenantId = ALPHA, **attributes: Any) -> tuple[UUID, UUID, str]:
        """Send one radiograph in; (study, analysis, SOPInstanceUID)."""
        study, analysis, uid = self.receive_only(tenant, **attributes)
        assert analysis is not None
        return study, analysis, uid

    def complete(self, analysis_id: UUID, outcome: AnalysisOutcome, tenant: TenantId = ALPHA, ms: int = 900) -> None:
        with self.db.unit(tenant) as uow:
            row = uow.analyses.claim(analysis_id, self.clock())
            assert row is not None and row.claim is not None
            assert uow.analyses.complete(analysis_id, row.claim, outcome, self.clock(), ms)
            uow.publish("analysis", {"analysis": str(analysis_id), "study": str(row.study.id)})

    def read_study(self, tenant: TenantId = ALPHA, critical: bool = True) -> tuple[UUID, UUID, str]:
        """A study that was received and analysed."""
        study, analysis, uid = self.receive(tenant)
        findings = (make_finding("pneumothorax", uid, exploratory=not critical), make_finding("cardiomegaly", uid, 0.6))
        level = Level.CRITICAL if critical else Level.ROUTINE
        self.complete(
            analysis, make_outcome(findings, level, "Pneumothorax 82 %: critical by the triage table."), tenant
        )
        return study, analysis, uid


def make_world(*, buckets: SharedBuckets | None = None, **settings: Any) -> World:
    """Two hospitals with a user for each role (name = role) in each; `settings` overwrite HttpSettings."""
    clock, db, objects = FakeClock(), FakeDatabase(), FakeObjects()
    web_of_provider = FakeProviderWeb()
    for tenant in (ALPHA, BETA):
        for role in Role:
            db.state(tenant).users[role.value] = UserRow(
                # The same in every world, as tokens are kept between them.
                id=uuid5(NAMESPACE_URL, f"{tenant}/{role.value}"),
                tenant=tenant,
                name=role.value,
                display_name=f"Demo {role.value}",
                role=role.value,
                password_hash=_HASH,
                disabled=False,
            )
        # Somebody to whom administrators do something; nobody logs in as them.
        radiologist = db.state(tenant).users["radiologist"]
        db.state(tenant).users["victim"] = replace(radiologist, id=uuid5(NAMESPACE_URL, f"{tenant}/v"), name="victim")
    assemble = AssembleService(database=db, clock=clock)
    services = Services(
        db=db,
        objects=objects,
        parser=PydicomParser(),
        receive=ReceiveService(database=db, objects=objects, parser=PydicomParser(), assemble=assemble, clock=clock),
        requests=RequestService(database=db, clock=clock),
        access=AccessService(
            db,
            ring=KeyRing.fixed({"1": b"k" * 32, "0": b"o" * 32}, "1"),
            sealer=Sealer(b"s" * 32),
            clock=clock,
            web=web_of_provider,
            tenant_exists=lambda t: t in (ALPHA, BETA),
            ticks=lambda: clock().timestamp(),
        ),
        features=FeatureService(database=db, clock=clock, cache=assemble.features),
        opt_outs=OptOutService(database=db, clock=clock),
        exports=StudyExport(database=db, objects=objects),
        copier=lambda members, write: Copier(words=lambda: nullcontext(None))(members, write),
        patient_reports=PatientReportService(database=db, clock=clock),
        audit_search=AuditSearchService(database=db),
        events=db.events,
        dead_letters=lambda _limit: (
            DeadLetter(
                job=7, task="overread.write_sr", tenant="alpha", ids={"analysis": "an-opaque-id"}, attempts=1, at=None
            ),
        ),
        settings=HttpSettings(version="0.1.0", default_tenant="alpha", heartbeat_s=0.05, **settings),
        watch=Watch(queue=lambda: queue_health(db), overload_jobs=100),
        buckets=buckets,
        clock=clock,
        started_at=datetime(2026, 1, 15, 2, 0, tzinfo=UTC),
    )
    app = create_app(services, routers=[*api.ROUTERS, *web.ROUTERS], error_page=web.error_page)
    app.mount("/static", web.STATIC)
    return World(app=app, db=db, objects=objects, clock=clock, services=services, provider=web_of_provider)
