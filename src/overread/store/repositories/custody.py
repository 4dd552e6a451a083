"""The PACS, storage commitment, and what became of objects. Implements `services.custody_ports.CustodyRepository`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from overread.services.custody_ports import (
    CustodyItem,
    CustodyReport,
    CustodyRequest,
    InstanceFacts,
    ObjectFacts,
    Pacs,
    RequestState,
    SegFacts,
)

#: What somebody does who looks at a study.
_VIEWS = ["study.view", "image.view", "analysis.view", "outlines.view", "sr.download", "seg.download"]
#: An analysis that waits, runs, or was completed so lately that its SR may still be written.
_NEEDED = """EXISTS (SELECT FROM image_analyses n WHERE n.study_id = {study} AND (n.status IN ('pending', 'processing')
    OR n.status = 'completed' AND n.sr_object_key IS NULL AND n.completed_at > now() - interval '1 day'))"""
_VIEWED = """(SELECT max(e.at) FROM audit_events e WHERE e.study_id = {study} AND e.action = ANY(%(views)s)
    AND e.at > now() - interval '2 hours')"""
_INSTANCE = f"""
    SELECT i.id, i.study_id, i.object_key, greatest(i.received_at, i.returned_at), i.custody_ae, i.custody_confirmed_at,
           i.assembled,
           i.contested OR EXISTS (SELECT FROM instance_revisions r WHERE r.instance_id = i.id),
           {_NEEDED.format(study="i.study_id")}, {_VIEWED.format(study="i.study_id")}
    FROM instances i
"""  # noqa: S608 - constants
_SEG = f"""
    SELECT a.id, a.study_id, a.seg_object_key, a.superseded OR a.status IN ('cancelled', 'failed'),
           coalesce(a.completed_at, a.updated_at), {_NEEDED.format(study="a.study_id")},
           {_VIEWED.format(study="a.study_id")}
    FROM image_analyses a
"""  # noqa: S608
_OTHERS = """
    SELECT object_key, 'header revision' FROM instance_revisions WHERE object_key = ANY(%(keys)s)
    UNION ALL SELECT object_key, 'refused' FROM rejections WHERE object_key = ANY(%(keys)s)
    UNION ALL SELECT sr_object_key, 'SR' FROM image_analyses WHERE sr_object_key = ANY(%(keys)s)
"""
_KEYS = """
    SELECT object_key FROM instances WHERE object_key IS NOT NULL
    UNION ALL SELECT object_key FROM instance_revisions
    UNION ALL SELECT object_key FROM rejections WHERE object_key IS NOT NULL
    UNION ALL SELECT sr_object_key FROM image_analyses WHERE sr_object_key IS NOT NULL
    UNION ALL SELECT seg_object_key FROM image_analyses WHERE seg_object_key IS NOT NULL
