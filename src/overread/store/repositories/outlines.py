"""Outlines of segments, slice by slice: written once with the result, read one slice at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from overread.render.outlines import SliceOutline
from overread.services.values import OutlinedSegment, SlicePlace

_COLUMNS = "segment_number, slice_index, key, name, finding_id, sop_instance_uid, frame_number, rings"


class Outlines:
    """Implements `services.ports.OutlineRepository`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection
        self._rows = connection.cursor(row_factory=dict_row)

    def save(self, analysis_id: UUID, outlines: Iterable[SliceOutline]) -> None:
        """Keep them. `outlines` may be made while it is read: they go to the server as they come."""
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY analysis_outlines (analysis_id, area_px, {_COLUMNS}) FROM STDIN") as copy,
        ):
            for outline in outlines:
                copy.write_row(
                    (
                        analysis_id,
                        outline.area_px,
                        outline.segment_number,
                        outline.slice_index,
                        outline.key,
                        outline.name,
                        outline.finding_id,
                        outline.sop_instance_uid,
                        outline.frame_number,
                        Jsonb(outline.rings),
                    )
                )

    def for_instance(self, analysis_id: UUID, sop_instance_uid: str, frame: int) -> tuple[SliceOutline, ...]:
        """Those on one slice, by segment number."""
        rows = self._rows.execute(
            f"SELECT {_COLUMNS} FROM analysis_outlines WHERE analysis_id = %s AND sop_instance_uid = %s"  # noqa: S608
            " AND frame_number = %s ORDER BY segment_number, slice_index",
            (analysis_id, sop_instance_uid, frame),
        ).fetchall()
        return tuple(
            SliceOutline(**(row | {"rings": tuple(tuple((x, y) for x, y in ring) for ring in row["rings"])}))
            for row in rows
        )

    def summary(self, analysis_id: UUID) -> tuple[OutlinedSegment, ...]:
        """Every segment once, by number."""
        rows = self._rows.execute(
            "SELECT segment_number, key, name, finding_id, sop_instance_uid, frame_number, slice_index, area_px"
            " FROM analysis_outlines WHERE analysis_id = %s ORDER BY segment_number, slice_index",
            (analysis_id,),
        ).fetchall()
        by_number: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            by_number.setdefault(row["segment_number"], []).append(row)
        return tuple(
            OutlinedSegment(
                number=number,
                key=slices[0]["key"],
                name=slices[0]["name"],
                finding_id=slices[0]["finding_id"],
                slice_count=len(slices),
                first=_place(slices[0]),
                last=_place(slices[-1]),
                largest=_place(max(slices, key=lambda row: row["area_px"])),
            )
            for number, slices in by_number.items()
        )


def _place(row: dict[str, Any]) -> SlicePlace:
    return SlicePlace(
        sop_instance_uid=row["sop_instance_uid"], frame_number=row["frame_number"], slice_index=row["slice_index"]
    )
