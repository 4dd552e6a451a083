"""Outlines, SEG keys and the metadata of measurements in PostgreSQL, and the migration of a tenant that has results."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from overread import bootstrap
from overread.bootstrap import Overread
from overread.config import Settings
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.http.results import result_from_row
from overread.render.outlines import SliceOutline, outlines
from overread.services.tracking import tracking_uids
from overread.services.values import AnalysisRow
from overread.store import roles
from tests.integration.records import SENDER, record
from tests.segmented import NODULE_ID, boxes, grid, lung, nodule, outcome

NOW = datetime(2026, 5, 1, 10, 30, tzinfo=UTC)
SMALL = grid(shape=(12, 32, 36))


@pytest.fixture
def owner(settings: Settings) -> Iterator[psycopg.Connection]:
    """The owner's connection: what migrations may do."""
    with psycopg.connect(bootstrap.owner_conninfo(settings), autocommit=True) as connection:
        yield connection


def claimed(overread: Overread, tenant: TenantId) -> AnalysisRow:
    """An analysis that is being read."""
    with overread.database.unit(tenant) as unit:
        unit.studies.file_instance(record(modality="CT"), "k", SENDER, NOW, lambda: None)
        study = unit.studies.find("1.2")
        assert study is not None
        study = unit.studies.assemble(study.id)
        made = unit.analyses.create(
            study, requested_by="test", queue_priority=study.queue_priority, now=NOW, analysis_id=uuid7()
        )
        row = unit.analyses.claim(made.analysis_id, NOW)
    assert row is not None
    return row


def all_outlines() -> list[SliceOutline]:
    one, other = boxes(SMALL)
    return list(outlines([lung(SMALL, one), nodule(SMALL, other)], SMALL))


def complete(overread: Overread, tenant: TenantId, row: AnalysisRow, seg: str | None = None) -> None:
    assert row.claim is not None
    with overread.database.unit(tenant) as unit:
        assert unit.analyses.complete(row.id, row.claim, outcome("1.2.5"), NOW, 900)
        unit.outlines.save(row.id, iter(all_outlines()))
        if seg is not None:
            unit.analyses.attach_seg(row.id, seg, 2)


def test_outlines_come_back_as_they_were(overread: Overread, tenant: TenantId) -> None:
    row = claimed(overread, tenant)
    complete(overread, tenant, row)
    with overread.database.unit(tenant) as unit:
        for slice_index in range(12):
            uid = SMALL.sop_instance_uids[slice_index]
            kept = unit.outlines.for_instance(row.id, uid, 1)
            assert kept == tuple(o for o in all_outlines() if o.slice_index == slice_index)
        assert unit.outlines.for_instance(row.id, SMALL.sop_instance_uids[4], 2) == ()
        assert unit.outlines.for_instance(uuid4(), SMALL.sop_instance_uids[4], 1) == ()


def test_the_summary_is_the_fakes(overread: Overread, tenant: TenantId) -> None:
    row = claimed(overread, tenant)
    complete(overread, tenant, row)
    with overread.database.unit(tenant) as unit:
        organ, lesion = unit.outlines.summary(row.id)
        assert unit.outlines.summary(uuid4()) == ()
    assert (organ.number, organ.key, organ.name, organ.finding_id) == (1, "lung_right", "Right lung", None)
    assert (organ.first.slice_index, organ.last.slice_index, organ.slice_count) == (2, 8, 7)
    assert (lesion.number, lesion.finding_id) == (2, NODULE_ID)
    assert lesion.largest.sop_instance_uid == SMALL.sop_instance_uids[lesion.largest.slice_index]


def test_the_seg_is_attached_in_the_transaction_that_completes(overread: Overread, tenant: TenantId) -> None:
    row = claimed(overread, tenant)
    with pytest.raises(RuntimeError, match="killed"), overread.database.unit(tenant) as unit:
        assert row.claim is not None
        assert unit.analyses.complete(row.id, row.claim, outcome("1.2.5"), NOW, 900)
        unit.outlines.save(row.id, all_outlines())
        unit.analyses.attach_seg(row.id, "seg/1.dcm", 2)
        raise RuntimeError("killed")
    with overread.database.unit(tenant) as unit:
        before = unit.analyses.get(row.id)
        assert before is not None
        assert (before.status, before.seg_object_key) == ("processing", None)
        assert unit.outlines.summary(row.id) == ()
    complete(overread, tenant, row, "seg/1.dcm")
    with overread.database.unit(tenant) as unit:
        after = unit.analyses.get(row.id)
        assert after is not None
        assert (after.status, after.seg_object_key, after.seg_segment_count) == ("completed", "seg/1.dcm", 2)


def test_measurements_keep_metadata_and_order(overread: Overread, tenant: TenantId) -> None:
    row = claimed(overread, tenant)
    complete(overread, tenant, row)
    with overread.database.unit(tenant) as unit:
        done = unit.analyses.get(row.id)
    assert done is not None
    assert done.outcome is not None
    assert done.outcome.measurements == outcome("1.2.5").measurements
    wire = result_from_row(done).measurements
    assert wire[2].metadata == {"site": "lung_right", "threshold_hu": -950}


def test_tracking_uids_are_those_that_the_seg_was_given(overread: Overread, tenant: TenantId) -> None:
    row = claimed(overread, tenant)
    complete(overread, tenant, row)
    with overread.database.unit(tenant) as unit:
        done = unit.analyses.get(row.id)
    assert done is not None
    assert done.tracking_uids == tracking_uids(row.study.id, outcome("1.2.5").findings)


def test_another_tenant_sees_nothing(overread: Overread, tenant: TenantId, other_tenant: TenantId) -> None:
    row = claimed(overread, tenant)
    complete(overread, tenant, row)
    with overread.database.unit(other_tenant) as unit:
        assert unit.outlines.summary(row.id) == ()
        assert unit.outlines.for_instance(row.id, SMALL.sop_instance_uids[4], 1) == ()


def test_outlines_go_with_their_analysis(overread: Overread, tenant: TenantId, owner: psycopg.Connection) -> None:
    row = claimed(overread, tenant)
    complete(overread, tenant, row)
    schema = roles.tenant_role(tenant)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), overread.database.unit(tenant) as unit:
        unit.outlines._connection.execute("DELETE FROM analysis_outlines")
    owner.execute(f"DELETE FROM {schema}.image_analyses WHERE id = %s", (row.id,))
    assert owner.execute(f"SELECT count(*) FROM {schema}.analysis_outlines").fetchone() == (0,)