"""


class Custody:
    """See the module."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    # --- the PACS --------------------------------------------------------------------------------------------

    def pacs(self) -> Pacs | None:
        """None if none is set, or it was taken away."""
        row = self._connection.execute(
            "SELECT ae_title, host, port, tls, own_ae_title, ask_after_hours FROM pacs WHERE ae_title IS NOT NULL"
        ).fetchone()
        if row is None:
            return None
        return Pacs(ae_title=row[0], host=row[1], port=row[2], tls=row[3], own_ae_title=row[4], ask_after_hours=row[5])

    def set_pacs(self, pacs: Pacs | None, *, by: str, now: datetime) -> None:
        """None: there is none any more."""
        if pacs is None:
            self._connection.execute("UPDATE pacs SET ae_title = NULL, changed_at = %s, changed_by = %s", (now, by))
            return
        self._connection.execute(
            "INSERT INTO pacs (ae_title, host, port, tls, own_ae_title, ask_after_hours, changed_at, changed_by)"
            " VALUES (%s,%s,%s,%s,%s,%s,%s,%s) ON CONFLICT (one) DO UPDATE SET ae_title = excluded.ae_title,"
            " host = excluded.host, port = excluded.port, tls = excluded.tls, own_ae_title = excluded.own_ae_title,"
            " ask_after_hours = excluded.ask_after_hours, changed_at = excluded.changed_at,"
            " changed_by = excluded.changed_by",
            (pacs.ae_title, pacs.host, pacs.port, pacs.tls, pacs.own_ae_title, pacs.ask_after_hours, now, by),
        )

    # --- storage commitment ----------------------------------------------------------------------------------

    def take_unconfirmed(
        self, ae_title: str, *, received_before: datetime, asked_before: datetime, now: datetime, limit: int
    ) -> tuple[CustodyItem, ...]:
        """Oldest first; two processes never take the same ones."""
        rows = self._connection.execute(
            "WITH due AS (SELECT id FROM instances WHERE removed_at IS NULL AND custody_ae IS DISTINCT FROM %s"
            "   AND received_at <= %s AND (custody_asked_at IS NULL OR custody_asked_at < %s)"
            "   ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)"
            " UPDATE instances i SET custody_asked_at = %s FROM due WHERE i.id = due.id"
            " RETURNING i.id, i.record->>'sop_class_uid', i.sop_instance_uid",
            (ae_title, received_before, asked_before, limit, now),
        ).fetchall()
        return tuple(CustodyItem(instance_id=r[0], sop_class_uid=r[1], sop_instance_uid=r[2]) for r in sorted(rows))

    def begin(self, request: CustodyRequest, items: Sequence[CustodyItem]) -> None:
        """Before the request is sent."""
        self._connection.execute(
            "INSERT INTO custody_requests (transaction_uid, ae_title, asked_at, state) VALUES (%s,%s,%s,%s)",
            (request.transaction_uid, request.ae_title, request.asked_at, request.state.value),
        )
        with self._connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO custody_items (transaction_uid, instance_id, sop_instance_uid) VALUES (%s,%s,%s)",
                [(request.transaction_uid, i.instance_id, i.sop_instance_uid) for i in items],
            )

    def request(self, transaction_uid: str) -> CustodyRequest | None:
        """Locked until commit."""
        row = self._connection.execute(
            "SELECT transaction_uid, ae_title, asked_at, state FROM custody_requests WHERE transaction_uid = %s"
            " FOR UPDATE",
            (transaction_uid,),
        ).fetchone()
        if row is None:
            return None
        return CustodyRequest(transaction_uid=row[0], ae_title=row[1], asked_at=row[2], state=RequestState(row[3]))

    def end(self, transaction_uid: str, state: RequestState, now: datetime, reason: str = "") -> None:
        """What could not be asked is asked again at the next run. An answer that came meanwhile stands."""
        self._connection.execute(
            "UPDATE custody_requests SET state = %s, ended_at = %s, reason = %s"
            " WHERE transaction_uid = %s AND state = 'asked'",
            (state.value, now, reason, transaction_uid),
        )
        if state is RequestState.FAILED:
            self._connection.execute(
                "UPDATE instances i SET custody_asked_at = NULL FROM custody_items c"
                " WHERE c.transaction_uid = %s AND i.id = c.instance_id AND c.confirmed IS NULL",
                (transaction_uid,),
            )

    def expire(self, asked_before: datetime, now: datetime) -> int:
        """How many requests got no answer in time."""
        return self._connection.execute(
            "UPDATE custody_requests SET state = 'expired', ended_at = %s WHERE state = 'asked' AND asked_at < %s",
            (now, asked_before),
        ).rowcount

    def settle(self, request: CustodyRequest, report: CustodyReport, now: datetime) -> tuple[int, int]:
        """An instance that is in both lists was refused; one that was not asked for is passed over."""
        uid, refused = request.transaction_uid, report.refused
        confirmed = [u for u in report.confirmed if u not in refused]
        yes = self._connection.execute(
            "WITH said AS (UPDATE custody_items SET confirmed = true"
            "   WHERE transaction_uid = %s AND sop_instance_uid = ANY(%s) RETURNING instance_id)"
            " UPDATE instances i SET custody_ae = %s, custody_confirmed_at = %s FROM said"
            " WHERE i.id = said.instance_id AND i.removed_at IS NULL",
            (uid, confirmed, request.ae_title, now),
        ).rowcount
        no = self._connection.execute(
            "UPDATE custody_items c SET confirmed = false, failure_reason = r.reason"
            " FROM unnest(%s::text[], %s::int[]) AS r (sop_instance_uid, reason)"
            " WHERE c.transaction_uid = %s AND c.sop_instance_uid = r.sop_instance_uid",
            (list(refused), list(refused.values()), uid),
        ).rowcount
        return yes, no

    def custody_counts(self) -> Mapping[str, int]:
        """Instances by where they are."""
        row = self._connection.execute(
            "SELECT count(*) FILTER (WHERE removed_at IS NOT NULL),"
            " count(*) FILTER (WHERE removed_at IS NULL AND custody_confirmed_at IS NOT NULL),"
            " count(*) FILTER (WHERE custody_confirmed_at IS NULL) FROM instances"
        ).fetchone()
        removed, held, waiting = row or (0, 0, 0)
        return {"removed": removed, "in custody": held, "waiting": waiting}

    # --- received instances ----------------------------------------------------------------------------------

    def confirmed(self, after: UUID | None, kept_before: datetime, limit: int) -> tuple[InstanceFacts, ...]:
        """In custody, and here; by id."""
        rows = self._connection.execute(
            _INSTANCE + " WHERE i.custody_confirmed_at IS NOT NULL AND i.removed_at IS NULL"
            " AND i.id > %(after)s AND greatest(i.received_at, i.returned_at) <= %(before)s"
            " ORDER BY i.id LIMIT %(limit)s",
            {"views": _VIEWS, "after": after or UUID(int=0), "before": kept_before, "limit": limit},
        ).fetchall()
        return tuple(map(_instance, rows))

    def lock_instance(self, instance_id: UUID) -> InstanceFacts | None:
        """The lock first, in a statement of its own: what is read after it is what holds now."""
        self._connection.execute("SELECT FROM instances WHERE id = %s FOR UPDATE", (instance_id,))
        row = self._connection.execute(
            _INSTANCE + " WHERE i.id = %(id)s AND i.removed_at IS NULL", {"views": _VIEWS, "id": instance_id}
        ).fetchone()
        return None if row is None else _instance(row)

    def mark_removed(self, instance_id: UUID, now: datetime) -> None:
        """The constraint `instances_removed_in_custody` refuses it for an instance that nobody keeps."""
        self._connection.execute(
            "UPDATE instances SET removed_at = %s, object_key = NULL WHERE id = %s", (now, instance_id)
        )

    # --- segmentations ---------------------------------------------------------------------------------------

    def obsolete_segs(self, after: UUID | None, ended_before: datetime, limit: int) -> tuple[SegFacts, ...]:
        """By id."""
        rows = self._connection.execute(
            _SEG + " WHERE a.seg_object_key IS NOT NULL AND (a.superseded OR a.status IN ('cancelled', 'failed'))"
            " AND a.id > %(after)s AND coalesce(a.completed_at, a.updated_at) <= %(before)s ORDER BY a.id"
            " LIMIT %(limit)s",
            {"views": _VIEWS, "after": after or UUID(int=0), "before": ended_before, "limit": limit},
        ).fetchall()
        return tuple(map(_seg, rows))

    def lock_seg(self, analysis_id: UUID) -> SegFacts | None:
        """As `lock_instance`."""
        self._connection.execute("SELECT FROM image_analyses WHERE id = %s FOR UPDATE", (analysis_id,))
        row = self._connection.execute(
            _SEG + " WHERE a.id = %(id)s AND a.seg_object_key IS NOT NULL", {"views": _VIEWS, "id": analysis_id}
        ).fetchone()
        return None if row is None else _seg(row)

    def mark_seg_removed(self, analysis_id: UUID, now: datetime) -> None:
        """Findings, outlines and SR stay."""
        self._connection.execute(
            "UPDATE image_analyses SET seg_object_key = NULL, seg_removed_at = %s WHERE id = %s", (now, analysis_id)
        )

    # --- objects ---------------------------------------------------------------------------------------------

    def facts(self, keys: Collection[str]) -> Mapping[str, ObjectFacts]:
        """A key that several rows name stays for the sake of the one that says so."""
        arguments = {"views": _VIEWS, "keys": list(keys)}
        found: dict[str, ObjectFacts] = {}
        for row in self._connection.execute(_INSTANCE + " WHERE i.object_key = ANY(%(keys)s)", arguments).fetchall():
            found[row[2]] = ObjectFacts(instance=_instance(row))
        for row in self._connection.execute(_SEG + " WHERE a.seg_object_key = ANY(%(keys)s)", arguments).fetchall():
            found[row[2]] = ObjectFacts(seg=_seg(row))
        for key, what in self._connection.execute(_OTHERS, arguments).fetchall():
            found[key] = ObjectFacts(other=what)
        return found

    def object_keys(self) -> Iterator[str]:
        """By a cursor: there may be a million."""
        with self._connection.cursor("object_keys") as cursor:
            cursor.itersize = 5000
            cursor.execute(_KEYS)
            for (key,) in cursor:
                yield key


def _instance(row: tuple[Any, ...]) -> InstanceFacts:
    return InstanceFacts(
        instance_id=row[0],
        study_id=row[1],
        object_key=row[2],
        kept_since=row[3],
        custody_ae=row[4],
        custody_confirmed_at=row[5],
        assembled=row[6],
        contested=row[7],
        needed=row[8],
        last_viewed=row[9],
    )


def _seg(row: tuple[Any, ...]) -> SegFacts:
    return SegFacts(
        analysis_id=row[0],
        study_id=row[1],
        object_key=row[2],
        obsolete=row[3],
        ended_at=row[4],
        needed=row[5],
        last_viewed=row[6],
    )
