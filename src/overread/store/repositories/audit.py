"""The audit trail: rows that no serving log-in may change or delete, and whose number and time it cannot choose."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from overread.domain.audit import Actor, AuditAction, AuditOutcome, PatientRef
from overread.domain.study import TenantId
from overread.services import acting
from overread.services.key_ports import PatientIndex

_REMEMBERED: Final = 10_000
#: Seconds: a study may get another patient, when a mistake at the modality is put right.
_FRESH_S: Final = 60.0


class PatientsOfStudies:
    """Which patient a study belongs to, as the trail writes it: asked for with nearly every row, so kept a minute."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[TenantId, UUID], tuple[float, str | None]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, tenant: TenantId, study_id: UUID, find: Callable[[], str | None]) -> str | None:
        """What `find` says, or said less than a minute ago."""
        key, now = (tenant, study_id), time.monotonic()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and now - kept[0] < _FRESH_S:
            return kept[1]
        found = find()
        if found is not None:
            with self._lock:
                self._kept[key] = (now, found)
                self._kept.move_to_end(key)
                while len(self._kept) > _REMEMBERED:
                    self._kept.popitem(last=False)
        return found


_patients = PatientsOfStudies()


class Audit:
    """Implements `services.trail_ports.AuditTrail`."""

    def __init__(
        self,
        connection: psycopg.Connection[tuple[Any, ...]],
        tenant: TenantId,
        index: PatientIndex,
        patient_of: Callable[[UUID], PatientRef | None],
    ) -> None:
        """`patient_of` finds the patient of a study of this tenant."""
        self._connection = connection
        self._tenant = tenant
        self._index = index
        self._patient_of = patient_of

    def record(
        self,
        action: AuditAction,
        *,
        actor: Actor | str,
        study_id: UUID | None = None,
        patient: PatientRef | None = None,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
        code: str = "",
        address: str = "",
        channel: str = "",
        **facts: Any,
    ) -> None:
        """A plain INSERT: writers never wait for each other. `facts` are plain JSON and name no patient.

        Without `patient` it is the study's.
        """
        who = acting.resolve(actor, address=address, channel=channel)
        self._connection.execute(
            "INSERT INTO audit_events (action, outcome, code, actor_kind, actor, user_id, role, session, address,"
            " channel, patient, study_id, facts) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                AuditAction(action).value,
                outcome.value,
                code,
                who.kind.value,
                who.name,
                who.user_id,
                who.role,
                who.session,
                who.address,
                who.channel,
                self._pseudonym(patient, study_id),
                study_id,
                Jsonb(facts),
            ),
        )

    def _pseudonym(self, patient: PatientRef | None, study_id: UUID | None) -> str | None:
        if patient is not None:
            return self._blind(patient)
        if study_id is None:
            return None

        def find() -> str | None:
            found = self._patient_of(study_id)
            return self._blind(found) if found is not None else None

        return _patients.get(self._tenant, study_id, find)

    def _blind(self, patient: PatientRef) -> str:
        return self._index.blind(patient.issuer, patient.patient_id).hex()
