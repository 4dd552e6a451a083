"""Receive one instance, from a DICOM peer or an upload: object on disk first, then the index, then the caller may
acknowledge. Nothing is acknowledged that a crash could lose, and nothing that came is ever overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import structlog

from overread.domain.audit import Actor, ActorKind, AuditAction, AuditOutcome, PatientRef
from overread.domain.errors import DuplicateUid, OverreadError
from overread.domain.modality import quiet_period
from overread.domain.study import InstanceRecord, ReceiveOutcome, Sender, TenantId
from overread.services import acting
from overread.services.assemble import AssembleService
from overread.services.audit_tally import Tally
from overread.services.key_ports import PatientIndex
from overread.services.object_ports import ObjectStore
from overread.services.ports import Clock, Database, DicomParser, UnitOfWork
from overread.services.values import Filed, Rejection

log = structlog.get_logger(__name__)


def object_key(record: InstanceRecord, index: PatientIndex) -> str:
    """Where an instance's bytes lie. What stands for its content is in it: another content can never overwrite it.

    Not the hash itself: somebody who has the same file could tell by the name that it is here.
    """
    name = index.content(record.file_sha256)
    return f"instances/{name[:2]}/{name}.dcm"


def sent_by(sender: Sender) -> Actor:
    """A DICOM peer by its AE title, or who uploads."""
    if sender.channel == "dicom":
        return Actor(kind=ActorKind.PEER, name=sender.name, address=sender.address, channel="dicom")
    return acting.resolve(sender.name, address=sender.address)


@dataclass(frozen=True, kw_only=True)
class ReceiveService:
    """The one door for instances."""

    database: Database
    objects: ObjectStore
    parser: DicomParser
    assemble: AssembleService
    clock: Clock
    #: One row for a study, a sender and a minute; without it each instance is a row.
    tally: Tally | None = None

    def receive(self, tenant: TenantId, data: bytes | memoryview, sender: Sender, *, name: str) -> Filed:
        """File one instance; returns only after object and index are durable.

        `name` is the file's, or the peer's, for messages. Raises `InvalidDicom` (nothing kept but the refusal),
        `StorageFull` or `StoreUnavailable` (the sender should try again).
        """
        try:
            record = self.parser.index(data, name=name)
        except OverreadError as error:
            self._refuse(tenant, error, sender)
            raise
        now = self.clock()
        with self.database.unit(tenant) as unit:
            key = object_key(record, unit.patient_index)
            filed = unit.studies.file_instance(record, key, sender, now, partial(self.objects.put, tenant, key, data))
            self._record(unit, record, filed, sender)
            if filed.new_image and filed.study_id is not None and not quiet_period(filed.modality):
                self.assemble.close_revision(unit, filed.study_id, now)
        return filed

    def _record(self, unit: UnitOfWork, record: InstanceRecord, filed: Filed, sender: Sender) -> None:
        quarantined = filed.outcome is ReceiveOutcome.QUARANTINED
        action = AuditAction.INSTANCE_QUARANTINED if quarantined else AuditAction.STUDY_RECEIVED
        outcome = AuditOutcome.FAILED if quarantined else AuditOutcome.SUCCESS
        code = DuplicateUid.code if quarantined else ""
        patient = PatientRef(issuer=record.issuer_of_patient_id, patient_id=record.patient_id)
        who = sent_by(sender)
        if self.tally is None:
            unit.audit.record(action, actor=who, study_id=filed.study_id, patient=patient, outcome=outcome, code=code)
        else:
            self.tally.record(
                unit.audit,
                unit.tenant,
                action,
                actor=who,
                study_id=filed.study_id,
                patient=patient,
                outcome=outcome,
                code=code,
            )

    def _refuse(self, tenant: TenantId, error: OverreadError, sender: Sender) -> None:
        """Keep what was refused and why, where an admin can see it."""
        log.warning("instance refused", tenant=tenant.slug, code=error.code, peer=sender.name, address=sender.address)
        with self.database.unit(tenant) as unit:
            unit.studies.record_rejection(
                Rejection(code=error.code, message=str(error), sender=sender, received_at=self.clock())
            )
