"""The rows of the audit trail that concern one patient, found by pseudonym and by study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg

from overread.domain.audit import PatientRef
from overread.services.key_ports import PatientIndex
from overread.services.values import PatientEvents

#: A view that is repeated within a minute is a row with a count (services.audit_tally).
_TIMES = (
    "CASE WHEN action LIKE '%%.view' AND jsonb_typeof(facts->'count') = 'number'"
    " THEN (facts->>'count')::numeric ELSE 1 END"
)


class PatientTrail:
    """Implements `services.feature_ports.PatientTrail`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], index: PatientIndex) -> None:
        self._connection = connection
        self._index = index

    def of_patient(self, patients: Sequence[PatientRef], study_ids: Sequence[UUID]) -> tuple[PatientEvents, ...]:
        """Oldest first; what one actor did to one study on one day (UTC) is one entry."""
        pseudonyms = [self._index.blind(p.issuer, p.patient_id).hex() for p in patients]
        rows = self._connection.execute(
            "SELECT action, actor, role, study_id, outcome, min(at), max(at),"  # noqa: S608
            f" sum({_TIMES})::int FROM audit_events"
            " WHERE patient = ANY(%s) OR study_id = ANY(%s)"
            " GROUP BY date_trunc('day', at, 'UTC'), action, actor, role, study_id, outcome ORDER BY min(at), action",
            (pseudonyms, list(study_ids)),
        ).fetchall()
        return tuple(
            PatientEvents(
                action=action,
                actor=actor,
                role=role,
                study_id=study_id,
                outcome=outcome,
                first=first,
                last=last,
                times=times,
            )
            for action, actor, role, study_id, outcome, first, last, times in rows
        )
