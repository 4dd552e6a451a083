"""Filing: once, never over something else; revisions close what has come."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from overread.bootstrap import Overread
from overread.domain.analysis import AnalysisStatus
from overread.domain.priority import Level
from overread.domain.study import InstanceRecord, ReceiveOutcome, TenantId
from overread.services.values import AnalysisFilter, Filed
from tests.integration.records import SENDER, record

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
File = Callable[[InstanceRecord], Filed]


@pytest.fixture
def file(overread: Overread, tenant: TenantId) -> File:
    def do(rec: InstanceRecord) -> Filed:
        with overread.database.unit(tenant) as unit:
            return unit.studies.file_instance(rec, f"k/{rec.file_sha256}", SENDER, NOW, lambda: None)

    return do


def test_the_same_instance_twice_is_accepted_once(file: File) -> None:
    assert file(record()).outcome is ReceiveOutcome.STORED
    again = file(record())
    assert again.outcome is ReceiveOutcome.DUPLICATE
    assert not again.new_image


def test_same_pixels_with_another_header_are_a_header_revision(file: File) -> None:
    file(record())
    changed = record(file_sha256="f" * 64, patient_name="CORRECTED^NAME")
    assert file(changed).outcome is ReceiveOutcome.HEADER_REVISION
    assert file(changed).outcome is ReceiveOutcome.DUPLICATE


@pytest.mark.parametrize("change", [{"pixel_sha256": "e" * 64}, {"study_instance_uid": "1.9"}])
def test_same_uid_with_other_pixels_or_study_is_quarantined(
    overread: Overread, tenant: TenantId, file: File, change: dict[str, str]
) -> None:
    file(record())
    filed = file(record(file_sha256="f" * 64, **change))
    assert filed.outcome is ReceiveOutcome.QUARANTINED
    assert "unchanged" in filed.message
    with overread.database.unit(tenant) as unit:
        unit.studies.assemble(filed.study_id)
        (kept,) = unit.studies.instances(filed.study_id)
        (rejection,) = unit.studies.rejections(10)
    assert kept.record.file_sha256 == record().file_sha256
    assert rejection.code == "DUPLICATE_UID"
    assert rejection.object_key == "k/" + "f" * 64


def test_twenty_threads_file_into_one_study_without_loss(overread: Overread, tenant: TenantId, file: File) -> None:
    numbers = [n for n in range(1, 41) for _ in range(3)]
    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(lambda n: file(record(n)).outcome, numbers))
    assert outcomes.count(ReceiveOutcome.STORED) == 40
    assert outcomes.count(ReceiveOutcome.DUPLICATE) == 80
    with overread.database.unit(tenant) as unit:
        (waiting,) = unit.studies.waiting_for_assembly(10)
        assert unit.studies.assemble(waiting.study_id).image_count == 40


def test_a_revision_grows_only_when_an_image_came(overread: Overread, tenant: TenantId, file: File) -> None:
    study = file(record()).study_id
    with overread.database.unit(tenant) as unit:
        assert unit.studies.assemble(study).revision == 1
        assert unit.studies.assemble(study).revision == 1
    file(record(2, filed_only_reason="structured report", modality="SR"))
    with overread.database.unit(tenant) as unit:
        row = unit.studies.assemble(study)
    assert (row.revision, row.instance_count, row.image_count) == (1, 2, 1)
    assert row.dicom_modalities == ("DX", "SR")
    assert row.modality == "X-ray"


def test_two_patients_in_one_study_are_noticed(overread: Overread, tenant: TenantId, file: File) -> None:
    study = file(record()).study_id
    file(record(2, patient_id="P2"))
    with overread.database.unit(tenant) as unit:
        assert unit.studies.assemble(study).patient_conflict


def test_quiet_periods_decide_when_a_study_is_complete(overread: Overread, tenant: TenantId, file: File) -> None:
    study = file(record(1, modality="CT")).study_id

    def sweep_after(seconds: float) -> int:
        from dataclasses import replace

        return replace(overread.assemble, clock=lambda: NOW + timedelta(seconds=seconds)).sweep(tenant)

    assert sweep_after(29) == 0
    assert sweep_after(30) == 1
    assert sweep_after(31) == 0
    with overread.database.unit(tenant) as unit:
        first = unit.analyses.latest_for_study(study)
    assert first is not None
    assert (first.status, first.revision) == (AnalysisStatus.PENDING, 1)

    file(record(2, modality="CT"))
    assert sweep_after(60) == 1
    with overread.database.unit(tenant) as unit:
        rows, total = unit.analyses.search(AnalysisFilter())
    assert total == 1, "a late slice moves the analysis that has not started, it does not double it"
    assert rows[0].revision == 2


def test_text_search_takes_wildcards_literally(overread: Overread, tenant: TenantId, file: File) -> None:
    study = file(record(patient_name="O_BRIEN%^A")).study_id
    with overread.database.unit(tenant) as unit:
        overread.assemble.close_revision(unit, study, NOW)

        def count(text: str) -> int:
            return unit.analyses.search(AnalysisFilter(text=text))[1]

        assert count("o_brien%") == 1
        assert count("o%n") == 0
        assert count("'; DROP TABLE studies; --") == 0


def test_queue_priority_never_falls(overread: Overread, tenant: TenantId, file: File) -> None:
    study = file(record()).study_id
    with overread.database.unit(tenant) as unit:
        unit.studies.raise_queue_priority(study, Level.CRITICAL)
        unit.studies.raise_queue_priority(study, Level.ROUTINE)
        row = unit.studies.get(study)
    assert row is not None
    assert row.queue_priority is Level.CRITICAL
