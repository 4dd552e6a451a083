"""Whatever happens in whatever order: what the PACS has not confirmed stays, and what is removed was confirmed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from tests.fakes import FakeClock, FakeDatabase, FakeObjects
from tests.integration.records import record

from overread.domain.errors import InPacs, InvalidRequest, ObjectMissing, PacsUnavailable, UnknownTransaction
from overread.domain.study import InstanceRecord, Sender, TenantId
from overread.services.assemble import AssembleService
from overread.services.custody import CustodyService, read_instance
from overread.services.custody_ports import CustodyItem, CustodyReport, InstanceFacts, Pacs
from overread.services.receive import ReceiveService
from overread.services.retention import Goes, Policy, RetentionService, Stays, instance_verdict
from overread.services.tenant_settings import TenantSettings

DEMO, OTHER = TenantId(slug="demo"), TenantId(slug="other")
ARCHIVE = Pacs(ae_title="ARCHIVE", host="10.0.0.7", port=104, ask_after_hours=1)


class Peer:
    """A PACS that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []
        self.away = False

    def ask(
        self, pacs: Pacs, transaction_uid: str, items: Sequence[CustodyItem], take: Callable[[CustodyReport], None]
    ) -> None:
        if self.away:
            raise PacsUnavailable("The PACS cannot be reached.")
        self.asked.append((pacs.ae_title, transaction_uid, tuple(i.sop_instance_uid for i in items)))


