"""The WHERE of a search in the analyses, and how many there are."""

from __future__ import annotations

from typing import Any

import psycopg

from overread.services.feature_ports import COUNTED_AT_MOST
from overread.services.values import AnalysisFilter
from overread.store.cipher import Values
from overread.store.repositories.identifiers import text_clause


def conditions(flt: AnalysisFilter, sealed: Values) -> tuple[str, list[Any]]:
    """The WHERE of a search, every value a parameter."""
    clauses: list[str] = ["true"]
    values: list[Any] = []

    def add(clause: str, *parameters: Any) -> None:
        clauses.append(clause)
        values.extend(parameters)

    if not flt.with_superseded:
        add("NOT a.superseded")
    if flt.repeat_only:
        add("a.repeat_flagged")
    if flt.patient_id is not None:
        add("s.patient_id_blind = %s", sealed.index.patient_id(flt.patient_id))
    if flt.modality is not None:
        add("a.modality = %s", flt.modality)
    if flt.status is not None:
        add("a.status = %s", flt.status)
    if flt.priority is not None:
        add("a.priority = %s", flt.priority.rank)
    if flt.date_from is not None:
        add("a.requested_at >= %s", flt.date_from)
    if flt.date_to is not None:
        add("a.requested_at <= %s", flt.date_to)
    if flt.not_analysed_only:
        # An array, so that the few studies lead to their analyses and not a million analyses to their studies.
        add(
            "a.study_id = ANY (ARRAY(SELECT u.id FROM studies u WHERE u.not_analysed_since IS NOT NULL"
            " AND NOT u.not_analysed_alone))"
        )
    if flt.text:
        clause, parameters = text_clause(sealed, flt.text)
        add(clause, *parameters)
    return " AND ".join(clauses), values


def total(
    connection: psycopg.Connection[tuple[Any, ...]], where: str, values: list[Any], before: int, shown: int, limit: int
) -> int:
    """Exact up to `COUNTED_AT_MOST`, beyond it the planner's estimate: to count a million takes 100 ms each time.

    Never less than what the pages up to this one hold, and one more while a page is full: whoever asks for page
    after page gets to the end.
    """
    if 0 < shown < limit:
        return before + shown
    source = "image_analyses a JOIN studies s ON s.id = a.study_id" if "s." in where else "image_analyses a"
    counted = connection.execute(
        f"SELECT count(*) FROM (SELECT FROM {source} WHERE {where} LIMIT %s) AS counted",  # noqa: S608
        [*values, COUNTED_AT_MOST + 1],
    ).fetchone()
    total: int = counted[0] if counted else 0
    if total <= COUNTED_AT_MOST:
        return total
    plan = connection.execute(
        f"EXPLAIN (FORMAT JSON) SELECT FROM {source} WHERE {where}",
        values,
    ).fetchone()
    estimate = int(plan[0][0]["Plan"]["Plan Rows"]) if plan else 0
    return max(total, estimate, before + shown + (1 if shown == limit else 0))
