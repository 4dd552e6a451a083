"""Patients who object to AI. Their identifiers are here as blind indexes only: nobody can read them off the table."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from overread.services.key_ports import PatientIndex
from overread.services.values import OptOut

_COLUMNS = "id, patient_index, any_issuer, reason, added_by, added_at, removed_by, removed_at, removal_reason"


class OptOuts:
    """Implements `services.feature_ports.OptOutRepository`.

    An objection without an issuer holds for the number under any issuer, and images without an issuer match an
    objection under any: where it is not certain, the patient's word counts.
    """

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], index: PatientIndex) -> None:
        self._connection = connection
        self._index = index

    def find(self, patient_id: str, issuer: str) -> OptOut | None:
        """The objection that holds now, the oldest if there are several."""
        number = self._index.blind("", patient_id)
        if issuer:
            row = self._connection.execute(
                f"SELECT {_COLUMNS} FROM patient_opt_outs WHERE number_index = %s AND removed_at IS NULL"  # noqa: S608
                " AND (any_issuer OR patient_index = %s) ORDER BY added_at LIMIT 1",
                (number, self._index.blind(issuer, patient_id)),
            ).fetchone()
        else:
            row = self._connection.execute(
                f"SELECT {_COLUMNS} FROM patient_opt_outs WHERE number_index = %s AND removed_at IS NULL"  # noqa: S608
                " ORDER BY added_at LIMIT 1",
                (number,),
            ).fetchone()
        return None if row is None else _opt_out(row)

    def add(self, opt_out_id: UUID, patient_id: str, issuer: str, reason: str, by: str, now: datetime) -> bool:
        """False if this very patient is on the list already."""
        patient, number = self._index.blind(issuer, patient_id), self._index.blind("", patient_id)
        done = self._connection.execute(
            "INSERT INTO patient_opt_outs (id, patient_index, number_index, any_issuer, reason, added_by, added_at)"
            " VALUES (%s,%s,%s,%s,%s,%s,%s) ON CONFLICT (patient_index) WHERE removed_at IS NULL DO NOTHING",
            (opt_out_id, patient, number, not issuer, reason, by, now),
        )
        return done.rowcount == 1

    def remove(self, opt_out_id: UUID, reason: str, by: str, now: datetime) -> bool:
        """False if it is not on the list, or was removed."""
        done = self._connection.execute(
            "UPDATE patient_opt_outs SET removed_by = %s, removed_at = %s, removal_reason = %s"
            " WHERE id = %s AND removed_at IS NULL",
            (by, now, reason, opt_out_id),
        )
        return done.rowcount == 1

    def all(self, *, with_removed: bool, limit: int) -> tuple[OptOut, ...]:
        """Newest first."""
        where = "true" if with_removed else "removed_at IS NULL"
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM patient_opt_outs WHERE {where} ORDER BY added_at DESC LIMIT %s",  # noqa: S608
            (limit,),
        ).fetchall()
        return tuple(_opt_out(row) for row in rows)


def _opt_out(row: tuple[Any, ...]) -> OptOut:
    number, index, any_issuer, reason, added_by, added_at, removed_by, removed_at, removal_reason = row
    return OptOut(
        id=number,
        pseudonym=bytes(index).hex()[:12],
        any_issuer=any_issuer,
        reason=reason,
        added_by=added_by,
        added_at=added_at,
        removed_by=removed_by,
        removed_at=removed_at,
        removal_reason=removal_reason,
    )
