"""Studies, series and instances: filed idempotently, never overwritten, closed into revisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from overread.domain.features import NotAnalysed
from overread.domain.ids import uuid7
from overread.domain.modality import Modality, modality_of, quiet_period
from overread.domain.priority import Level
from overread.domain.study import InCustody, InstanceRecord, ReceiveOutcome, Sender, StoredInstance
from overread.services.values import Filed, Rejection, StudyRow, WaitingStudy
from overread.store.cipher import Values
from overread.store.codec import to_json
from overread.store.repositories.identifiers import (
    open_record,
    open_rejection,
    same_content,
    seal_record,
    seal_rejection,
    seal_study,
)
from overread.store.repositories.rows import STUDY_COLUMNS, study_row

_INSERT_INTO_KNOWN_SERIES = """
    INSERT INTO instances (id, study_id, series_id, sop_instance_uid, file_sha256, pixel_sha256, object_key, record,
                           is_image, received_at, identifiers, patient_blind)
    SELECT %s, s.id, e.id, %s, %s, %s, %s, %s, %s, %s, %s, %s
    FROM studies s JOIN series e ON e.study_id = s.id
    WHERE s.study_instance_uid = %s AND e.series_instance_uid = %s
    ON CONFLICT (sop_instance_uid) DO NOTHING RETURNING study_id
