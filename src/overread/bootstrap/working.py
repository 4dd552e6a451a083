"""What the worker and the commands have: models, analysers, storage commitment, retention, the audit trail's keeper."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from overread.bootstrap.connections import now
from overread.domain.errors import SetupError

if TYPE_CHECKING:  # each process imports only what it runs: a receiver needs no model
    from overread.bootstrap.shared import Overread
    from overread.config import Settings
    from overread.dicom.sr import HighdicomSrWriter
    from overread.inference.registry import Registry
    from overread.pipeline.analysers.contract import VolumeAnalyser
    from overread.services.analyse import AnalyseService
    from overread.services.custody import CustodyService
    from overread.services.custody_ports import CommitmentPeer
    from overread.services.ports import Database
    from overread.services.reconcile import ReconcileService
    from overread.services.retention import RetentionService
    from overread.services.retention_keeper import RetentionKeeper
    from overread.services.structured_report import StructuredReportService

#: Entry points of installed packages: each names a class (or function) that makes a `VolumeAnalyser`.
ANALYSERS_GROUP = "overread.analysers"


def registry(settings: Settings) -> Registry:
    """The installed model packages."""
    from overread.inference.registry import Registry, shipped_folder

    return Registry(
        [shipped_folder(), settings.models_dir],
        threads=settings.model_threads or None,
        memory_bytes=settings.model_memory_mib * 1024 * 1024,
        timeout_s=settings.model_timeout_s,
    )


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
