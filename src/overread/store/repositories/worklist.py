"""The worklist: studies with their analyses, and those that the AI did not read on purpose, in one order.

Two lists, each in the order of its own index, are merged; nothing is sorted that is not shown.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from overread.services.feature_ports import COUNTED_AT_MOST
from overread.services.values import AnalysisFilter, WorklistRow
from overread.store.cipher import Values
from overread.store.repositories.analyses import Analyses
from overread.store.repositories.analysis_search import conditions
from overread.store.repositories.identifiers import text_clause
from overread.store.repositories.rows import STUDY_COLUMNS, study_row

_NEVER_ANALYSED = "s.not_analysed_alone"
_FROM_ANALYSES = "image_analyses a"
_FROM_ANALYSES_AND_STUDIES = "image_analyses a JOIN studies s ON s.id = a.study_id"


class Worklist:
    """Implements `services.feature_ports.WorklistRepository`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], analyses: Analyses, sealed: Values) -> None:
        self._connection = connection
        self._sealed = sealed
        self._analyses = analyses

    def search(self, flt: AnalysisFilter) -> tuple[tuple[WorklistRow, ...], int]:
        """See the port."""
        analysed, values = conditions(flt, self._sealed)
        source = _FROM_ANALYSES_AND_STUDIES if "s." in analysed else _FROM_ANALYSES
        never, never_values = _never_analysed(flt, self._sealed)
        order = "a.completed_at DESC, a.id" if flt.repeat_only else "a.priority DESC, a.requested_at, a.id"
        upto = flt.page * flt.limit
        first = (
            "SELECT a.id AS analysis, a.study_id AS study, a.priority AS level, a.requested_at AS at, a.id AS tie,"  # noqa: S608
            f" a.completed_at AS done FROM {source} WHERE {analysed} ORDER BY {order} LIMIT %s"
        )
        second = (
            "SELECT NULL::uuid, s.id, s.queue_priority, s.not_analysed_since, s.id, NULL::timestamptz"  # noqa: S608
            f" FROM studies s WHERE {never} ORDER BY s.queue_priority DESC, s.not_analysed_since, s.id LIMIT %s"
        )
        merged = "done DESC, tie" if flt.repeat_only else "level DESC, at, tie"
        rows = self._connection.execute(
            f"SELECT analysis, study FROM (({first}) UNION ALL ({second})) AS both_lists"  # noqa: S608
            f" ORDER BY {merged} LIMIT %s OFFSET %s",
            [*values, upto, *never_values, upto, flt.limit, upto - flt.limit],
        ).fetchall()
        upto_here = upto - flt.limit + len(rows)
        if 0 < len(rows) < flt.limit:
            return self._rows(rows), upto_here
        total = self._count(source, analysed, values)
        if total < COUNTED_AT_MOST:
            total = min(COUNTED_AT_MOST, total + self._count("studies s", never, never_values))
        if rows and total >= COUNTED_AT_MOST:  # one more than is shown: who asks for page after page gets to the end
            total = max(total, upto_here + 1)
        return self._rows(rows), total

    def repeats(self) -> int:
        """Suggested ones of present results, counted up to a limit."""
        return self._count(_FROM_ANALYSES, "a.repeat_flagged AND NOT a.superseded", [])

    def not_analysed(self) -> int:
        """Studies, counted up to a limit."""
        return self._count("studies s", "s.not_analysed_since IS NOT NULL", [])

    def _count(self, source: str, where: str, values: list[Any]) -> int:
        row = self._connection.execute(
            f"SELECT count(*) FROM (SELECT FROM {source} WHERE {where} LIMIT %s) AS counted",  # noqa: S608
            [*values, COUNTED_AT_MOST],
        ).fetchone()
        return row[0] if row else 0

    def _rows(self, keys: list[tuple[Any, ...]]) -> tuple[WorklistRow, ...]:
        analyses = {row.id: row for row in self._analyses.many([a for a, _ in keys if a is not None])}
        alone: list[UUID] = [study for analysis, study in keys if analysis is None]
        studies = {}
        if alone:
            cursor = self._connection.cursor(row_factory=dict_row)
            query = f"SELECT {STUDY_COLUMNS} FROM studies s WHERE s.id = ANY(%s)"  # noqa: S608
            studies = {row["s_id"]: study_row(row, self._sealed) for row in cursor.execute(query, (alone,)).fetchall()}
        return tuple(
            WorklistRow(study=studies[study], analysis=None)
            if analysis is None
            else WorklistRow(study=analyses[analysis].study, analysis=analyses[analysis])
            for analysis, study in keys
        )


def _never_analysed(flt: AnalysisFilter, sealed: Values) -> tuple[str, list[Any]]:
    """The WHERE for studies without an analysis; false where the filter asks for what only an analysis has."""
    if flt.status is not None or flt.repeat_only:
        return "false", []
    clauses = [_NEVER_ANALYSED]
    values: list[Any] = []

    def add(clause: str, *parameters: Any) -> None:
        clauses.append(clause)
        values.extend(parameters)

    if flt.patient_id is not None:
        add("s.patient_id_blind = %s", sealed.index.patient_id(flt.patient_id))
    if flt.modality is not None:
        add("s.modality = %s", flt.modality)
    if flt.priority is not None:
        add("s.queue_priority = %s", flt.priority.rank)
    if flt.date_from is not None:
        add("s.not_analysed_since >= %s", flt.date_from)
    if flt.date_to is not None:
        add("s.not_analysed_since <= %s", flt.date_to)
    if flt.text:
        clause, parameters = text_clause(sealed, flt.text)
        add(clause, *parameters)
    return " AND ".join(clauses), values
