"""Custody and retention on the real database and the real object store."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from overread import bootstrap
from overread.domain.errors import InPacs, ObjectMissing, UnknownTransaction
from overread.domain.study import ReceiveOutcome, TenantId
from overread.services.custody import CustodyService, read_instance
from overread.services.custody_ports import CustodyReport, Pacs
from overread.services.retention import Goes, RetentionService, Stays
from tests.integration.records import SENDER, record

ARCHIVE = Pacs(ae_title="ARCHIVE", host="127.0.0.1", port=1, ask_after_hours=0)


class Clock:
    """Moves on when told; database and files keep their own time, which is why the tests look ahead."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> Any:
        return bootstrap.now() + self.ahead


class Peer:
    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def ask(self, pacs: Any, transaction_uid: str, items: Any, take: Any) -> None:
        self.asked.append((transaction_uid, tuple(i.sop_instance_uid for i in items)))


class Hospital:
    def __init__(self, overread: bootstrap.Overread, tenant: TenantId) -> None:
        self.overread, self.tenant, self.clock, self.peer = overread, tenant, Clock(), Peer()
        self.custody = CustodyService(database=overread.database, clock=self.clock, peer=self.peer)
        self.retention = RetentionService(
            database=overread.database,
            objects=overread.objects,
            clock=self.clock,
            choices=overread.tenant_settings.current,
        )

    def file(self, number: int, data: bytes = b"image", **changes: Any) -> tuple[ReceiveOutcome, str]:
        filed = record(number, **({"modality": "CT"} | changes))
        key = f"instances/{filed.file_sha256[:8]}/{number}-{filed.pixel_sha256[-4:]}.dcm"
        with self.overread.database.unit(self.tenant) as unit:
            done = unit.studies.file_instance(
                filed, key, SENDER, self.clock(), lambda: self.overread.objects.put(self.tenant, key, data)
            )
        return done.outcome, key

    def assemble(self) -> UUID:
        with self.overread.database.unit(self.tenant) as unit:
            study = unit.studies.find("1.2")
            assert study is not None
            unit.studies.assemble(study.id)
        return study.id

    def keep(self, days: int = 0) -> None:
        self.overread.tenant_settings.set(self.tenant, "received_days", str(days), reason="test", actor="test")
        self.custody.set_pacs(self.tenant, ARCHIVE, by="test")

    def confirm(self, *uids: str) -> None:
        self.custody.ask(self.tenant)
        transaction, _ = self.peer.asked[-1]
        self.custody.report(
            self.tenant,
            "ARCHIVE",
            CustodyReport(transaction_uid=transaction, confirmed=frozenset(uids), refused={}),
        )


@pytest.fixture
def hospital(overread: bootstrap.Overread, tenant: TenantId) -> Hospital:
    return Hospital(overread, tenant)


def test_confirmed_instances_go_and_the_others_stay(hospital: Hospital) -> None:
    keys = [hospital.file(number)[1] for number in (1, 2, 3)]
    study = hospital.assemble()
    hospital.keep()
    assert hospital.retention.plan(hospital.tenant).stays[Stays.UNCONFIRMED].count == 3
    hospital.confirm("1.2.3.1", "1.2.3.2", "9.9.9")
    plan = hospital.retention.plan(hospital.tenant)
    assert plan.goes[Goes.IN_PACS].count == 2
    assert plan.stays[Stays.UNCONFIRMED].count == 1
    assert hospital.retention.run(hospital.tenant).instances == 2
    objects = hospital.overread.objects
    assert [objects.exists(hospital.tenant, key) for key in keys] == [False, False, True]
    with hospital.overread.database.unit(hospital.tenant) as unit:
        stored = unit.studies.instances(study)
        counts = unit.custody.custody_counts()
    assert counts == {"removed": 2, "in custody": 0, "waiting": 1}
    assert [s.in_pacs is not None for s in stored] == [True, True, False]
    with pytest.raises(InPacs, match="ARCHIVE"):
        read_instance(objects, hospital.tenant, stored[0])
    assert read_instance(objects, hospital.tenant, stored[2]) == b"image"
    plan = hospital.retention.plan(hospital.tenant)
    assert plan.missing_count == 0  # what went is not missed
    assert not plan.goes


def test_the_database_itself_refuses_a_removal_without_custody(hospital: Hospital) -> None:
    hospital.file(1)
    with pytest.raises(psycopg.errors.CheckViolation), hospital.overread.database.unit(hospital.tenant) as unit:
        unit.connection.execute("UPDATE instances SET removed_at = now(), object_key = NULL")
    with pytest.raises(psycopg.errors.CheckViolation), hospital.overread.database.unit(hospital.tenant) as unit:
        unit.connection.execute("UPDATE instances SET object_key = NULL")


def test_sent_again_after_it_went_it_is_here_again(hospital: Hospital) -> None:
    _, key = hospital.file(1)
    hospital.assemble()
    hospital.keep()
    hospital.confirm("1.2.3.1")
    assert hospital.retention.run(hospital.tenant).instances == 1
    assert hospital.file(1, b"image")[0] is ReceiveOutcome.DUPLICATE
    assert hospital.overread.objects.get(hospital.tenant, key) == b"image"
    with hospital.overread.database.unit(hospital.tenant) as unit:
        assert unit.custody.facts([key])[key].instance is not None


