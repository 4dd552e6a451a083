"""Analyses and what belongs to them. The state machine is here, each step one guarded statement."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from overread.domain.analysis import AnalysisOutcome, AnalysisStatus, Finding
from overread.domain.errors import Conflict
from overread.domain.ids import uuid7
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.services.tracking import tracking_uids
from overread.services.values import AnalysisFilter, AnalysisRow, Created, StudyRow
from overread.store.cipher import Values
from overread.store.codec import to_json
from overread.store.repositories.analysis_search import conditions, total
from overread.store.repositories.rows import ANALYSIS_COLUMNS, STUDY_COLUMNS, analysis_row

_SELECT = f"SELECT {ANALYSIS_COLUMNS}, {STUDY_COLUMNS} FROM image_analyses a JOIN studies s ON s.id = a.study_id"  # noqa: S608
_BESIDE = ("findings", "measurements", "quality")
_FINDING_COLUMNS_ELSEWHERE = (
    "id",
    "finding_type",
    "severity",
    "confidence",
    "sop_instance_uid",
    "bounding_box",
    "slice_number",
    "description",
)


class Analyses:
    """Implements `services.ports.AnalysisRepository`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], values: Values) -> None:
        self._connection = connection
        self._values = values
        self._rows = connection.cursor(row_factory=dict_row)

    # --- the state machine -----------------------------------------------------------------------------------

    def create(
        self, study: StudyRow, *, requested_by: str, queue_priority: Level, now: datetime, analysis_id: UUID
    ) -> Created:
        """See the port. Two callers for one study are serialised by the study's row lock."""
        self._connection.execute("SELECT 1 FROM studies WHERE id = %s FOR NO KEY UPDATE", (study.id,))
        live = self._connection.execute(
            "SELECT id, status, revision FROM image_analyses WHERE study_id = %s"
            " AND status IN ('pending', 'processing') AND NOT superseded",
            (study.id,),
        ).fetchone()
        if live is not None:
            live_id, status, revision = live
            if status == AnalysisStatus.PENDING or revision == study.revision:
                self._connection.execute(
                    "UPDATE image_analyses SET revision = CASE status WHEN 'pending' THEN %s ELSE revision END,"
                    " modality = coalesce(%s, modality), queue_priority = greatest(queue_priority, %s),"
                    " updated_at = %s WHERE id = %s",
                    (study.revision, study.modality, queue_priority.rank, now, live_id),
                )
                return Created(analysis_id=live_id, created=False)
        kept = self._connection.execute(
            "UPDATE image_analyses SET superseded = true, updated_at = %s WHERE study_id = %s AND NOT superseded"
            " RETURNING urgency, reason",
            (now, study.id),
        ).fetchall()
        urgency, reason = max(((u, r) for u, r in kept if u), default=(None, ""))
        self._connection.execute(
            "INSERT INTO image_analyses (id, study_id, revision, modality, status, queue_priority, urgency, reason,"
            " requested_by, requested_at) VALUES (%s,%s,%s,%s,'pending',%s,%s,%s,%s,%s)",
            (
                analysis_id,
                study.id,
                study.revision,
                study.modality,
                queue_priority.rank,
                urgency,
                reason,
                requested_by,
                now,
            ),
        )
        return Created(analysis_id=analysis_id, created=True)

    def claim(self, analysis_id: UUID, now: datetime) -> AnalysisRow | None:
        """pending, or processing whose worker died, -> processing; a new claim makes the older one powerless."""
        done = self._connection.execute(
            "UPDATE image_analyses SET status = 'processing', started_at = %s, claim = %s, attempts = attempts + 1,"
            " error_code = NULL, error_message = NULL, updated_at = %s"
            " WHERE id = %s AND status IN ('pending', 'processing') AND NOT superseded",
            (now, uuid4(), now, analysis_id),
        )
        return self.get(analysis_id) if done.rowcount == 1 else None

    def save_triage(self, analysis_id: UUID, urgency: Level, reason: str) -> None:
        """Urgency upwards only; the reason goes with it."""
        self._connection.execute(
            "UPDATE image_analyses SET urgency = %s, reason = %s WHERE id = %s AND coalesce(urgency, -1) < %s",
            (urgency.rank, reason, analysis_id, urgency.rank),
        )

    def complete(
        self, analysis_id: UUID, claim: UUID, outcome: AnalysisOutcome, now: datetime, processing_ms: int
    ) -> bool:
        """processing -> completed with its findings; False if it was cancelled or claimed by another meanwhile."""
        rest = to_json(outcome)
        for name in _BESIDE:
            rest.pop(name)
        study = self._connection.execute(
            "UPDATE image_analyses SET status = 'completed', completed_at = %s, processing_ms = %s, outcome = %s,"
            " model_version = %s, modality = coalesce(%s, modality), repeat_flagged = %s, claim = NULL,"
            " updated_at = %s,"
            " reason = CASE WHEN coalesce(urgency, -1) > %s THEN reason ELSE %s END,"
            " urgency = greatest(urgency, %s)"
            " WHERE id = %s AND status = 'processing' AND claim = %s RETURNING study_id",
            (
                now,
                processing_ms,
                Jsonb(rest),
                ", ".join(str(m) for m in outcome.models),
                outcome.modality,
                outcome.quality.flagged_for_repeat,
                now,
                outcome.triage.urgency.rank,
                outcome.triage.reason,
                outcome.triage.urgency.rank,
                analysis_id,
                claim,
            ),
        ).fetchone()
        if study is None:
            return False
        self._save_beside(analysis_id, study[0], outcome)
        return True

    def fail(self, analysis_id: UUID, code: str, message: str, now: datetime) -> bool:
        """pending or processing -> failed."""
        return self._finish(analysis_id, "failed", now, code, message)

    def back_to_pending(self, analysis_id: UUID, code: str, message: str, *, counted: bool = True) -> None:
        """After a transient error: it waits for its next attempt, and says why. Not `counted`: it was no attempt."""
        self._connection.execute(
            "UPDATE image_analyses SET status = 'pending', claim = NULL, error_code = %s, error_message = %s,"
            " attempts = attempts - %s WHERE id = %s AND status = 'processing'",
            (code, message, 0 if counted else 1, analysis_id),
        )

    def cancel(self, analysis_id: UUID, now: datetime) -> AnalysisStatus | None:
        """pending or processing -> cancelled; cancelling twice is fine."""
        if self._finish(analysis_id, "cancelled", now, None, None):
            return AnalysisStatus.CANCELLED
        row = self._connection.execute("SELECT status FROM image_analyses WHERE id = %s", (analysis_id,)).fetchone()
        if row is None:
            return None
        status = AnalysisStatus(row[0])
        if status is not AnalysisStatus.CANCELLED:
            raise Conflict(f"The analysis is {status} and cannot be cancelled.", status=status.value)
        return status

    def withdraw(self, analysis_id: UUID, code: str, message: str, now: datetime) -> bool:
        """pending or processing -> cancelled, with the reason."""
        return self._finish(analysis_id, "cancelled", now, code, message)

    def reopen(self, analysis_id: UUID, now: datetime) -> bool:
        """failed or cancelled -> pending (Retry), at the study's present revision."""
        done = self._connection.execute(
            "UPDATE image_analyses a SET status = 'pending', attempts = 0, error_code = NULL, error_message = NULL,"
            " started_at = NULL, completed_at = NULL, requested_at = %s, revision = s.revision, updated_at = %s"
            " FROM studies s WHERE s.id = a.study_id AND a.id = %s AND a.status IN ('failed', 'cancelled')"
            " AND NOT a.superseded",
            (now, now, analysis_id),
        )
        return done.rowcount == 1

    def attach_sr(self, analysis_id: UUID, object_key: str) -> None:
        """Where the SR of this analysis lies."""
        self._connection.execute(
            "UPDATE image_analyses SET sr_object_key = %s WHERE id = %s", (object_key, analysis_id)
        )

    def attach_seg(self, analysis_id: UUID, object_key: str, segment_count: int) -> None:
        """Where the SEG of this analysis lies, and how many segments are in it."""
        self._connection.execute(
            "UPDATE image_analyses SET seg_object_key = %s, seg_segment_count = %s, seg_removed_at = NULL"
            " WHERE id = %s",
            (object_key, segment_count, analysis_id),
        )

    def _finish(self, analysis_id: UUID, status: str, now: datetime, code: str | None, message: str | None) -> bool:
        done = self._connection.execute(
            "UPDATE image_analyses SET status = %s, completed_at = %s, error_code = %s, error_message = %s,"
            " claim = NULL, updated_at = %s WHERE id = %s AND status IN ('pending', 'processing')",
            (status, now, code, message, now, analysis_id),
        )
        return done.rowcount == 1

    # --- results ---------------------------------------------------------------------------------------------

    def _save_beside(self, analysis_id: UUID, study_id: UUID, outcome: AnalysisOutcome) -> None:
        tracking = tracking_uids(study_id, outcome.findings)
        with self._connection.cursor() as cursor:
            if outcome.findings:
                cursor.executemany(
                    "INSERT INTO analysis_findings (id, analysis_id, position, finding_type, severity,"
                    " confidence_score, bounding_box, slice_number, description, sop_instance_uid, details,"
                    " tracking_uid) VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s)",
                    [
                        self._finding_values(analysis_id, tracking[finding.id], position, finding)
                        for position, finding in enumerate(outcome.findings)
                    ],
                )
            if outcome.measurements:
                cursor.executemany(
                    "INSERT INTO analysis_measurements (id, analysis_id, finding_id, measurement_type, value, unit,"
                    " method, metadata, position) VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s)",
                    [
                        (
                            m.id,
                            analysis_id,
                            m.finding_id,
                            m.measurement_type,
                            m.value,
                            m.unit,
                            m.method,
                            Jsonb(dict(m.metadata)),
                            position,
                        )
                        for position, m in enumerate(outcome.measurements)
                    ],
                )
            quality = outcome.quality
            cursor.execute(
                "INSERT INTO quality_assessments (analysis_id, id, overall_quality, quality_score, issues,"
                " recommendations, flagged_for_repeat) VALUES (%s,%s,%s,%s,%s,%s,%s)",
                (
                    analysis_id,
                    uuid7(),
                    quality.level,
                    quality.score,
                    Jsonb([to_json(issue) for issue in quality.issues]),
                    quality.recommendations,
                    quality.flagged_for_repeat,
                ),
            )

    @staticmethod
    def _finding_values(analysis_id: UUID, tracking_uid: str, position: int, finding: Finding) -> tuple[Any, ...]:
        details = to_json(finding)
        for name in _FINDING_COLUMNS_ELSEWHERE:
            details.pop(name)
        box = None if finding.bounding_box is None else Jsonb(to_json(finding.bounding_box))
        return (
            finding.id,
            analysis_id,
            position,
            finding.finding_type,
            finding.severity.rank,
            round(finding.confidence, 4),
            box,
            finding.slice_number,
            finding.description,
            finding.sop_instance_uid,
            Jsonb(details),
            tracking_uid,
        )

    # --- reading ---------------------------------------------------------------------------------------------

    def get(self, analysis_id: UUID) -> AnalysisRow | None:
        """With its results."""
        row = self._rows.execute(f"{_SELECT} WHERE a.id = %s", (analysis_id,)).fetchone()
        return None if row is None else self._with_results([row])[0]

    def many(self, ids: list[UUID]) -> list[AnalysisRow]:
        """With their results, in any order."""
        if not ids:
            return []
        return self._with_results(self._rows.execute(f"{_SELECT} WHERE a.id = ANY(%s)", (ids,)).fetchall())

    def latest_for_study(self, study_id: UUID) -> AnalysisRow | None:
        """The one that is not superseded, else the newest."""
        row = self._rows.execute(
            f"{_SELECT} WHERE a.study_id = %s ORDER BY a.superseded, a.requested_at DESC LIMIT 1", (study_id,)
        ).fetchone()
        return None if row is None else self._with_results([row])[0]

    def search(self, flt: AnalysisFilter) -> tuple[tuple[AnalysisRow, ...], int]:
        """One page, and the total. Critical first, then urgent, then older first; repeats newest first."""
        where, values = conditions(flt, self._values)
        order = "a.completed_at DESC, a.id" if flt.repeat_only else "a.priority DESC, a.requested_at, a.id"
        before = (flt.page - 1) * flt.limit
        rows = self._rows.execute(
            f"{_SELECT} WHERE {where} ORDER BY {order} LIMIT %s OFFSET %s", [*values, flt.limit, before]
        ).fetchall()
        return tuple(self._with_results(rows)), total(self._connection, where, values, before, len(rows), flt.limit)

    def unfinished(self) -> tuple[AnalysisRow, ...]:
        """Pending and processing ones, oldest first: what the sweep compares with the queue."""
        rows = self._rows.execute(
            f"{_SELECT} WHERE a.status IN ('pending', 'processing') AND NOT a.superseded ORDER BY a.requested_at"
        ).fetchall()
        return tuple(analysis_row(row, self._values) for row in rows)

    def typical_seconds(self, modality: Modality | None, default: float) -> float:
        """Median of the last 50 of this modality, in seconds."""
        row = self._connection.execute(
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY processing_ms) FROM (SELECT processing_ms"
            " FROM image_analyses WHERE status = 'completed' AND modality IS NOT DISTINCT FROM %s"
            " ORDER BY completed_at DESC LIMIT 50) AS recent",
            (modality,),
        ).fetchone()
        return default if row is None or row[0] is None else float(row[0]) / 1000.0

    def waiting_before(self, queue_priority: Level) -> int:
        """Pending or running analyses that would run before a new one of this priority."""
        row = self._connection.execute(
            "SELECT count(*) FROM image_analyses WHERE status IN ('pending', 'processing') AND NOT superseded"
            " AND queue_priority >= %s",
            (queue_priority.rank,),
        ).fetchone()
        return row[0] if row else 0

    def _with_results(self, rows: list[dict[str, Any]]) -> list[AnalysisRow]:
        ids = [row["id"] for row in rows if row["outcome"] is not None]
        if not ids:
            return [analysis_row(row, self._values) for row in rows]
        findings = self._beside("analysis_findings", "position", ids)
        measurements = self._beside("analysis_measurements", "position, id", ids)
        quality = self._beside("quality_assessments", "analysis_id", ids)
        return [
            analysis_row(
                row,
                self._values,
                findings.get(row["id"], ()),
                measurements.get(row["id"], ()),
                next(iter(quality.get(row["id"], ())), None),
            )
            for row in rows
        ]

    def _beside(self, table: str, order: str, ids: list[UUID]) -> dict[UUID, list[dict[str, Any]]]:
        found: dict[UUID, list[dict[str, Any]]] = {}
        query = f"SELECT * FROM {table} WHERE analysis_id = ANY(%s) ORDER BY {order}"  # noqa: S608
        for row in self._rows.execute(query, (ids,)).fetchall():
            found.setdefault(row["analysis_id"], []).append(row)
        return found