class Parser:
    """Bytes are `uid|content`."""

    def index(self, data: bytes | memoryview, *, name: str) -> InstanceRecord:
        uid, content = bytes(data).decode().split("|")
        return record(
            sop_instance_uid=uid,
            modality="CT",
            pixel_sha256=hashlib.sha256(content.encode()).hexdigest(),
            file_sha256=hashlib.sha256(bytes(data)).hexdigest(),
        )

    def image(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class Hospital:
    """All of it on fakes."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.database = FakeDatabase()
        self.objects = FakeObjects(self.clock)
        self.peer = Peer()
        self.choice = TenantSettings(received_days=1)
        self.receive = ReceiveService(
            database=self.database,
            objects=self.objects,
            parser=Parser(),
            assemble=AssembleService(database=self.database, clock=self.clock),
            clock=self.clock,
        )
        self.custody = CustodyService(database=self.database, clock=self.clock, peer=self.peer)
        self.retention = RetentionService(
            database=self.database, objects=self.objects, clock=self.clock, choices=lambda _tenant: self.choice
        )

    def send(self, uid: str, content: str = "pixels", tenant: TenantId = DEMO) -> None:
        self.receive.receive(
            tenant, f"{uid}|{content}".encode(), Sender(channel="dicom", name="CT1", address="10.0.0.1"), name=uid
        )

    def assemble(self, tenant: TenantId = DEMO) -> None:
        with self.database.unit(tenant) as unit:
            for study in list(self.database.state(tenant).studies):
                unit.studies.assemble(study)

    def here(self, uid: str, tenant: TenantId = DEMO) -> bool:
        """The object is there, and the row says so."""
        state = self.database.state(tenant)
        kept = state.custody.kept[state.instances[uid].id]
        assert (kept.object_key is None) == (kept.removed_at is not None)
        return kept.object_key is not None and self.objects.exists(tenant, kept.object_key)

    def confirmed(self, *uids: str) -> None:
        """By the whole way: asked, answered."""
        self.custody.set_pacs(DEMO, ARCHIVE, by="test")
        self.clock.advance(hours=2)
        self.custody.ask(DEMO)
        _, transaction, asked = self.peer.asked[-1]
        assert set(uids) <= set(asked)
        self.custody.report(DEMO, "ARCHIVE", report(transaction, uids))


def report(transaction: str, confirmed: Sequence[str] = (), refused: Sequence[str] = ()) -> CustodyReport:
    return CustodyReport(
        transaction_uid=transaction, confirmed=frozenset(confirmed), refused=dict.fromkeys(refused, 0x0112)
    )


def test_what_the_pacs_keeps_goes_after_its_days_and_says_where_it_is() -> None:
    h = Hospital()
    h.send("1.2.1")
    h.assemble()
    h.confirmed("1.2.1")
    assert h.retention.run(DEMO).instances == 0  # a day has not passed
    h.clock.advance(days=1)
    assert h.retention.plan(DEMO).goes[Goes.IN_PACS].count == 1
    assert h.here("1.2.1")  # looking removes nothing
    assert h.retention.run(DEMO).instances == 1
    assert not h.here("1.2.1")
    study = next(iter(h.database.state(DEMO).studies))
    with h.database.unit(DEMO) as unit:
        (stored,) = unit.studies.instances(study)
    with pytest.raises(InPacs, match="in the PACS ARCHIVE since 2026-01-15"):
        read_instance(h.objects, DEMO, stored)
    assert any(row[0] == "objects.deleted" for row in h.database.state(DEMO).audit)


def test_sent_again_it_is_here_again_and_its_days_begin_anew() -> None:
    h = Hospital()
    h.send("1.2.1")
    h.assemble()
    h.confirmed("1.2.1")
    h.clock.advance(days=1)
    h.retention.run(DEMO)
    h.send("1.2.1")
    assert h.here("1.2.1")
    assert h.retention.run(DEMO).instances == 0
    h.clock.advance(days=1)
    assert h.retention.run(DEMO).instances == 1


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda h: h.custody.set_pacs(DEMO, None, by="test"), Stays.NO_PACS),
        (lambda h: h.custody.set_pacs(DEMO, replace(ARCHIVE, ae_title="NEW"), by="test"), Stays.OTHER_PACS),
        (lambda h: setattr(h, "choice", TenantSettings()), Stays.NEVER),
        (lambda h: h.send("1.2.1", "other pixels"), Stays.CONTESTED),
        (lambda h: h.database.state(DEMO).custody.viewed.update({study_of(h): h.clock()}), Stays.OPEN),
        (lambda h: h.database.state(DEMO).waiting.update({"1.2.1": h.clock()}), Stays.ARRIVING),
    ],
)
def test_it_stays_and_the_dry_run_says_why(spoil: Callable[[Hospital], None], why: Stays) -> None:
    h = Hospital()
    h.send("1.2.1")
    h.assemble()
    h.confirmed("1.2.1")
    h.clock.advance(days=2)
    spoil(h)
    plan = h.retention.plan(DEMO)
    assert plan.stays[why].count == 1
    assert Goes.IN_PACS not in plan.goes
    assert h.retention.run(DEMO).instances == 0
    assert h.here("1.2.1")


def study_of(h: Hospital) -> UUID:
    return next(iter(h.database.state(DEMO).studies))


def test_an_answer_counts_only_from_who_was_asked_for_what_was_asked() -> None:
    h = Hospital()
    h.send("1.2.1")
    h.send("1.2.2")
    h.send("1.2.1", tenant=OTHER)
    h.custody.set_pacs(DEMO, ARCHIVE, by="test")
    h.custody.set_pacs(OTHER, replace(ARCHIVE, ae_title="THEIRS"), by="test")
    h.clock.advance(hours=2)
    h.custody.ask(DEMO)
    _, transaction, _ = h.peer.asked[0]
    for tenant, calling, uid in (
        (DEMO, "EVIL", transaction),
        (OTHER, "THEIRS", transaction),  # another hospital's AE
        (OTHER, "ARCHIVE", transaction),
        (DEMO, "ARCHIVE", "2.25.1"),
    ):
        with pytest.raises(UnknownTransaction):
            h.custody.report(tenant, calling, report(uid, ["1.2.1"]))
    h.custody.report(DEMO, "ARCHIVE", report(transaction, ["1.2.1", "9.9.9"], ["1.2.2"]))
    kept = {k.sop_instance_uid: k.ae for k in h.database.state(DEMO).custody.kept.values()}
    assert kept == {"1.2.1": "ARCHIVE", "1.2.2": None}
    h.custody.report(DEMO, "ARCHIVE", report(transaction, ["1.2.2"]))  # once more, changed: taken, and ignored
    kept = {k.sop_instance_uid: k.ae for k in h.database.state(DEMO).custody.kept.values()}
    assert kept["1.2.2"] is None
    assert {k.ae for k in h.database.state(OTHER).custody.kept.values()} == {None}


def test_refused_in_one_list_and_confirmed_in_the_other_is_refused() -> None:
    h = Hospital()
    h.send("1.2.1")
    h.custody.set_pacs(DEMO, ARCHIVE, by="test")
    h.clock.advance(hours=2)
    h.custody.ask(DEMO)
    h.custody.report(DEMO, "ARCHIVE", report(h.peer.asked[0][1], ["1.2.1"], ["1.2.1"]))
    assert {k.ae for k in h.database.state(DEMO).custody.kept.values()} == {None}


def test_a_late_answer_is_refused_and_the_pacs_is_asked_again() -> None:
    h = Hospital()
    h.send("1.2.1")
    h.custody.set_pacs(DEMO, ARCHIVE, by="test")
    h.clock.advance(hours=2)
    h.custody.ask(DEMO)
    h.clock.advance(hours=25)
    with pytest.raises(UnknownTransaction, match="over"):
        h.custody.report(DEMO, "ARCHIVE", report(h.peer.asked[0][1], ["1.2.1"]))
    assert h.custody.ask(DEMO).expired == 1
    assert len(h.peer.asked) == 2


def test_a_pacs_that_is_away_is_asked_at_the_next_run() -> None:
    h = Hospital()
    h.send("1.2.1")
    h.custody.set_pacs(DEMO, ARCHIVE, by="test")
    h.clock.advance(hours=2)
    h.peer.away = True
    assert h.custody.ask(DEMO).failed == 1
    h.peer.away = False
    assert h.custody.ask(DEMO).instances == 1
    assert h.custody.ask(DEMO).instances == 0  # it was asked; it has a day to answer


def test_unnamed_objects_go_in_two_steps_and_come_back_if_they_are_named_meanwhile() -> None:
    h = Hospital()
    h.send("1.2.1")
    (key,) = (kept.key for kept in h.objects.list(DEMO))
    data = h.objects.get(DEMO, key)
    h.objects.put(DEMO, "sr/left.dcm", b"of a crash")
    assert h.retention.run(DEMO).aside == 0  # new: its transaction may be under way
    h.clock.advance(days=1)
    assert [kept.key for kept in h.retention.orphans(DEMO)] == ["sr/left.dcm"]
    assert h.retention.run(DEMO).aside == 1
    assert not h.objects.exists(DEMO, "sr/left.dcm")
    h.objects.delete(DEMO, key)
    h.objects.put(DEMO, f"trash/{key}", data)  # as if its row had been committed just after it was put aside
    assert h.retention.plan(DEMO).missing == [key]
    assert h.retention.run(DEMO).restored == 1
    assert h.objects.get(DEMO, key) == data
    h.clock.advance(days=1)
    assert h.retention.run(DEMO).unnamed == 1
    assert h.here("1.2.1")
    assert [kept.key for kept in h.objects.list(DEMO)] == [key]


def test_rows_without_objects_are_told() -> None:
    h = Hospital()
    h.send("1.2.1")
    (key,) = (kept.key for kept in h.objects.list(DEMO))
    h.objects.delete(DEMO, key)
    assert h.retention.plan(DEMO).missing == [key]
    assert list(h.retention.missing(DEMO)) == [key]


@pytest.mark.parametrize(
    "pacs", [{"ae_title": ""}, {"ae_title": "A" * 17}, {"ae_title": "A\\B"}, {"port": 0}, {"host": " "}]
)
def test_a_pacs_that_cannot_be_is_refused(pacs: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        Hospital().custody.set_pacs(DEMO, replace(ARCHIVE, **pacs), by="test")


_moments = st.one_of(st.none(), st.integers(0, 800).map(lambda d: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=d)))


@given(
    confirmed=_moments,
    ae=st.sampled_from([None, "ARCHIVE", "NEW"]),
    pacs=st.sampled_from([None, ARCHIVE]),
    days=st.sampled_from([None, 0, 1, 400]),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    viewed=_moments,
    age=st.integers(-5, 800),
)
def test_no_rule_lets_an_instance_go_without_custody_by_the_present_pacs(
    confirmed: datetime | None,
    ae: str | None,
    pacs: Pacs | None,
    days: int | None,
    flags: tuple[bool, bool, bool],
    viewed: datetime | None,
    age: int,
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    facts = InstanceFacts(
        instance_id=uuid4(),
        study_id=uuid4(),
        object_key="k",
        kept_since=now - timedelta(days=age),
        custody_ae=ae,
        custody_confirmed_at=confirmed,
        assembled=flags[0],
        contested=flags[1],
        needed=flags[2],
        last_viewed=viewed,
    )
    verdict = instance_verdict(facts, Policy(pacs=pacs, received_days=days, derived_hours=24), now)
    if isinstance(verdict, Goes):
        assert pacs is not None
        assert confirmed is not None
        assert ae == pacs.ae_title
        assert days is not None
        assert age >= days
        assert flags == (True, False, False)


class AnyOrder(RuleBasedStateMachine):
    """Receiving, asking, answering (rightly and wrongly), changing the PACS, time, and retention: in any order."""

    uids = Bundle("uids")
    transactions = Bundle("transactions")

    def __init__(self) -> None:
        super().__init__()
        self.h = Hospital()
        #: (uid, AE) that a PACS confirmed under a transaction that it was asked in, as this test saw it.
        self.said: set[tuple[str, str]] = set()
        self.sent: set[str] = set()
        self.answered: set[str] = set()

    @rule(target=uids, number=st.integers(1, 6))
    def send(self, number: int) -> str:
        uid = f"1.2.{number}"
        self.h.send(uid)
        assert self.h.here(uid), "what was acknowledged is here"
        self.sent.add(uid)
        return uid

    @rule(uid=uids)
    def send_with_other_pixels(self, uid: str) -> None:
        self.h.send(uid, "other")

    @rule()
    def assemble(self) -> None:
        self.h.assemble()

    @rule(name=st.sampled_from(["ARCHIVE", "NEW", None]))
    def set_pacs(self, name: str | None) -> None:
        self.h.custody.set_pacs(DEMO, replace(ARCHIVE, ae_title=name) if name else None, by="test")

    @rule(days=st.sampled_from([None, 0, 1]))
    def set_days(self, days: int | None) -> None:
        self.h.choice = TenantSettings(received_days=days)

    @rule(target=transactions, away=st.booleans())
    def ask(self, away: bool) -> Any:
        self.h.peer.away, before = away, len(self.h.peer.asked)
        self.h.custody.ask(DEMO)
        return multiple(*self.h.peer.asked[before:])

    @rule(asked=transactions, calling=st.sampled_from(["ARCHIVE", "NEW", "EVIL"]), confirm=st.booleans())
    def answer(self, asked: tuple[str, str, tuple[str, ...]], calling: str, confirm: bool) -> None:
        ae, transaction, uids = asked
        said = report(transaction, [*uids, "1.2.1"] if confirm else [], [] if confirm else uids)
        try:
            self.h.custody.report(DEMO, calling, said)
        except UnknownTransaction:
            return
        assert calling == ae
        if confirm and transaction not in self.answered:
            self.said |= {(uid, ae) for uid in uids}
        self.answered.add(transaction)

    @rule(uid=uids)
    def answer_to_nothing(self, uid: str) -> None:
        with pytest.raises(UnknownTransaction):
            self.h.custody.report(DEMO, "ARCHIVE", report("2.25.7", [uid]))

    @rule(hours=st.sampled_from([1, 2, 25]))
    def wait(self, hours: int) -> None:
        self.h.clock.advance(hours=hours)

    @rule()
    def run(self) -> None:
        self.h.retention.run(DEMO)

    @invariant()
    def what_nobody_confirmed_is_here(self) -> None:
        confirmed = {uid for uid, _ in self.said}
        for uid in self.sent - confirmed:
            assert self.h.here(uid)

    @invariant()
    def rows_say_where_things_are(self) -> None:
        state = self.h.database.state(DEMO)
        for kept in state.custody.kept.values():
            if kept.removed_at is None:
                assert kept.object_key is not None
                assert self.h.objects.get(DEMO, kept.object_key)
            else:
                assert (kept.sop_instance_uid, kept.ae) in self.said

    @invariant()
    def refused_objects_stay(self) -> None:
        for rejection in self.h.database.state(DEMO).rejections:
            assert rejection.object_key is not None
            try:
                self.h.objects.get(DEMO, rejection.object_key)
            except ObjectMissing:
                pytest.fail("a refused object was removed")


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