"""


class Studies:
    """Implements `services.ports.StudyRepository`. What identifies a patient is encrypted on the way in."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], values: Values) -> None:
        self._connection = connection
        self._values = values
        self._rows = connection.cursor(row_factory=dict_row)

    # --- filing ----------------------------------------------------------------------------------------------

    def file_instance(
        self, record: InstanceRecord, object_key: str, sender: Sender, now: datetime, keep: Callable[[], None]
    ) -> Filed:
        """Index one instance; see `ReceiveOutcome` for what can become of it.

        Nearly all are new instances of a known series: that case is one statement, sent before `keep` and answered
        after it, so that database and disk work side by side. New instances do not touch the study's row, so that many
        associations may file into one study; `assemble` counts them.
        """
        instance_id = uuid7()
        sealed = seal_record(self._values, "instances", instance_id, to_json(record), to_json(sender))
        values = (
            instance_id,
            record.sop_instance_uid,
            sealed.file_sha256,
            sealed.pixel_sha256,
            object_key,
            Jsonb(sealed.record),
            record.filed_only_reason is None,
            now,
            sealed.identifiers,
            sealed.patient_blind,
        )
        uids = (record.study_instance_uid, record.series_instance_uid)
        with self._connection.pipeline():
            inserted = self._connection.execute(_INSERT_INTO_KNOWN_SERIES, (*values, *uids))
            keep()
        if (row := inserted.fetchone()) is not None:
            return _stored(record, row[0])
        known = self._known(record.sop_instance_uid)
        if known is None:
            study_id = self._study_id(record, now)
            self._ensure_series(record, study_id)
            if (row := self._connection.execute(_INSERT_INTO_KNOWN_SERIES, (*values, *uids)).fetchone()) is not None:
                return _stored(record, row[0])
            known = self._known(record.sop_instance_uid)  # another association was faster
            if known is None:
                raise psycopg.OperationalError("an instance vanished while it was being filed")
        return self._file_again(known, record, object_key, sender, now, keep)

    def _known(self, sop_instance_uid: str) -> tuple[UUID, UUID, str, str, str] | None:
        return self._connection.execute(
            "SELECT i.id, i.study_id, i.file_sha256, i.pixel_sha256, s.study_instance_uid"
            " FROM instances i JOIN studies s ON s.id = i.study_id WHERE i.sop_instance_uid = %s",
            (sop_instance_uid,),
        ).fetchone()

    def _file_again(
        self,
        known: tuple[UUID, UUID, str, str, str],
        record: InstanceRecord,
        object_key: str,
        sender: Sender,
        now: datetime,
        keep: Callable[[], None],
    ) -> Filed:
        instance_id, study_id, file_sha256, pixel_sha256, study_uid = known
        modality = modality_of(record.modality)
        other_pixels = not same_content(self._values, pixel_sha256, record.pixel_sha256)
        if same_content(self._values, file_sha256, record.file_sha256):
            outcome, message = ReceiveOutcome.DUPLICATE, ""
            self._return(instance_id, object_key, now, keep)
        elif other_pixels or record.study_instance_uid != study_uid:
            outcome = ReceiveOutcome.QUARANTINED
            # Which of the two the PACS has is not known: this one stays here.
            self._connection.execute("UPDATE instances SET contested = true WHERE id = %s", (instance_id,))
            what = "other pixels" if other_pixels else "another StudyInstanceUID"
            message = (
                f"SOPInstanceUID {record.sop_instance_uid} is already stored with {what}; "
                "this object was put into quarantine and the stored one is unchanged."
            )
            self.record_rejection(
                Rejection(
                    code="DUPLICATE_UID",
                    message=message,
                    sender=sender,
                    received_at=now,
                    object_key=object_key,
                    file_sha256=record.file_sha256,
                )
            )
        else:
            message = ""
            revision_id = uuid7()
            sealed = seal_record(self._values, "instance_revisions", revision_id, to_json(record), to_json(sender))
            added = self._connection.execute(
                "INSERT INTO instance_revisions (id, instance_id, file_sha256, object_key, record, received_at,"
                " identifiers) VALUES (%s,%s,%s,%s,%s,%s,%s) ON CONFLICT DO NOTHING",
                (
                    revision_id,
                    instance_id,
                    sealed.file_sha256,
                    object_key,
                    Jsonb(sealed.record),
                    now,
                    sealed.identifiers,
                ),
            )
            outcome = ReceiveOutcome.HEADER_REVISION if added.rowcount else ReceiveOutcome.DUPLICATE
        return Filed(outcome=outcome, study_id=study_id, new_image=False, modality=modality, message=message)

    def _return(self, instance_id: UUID, object_key: str, now: datetime, keep: Callable[[], None]) -> None:
        """An instance that came again: if its object went to the PACS meanwhile, it is here again.

        With the row locked, so that retention is not just removing what was put a moment ago; hence once more.
        """
        row = self._connection.execute(
            "SELECT removed_at FROM instances WHERE id = %s FOR UPDATE", (instance_id,)
        ).fetchone()
        if row is not None and row[0] is not None:
            keep()
            self._connection.execute(
                "UPDATE instances SET object_key = %s, removed_at = NULL, returned_at = %s WHERE id = %s",
                (object_key, now, instance_id),
            )

    def _study_id(self, record: InstanceRecord, now: datetime) -> UUID:
        query = "SELECT id FROM studies WHERE study_instance_uid = %s"
        found = self._connection.execute(query, (record.study_instance_uid,)).fetchone()
        if found is None:
            study_id = uuid7()
            sealed = seal_study(self._values, study_id, to_json(record))
            found = (
                self._connection.execute(
                    "INSERT INTO studies (id, study_instance_uid, identifiers, patient_blind, patient_id_blind,"
                    " accession_blind, words, study_datetime, received_first, received_last)"
                    " VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s)"
                    " ON CONFLICT (study_instance_uid) DO NOTHING RETURNING id",
                    (
                        study_id,
                        record.study_instance_uid,
                        sealed.identifiers,
                        sealed.patient_blind,
                        sealed.patient_id_blind,
                        sealed.accession_blind,
                        sealed.words,
                        record.study_datetime,
                        now,
                        now,
                    ),
                ).fetchone()
                or self._connection.execute(query, (record.study_instance_uid,)).fetchone()
            )
        return _one(found)

    def _ensure_series(self, record: InstanceRecord, study_id: UUID) -> None:
        self._connection.execute(
            "INSERT INTO series (id, study_id, series_instance_uid, modality, series_number)"
            " VALUES (%s,%s,%s,%s,%s) ON CONFLICT (study_id, series_instance_uid) DO NOTHING",
            (uuid7(), study_id, record.series_instance_uid, record.modality, record.series_number),
        )

    # --- assembly --------------------------------------------------------------------------------------------

    def waiting_for_assembly(self, limit: int) -> tuple[WaitingStudy, ...]:
        """Studies with instances that no revision covers yet, longest waiting first."""
        rows = self._connection.execute(
            "SELECT study_id, max(received_at),"
            " array_agg(DISTINCT record->>'modality') FILTER (WHERE is_image)"
            " FROM instances WHERE NOT assembled GROUP BY study_id ORDER BY max(received_at) LIMIT %s",
            (limit,),
        ).fetchall()
        return tuple(
            WaitingStudy(study_id=row[0], last_received=row[1], modality=_slowest(row[2] or ())) for row in rows
        )

    def assemble(self, study_id: UUID) -> StudyRow:
        """Close the present set of instances as a new revision if an image came; locks the study until commit."""
        # Not FOR UPDATE: whoever filed an instance holds the study's key (the foreign key does that), so two that filed
        # into one study would wait for each other until the server ends one of them.
        self._connection.execute("SELECT 1 FROM studies WHERE id = %s FOR NO KEY UPDATE", (study_id,))
        new_images = self._connection.execute(
            "WITH closed AS (UPDATE instances SET assembled = true WHERE study_id = %s AND NOT assembled"
            " RETURNING is_image) SELECT count(*) FILTER (WHERE is_image) FROM closed",
            (study_id,),
        ).fetchone()
        counts = self._connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE is_image), max(received_at),"
            " array_remove(array_agg(DISTINCT record->>'modality'), NULL),"
            " array_remove(array_agg(DISTINCT record->>'modality') FILTER (WHERE is_image), NULL),"
            " mode() WITHIN GROUP (ORDER BY record->>'body_part') FILTER (WHERE is_image),"
            " count(DISTINCT patient_blind)"
            " FROM instances WHERE study_id = %s AND assembled",
            (study_id,),
        ).fetchone()
        if counts is None or new_images is None:
            raise psycopg.OperationalError("counting a study gave nothing")
        modality = _slowest(counts[4] or ())
        self._rows.execute(
            f"UPDATE studies s SET revision = revision + %s, instance_count = %s, image_count = %s, received_last = %s,"  # noqa: S608
            " dicom_modalities = %s, modality = coalesce(%s, modality), body_part = %s, patient_conflict = %s"
            f" WHERE id = %s RETURNING {STUDY_COLUMNS}",
            (
                1 if new_images[0] else 0,
                counts[0],
                counts[1],
                counts[2],
                counts[3] or [],
                modality,
                counts[5],
                counts[6] > 1,
                study_id,
            ),
        )
        row = self._rows.fetchone()
        if row is None:
            raise psycopg.OperationalError("a study vanished while it was being assembled")
        return study_row(row, self._values)

    def raise_queue_priority(self, study_id: UUID, level: Level) -> None:
        """Never lowers."""
        self._connection.execute(
            "UPDATE studies SET queue_priority = greatest(queue_priority, %s) WHERE id = %s", (level.rank, study_id)
        )

    def set_not_analysed(self, study_id: UUID, why: NotAnalysed | None) -> None:
        """Why the AI does not read the study; None once it does."""
        self._connection.execute(
            "UPDATE studies s SET not_analysed_since = %s, not_analysed_why = %s,"
            " not_analysed_alone = %s AND NOT EXISTS"
            " (SELECT FROM image_analyses a WHERE a.study_id = s.id AND NOT a.superseded) WHERE s.id = %s",
            (why.since if why else None, Jsonb(to_json(why)) if why else None, why is not None, study_id),
        )

    # --- reading ---------------------------------------------------------------------------------------------

    def get(self, study_id: UUID) -> StudyRow | None:
        """By our id."""
        row = self._rows.execute(f"SELECT {STUDY_COLUMNS} FROM studies s WHERE id = %s", (study_id,)).fetchone()  # noqa: S608
        return None if row is None else study_row(row, self._values)

    def find(self, study_id_or_uid: str) -> StudyRow | None:
        """By our id or by StudyInstanceUID (0020,000D)."""
        try:
            return self.get(UUID(study_id_or_uid))
        except ValueError:
            pass
        row = self._rows.execute(
            f"SELECT {STUDY_COLUMNS} FROM studies s WHERE study_instance_uid = %s",  # noqa: S608
            (study_id_or_uid,),
        ).fetchone()
        return None if row is None else study_row(row, self._values)

    def of_patient(self, patient_id: str, issuer: str) -> tuple[StudyRow, ...]:
        """Newest first; without an issuer, of the number under any."""
        index = self._values.index
        column, blind = ("patient_blind", index.blind(issuer, patient_id))
        if not issuer:
            column, blind = ("patient_id_blind", index.patient_id(patient_id))
        rows = self._rows.execute(
            f"SELECT {STUDY_COLUMNS} FROM studies s WHERE s.{column} = %s ORDER BY s.received_first DESC, s.id",  # noqa: S608
            (blind,),
        ).fetchall()
        return tuple(study_row(row, self._values) for row in rows)

    def instances(self, study_id: UUID) -> tuple[StoredInstance, ...]:
        """All assembled instances, sorted by series number, instance number, UID."""
        rows = self._connection.execute(
            "SELECT id, record, object_key, identifiers, custody_ae, custody_confirmed_at, removed_at FROM instances"
            " WHERE study_id = %s AND assembled",
            (study_id,),
        ).fetchall()
        found = [
            StoredInstance(
                id=r[0],
                study_id=study_id,
                record=open_record(self._values, "instances", r[0], r[1], r[3]),
                object_key=r[2] or "",
                in_pacs=None if r[6] is None else InCustody(ae_title=r[4], since=r[5]),
            )
            for r in rows
        ]
        return tuple(sorted(found, key=_reading_order))

    # --- what was refused ------------------------------------------------------------------------------------

    def record_rejection(self, rejection: Rejection) -> None:
        """The same file refused twice for the same reason is one entry."""
        rejection_id = uuid7()
        blind = None if rejection.file_sha256 is None else self._values.content(rejection.file_sha256)
        self._connection.execute(
            "INSERT INTO rejections (id, code, object_key, file_sha256, received_at, identifiers)"
            " VALUES (%s,%s,%s,%s,%s,%s) ON CONFLICT DO NOTHING",
            (
                rejection_id,
                rejection.code,
                rejection.object_key,
                blind,
                rejection.received_at,
                seal_rejection(self._values, rejection_id, rejection),
            ),
        )

    def rejections(self, limit: int) -> tuple[Rejection, ...]:
        """Newest first."""
        rows = self._rows.execute("SELECT * FROM rejections ORDER BY received_at DESC LIMIT %s", (limit,)).fetchall()
        return tuple(open_rejection(self._values, row) for row in rows)


def _stored(record: InstanceRecord, study_id: UUID) -> Filed:
    return Filed(
        outcome=ReceiveOutcome.STORED,
        study_id=study_id,
        new_image=record.filed_only_reason is None,
        modality=modality_of(record.modality),
    )


def _one(row: tuple[Any, ...] | None) -> UUID:
    if row is None:
        raise psycopg.OperationalError("a row vanished between two statements")
    found: UUID = row[0]
    return found


def _slowest(dicom_modalities: Sequence[str | None]) -> Modality | None:
    """Of several modalities the one with the longest quiet period; unknown ones count only if there is no other."""
    known = {m for m in map(modality_of, dicom_modalities) if m is not None}
    return max(known, key=lambda m: (quiet_period(m), m), default=None)


def _reading_order(instance: StoredInstance) -> tuple[int, int, str]:
    record = instance.record
    last = 2**31
    return (
        last if record.series_number is None else record.series_number,
        last if record.instance_number is None else record.instance_number,
        record.sop_instance_uid,
    )