@pytest.mark.parametrize("changes", [{"pixel_sha256": "f" * 64, "file_sha256": "e" * 64}, {"file_sha256": "e" * 64}])
def test_what_came_twice_with_different_content_stays(hospital: Hospital, changes: dict[str, str]) -> None:
    _, first = hospital.file(1)
    _, second = hospital.file(1, b"another", **changes)
    hospital.assemble()
    hospital.keep()
    hospital.confirm("1.2.3.1")
    plan = hospital.retention.plan(hospital.tenant)
    assert plan.stays[Stays.CONTESTED].count == 1
    assert hospital.retention.run(hospital.tenant).instances == 0
    assert hospital.overread.objects.get(hospital.tenant, first) == b"image"
    assert hospital.overread.objects.get(hospital.tenant, second) == b"another"


def test_a_study_that_is_looked_at_or_analysed_is_held(hospital: Hospital) -> None:
    hospital.file(1)
    study_id = hospital.assemble()
    hospital.keep()
    hospital.confirm("1.2.3.1")
    with hospital.overread.database.unit(hospital.tenant) as unit:
        unit.audit.record("study.view", actor="dr", study_id=study_id)  # type: ignore[arg-type]
    assert hospital.retention.plan(hospital.tenant).stays[Stays.OPEN].count == 1
    assert hospital.retention.run(hospital.tenant).instances == 0
    hospital.clock.ahead = timedelta(hours=1)
    assert hospital.retention.plan(hospital.tenant).goes[Goes.IN_PACS].count == 1
    with hospital.overread.database.unit(hospital.tenant) as unit:
        hospital.overread.assemble.close_revision(unit, study_id, hospital.clock())
    with hospital.overread.database.unit(hospital.tenant) as unit:
        analysis = unit.analyses.latest_for_study(study_id)
    if analysis is not None:  # a revision with an image is analysed
        assert hospital.retention.plan(hospital.tenant).stays[Stays.NEEDED].count == 1
        assert hospital.retention.run(hospital.tenant).instances == 0


def test_another_hospital_cannot_answer(overread: bootstrap.Overread, tenant: TenantId, other_tenant: TenantId) -> None:
    mine, theirs = Hospital(overread, tenant), Hospital(overread, other_tenant)
    for each in (mine, theirs):
        each.file(1)
        each.assemble()
        each.keep()
    mine.custody.ask(tenant)
    transaction, _ = mine.peer.asked[-1]
    said = CustodyReport(transaction_uid=transaction, confirmed=frozenset({"1.2.3.1"}), refused={})
    with pytest.raises(UnknownTransaction):
        theirs.custody.report(other_tenant, "ARCHIVE", said)
    with pytest.raises(UnknownTransaction):
        mine.custody.report(tenant, "THEIRS", said)
    for each in (mine, theirs):
        assert each.retention.run(each.tenant).instances == 0


def test_two_processes_never_ask_for_the_same(hospital: Hospital) -> None:
    for number in range(1, 41):
        hospital.file(number)
    hospital.keep()
    peers = [Peer(), Peer(), Peer()]
    threads = [
        threading.Thread(
            target=CustodyService(database=hospital.overread.database, clock=hospital.clock, peer=peer).ask,
            args=(hospital.tenant,),
        )
        for peer in peers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = [uid for peer in peers for _, uids in peer.asked for uid in uids]
    assert sorted(asked) == sorted({f"1.2.3.{n}" for n in range(1, 41)})


def test_removing_and_sending_again_at_once_loses_nothing(hospital: Hospital) -> None:
    """Retention and a sender that repeats itself race; after each acknowledged answer the object is here or removed
    with custody, and row and object agree."""
    _, key = hospital.file(1)
    hospital.assemble()
    hospital.keep()
    hospital.confirm("1.2.3.1")
    ended = time.monotonic() + 4.0
    errors: list[Exception] = []

    def again(work: Any) -> None:
        try:
            while time.monotonic() < ended:
                work()
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [
        threading.Thread(target=again, args=(lambda: hospital.file(1),)),
        threading.Thread(target=again, args=(lambda: hospital.retention.run(hospital.tenant, orphans=False),)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with hospital.overread.database.unit(hospital.tenant) as unit:
        facts = unit.custody.facts([key])
    if key in facts:
        assert hospital.overread.objects.get(hospital.tenant, key) == b"image"


def test_files_without_a_row_are_put_aside_then_removed(hospital: Hospital) -> None:
    hospital.file(1)
    hospital.assemble()
    objects = hospital.overread.objects
    objects.put(hospital.tenant, "instances/aa/left.dcm", b"of a crash")
    folder = Path(hospital.overread.settings.state_dir / "objects" / hospital.tenant.slug)
    (left,) = folder.glob("*/instances~aa~left.dcm")
    assert not list(hospital.retention.orphans(hospital.tenant))
    two_days_ago = time.time() - 2 * 86400
    os.utime(left, (two_days_ago, two_days_ago))
    assert [kept.key for kept in hospital.retention.orphans(hospital.tenant)] == ["instances/aa/left.dcm"]
    assert hospital.retention.run(hospital.tenant).aside == 1
    with pytest.raises(ObjectMissing):
        objects.get(hospital.tenant, "instances/aa/left.dcm")
    assert hospital.retention.run(hospital.tenant).unnamed == 0
    (left,) = folder.glob("*/trash~instances~aa~left.dcm")
    os.utime(left, (two_days_ago, two_days_ago))
    assert hospital.retention.run(hospital.tenant).unnamed == 1
    assert len(list(objects.list(hospital.tenant))) == 1
