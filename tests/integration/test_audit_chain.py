"""The audit trail in PostgreSQL: what serving log-ins may do, what sealing takes, and that tampering is found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from overread import bootstrap
from overread.bootstrap import Overread
from overread.config import Settings
from overread.domain.audit import AuditAction, AuditOutcome, PatientRef
from overread.domain.study import TenantId
from overread.services.audit_chain import SealKey
from overread.services.audit_verify import Fault
from overread.store import roles
from tests.integration.audit_trail import DOCTOR, Trail, owner, sealed, trail
from tests.integration.conftest import make_tenant
from tests.integration.records import SENDER, record


def test_a_row_says_who_what_whose_from_where(overread: Overread, tenant: TenantId) -> None:
    with overread.database.unit(tenant) as unit:
        filed = unit.studies.file_instance(record(), "k", SENDER, datetime.now(UTC), lambda: None)
        unit.audit.record(
            AuditAction.STUDY_VIEW, actor=DOCTOR, study_id=filed.study_id, outcome=AuditOutcome.DENIED, code="FORBIDDEN"
        )
        study = unit.studies.get(filed.study_id)
        assert study is not None
        pseudonym = unit.patient_index.blind(study.issuer_of_patient_id, study.patient_id).hex()
    with psycopg.connect(overread.login(roles.tenant_role(tenant))) as connection:
        rows = connection.execute(
            "SELECT action, outcome, code, actor_kind, actor, role, session, address, channel, patient, study_id"
            " FROM audit_events"
        ).fetchall()
    assert rows == [
        (
            "study.view",
            "denied",
            "FORBIDDEN",
            "person",
            "doctor",
            "radiologist",
            "s1",
            "10.0.0.7",
            "page",
            pseudonym,
            filed.study_id,
        )
    ]
    assert study.patient_id not in pseudonym and len(pseudonym) == 64


def test_the_same_patient_is_somebody_else_in_another_hospital(
    overread: Overread, tenant: TenantId, other_tenant: TenantId
) -> None:
    seen = []
    for hospital in (tenant, tenant, other_tenant):
        with overread.database.unit(hospital) as unit:
            unit.audit.record(AuditAction.PATIENT_OPTED_OUT, actor="x", patient=PatientRef(issuer="A", patient_id="7"))
        with psycopg.connect(overread.login(roles.tenant_role(hospital))) as connection:
            seen.append(connection.execute("SELECT patient FROM audit_events ORDER BY id DESC LIMIT 1").fetchone())
    assert seen[0] == seen[1] != seen[2]


@pytest.fixture(scope="module")
def written(settings: Settings) -> Iterator[str]:
    """The log-in of a tenant with a row on its trail."""
    hospital = make_tenant(settings)
    built = bootstrap.build(settings)
    with built.database.unit(hospital) as unit:
        unit.audit.record(AuditAction.LOGIN, actor=DOCTOR)
    yield built.login(roles.tenant_role(hospital))
    built.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor = 'nobody'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "UPDATE audit_events_{year} SET actor = 'nobody'",
        "DELETE FROM audit_events_{year}",
        "SELECT * FROM audit_events_{year}",
        "UPDATE audit_events_other SET actor = 'nobody'",
        "INSERT INTO audit_events (id, action, actor, actor_kind) VALUES (1, 'login', 'x', 'person')",
        "INSERT INTO audit_events (at, action, actor, actor_kind) VALUES ('2020-01-01', 'login', 'x', 'person')",
        "INSERT INTO audit_events_{year} (action, actor, actor_kind) VALUES ('login', 'x', 'person')",
        "SELECT setval('audit_numbers', 1)",
        "ALTER TABLE audit_events DETACH PARTITION audit_events_{year}",
        "UPDATE audit_seals SET row_count = 1",
        "DELETE FROM audit_seals",
        "TRUNCATE audit_seals",
    ],
)
def test_a_serving_log_in_cannot(written: str, statement: str) -> None:
    with psycopg.connect(written) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.format(year=datetime.now(UTC).year).encode())


def test_untouched_is_good(sealed: Trail) -> None:
    sealed.write(2)
    report = sealed.check()
    assert report.good and report.pending == 2 and report.pending_since is not None
    assert sealed.seal() == 2
    assert sealed.seal() == 0
    assert sealed.check().last_seal == 4


__all__ = ["owner", "sealed", "trail"]

Tamper = Callable[[Trail], object]


@pytest.mark.parametrize(
    ("tamper", "fault", "ids", "seal"),
    [
        (lambda t: t.sql("UPDATE audit_events SET actor = 'nobody' WHERE id = 6"), Fault.CHANGED, (6,), 2),
        (lambda t: t.sql("UPDATE audit_events SET facts = '{}' WHERE id = 6"), Fault.CHANGED, (6,), 2),
        (lambda t: t.sql("UPDATE audit_events SET address = '10.0.0.8' WHERE id IN (5, 7)"), Fault.CHANGED, (5, 7), 2),
        (
            lambda t: t.sql("UPDATE audit_events SET at = at + interval '1 microsecond' WHERE id = 2"),
            Fault.CHANGED,
            (2,),
            1,
        ),
        (lambda t: t.sql("DELETE FROM audit_events WHERE id IN (7, 8)"), Fault.MISSING, (7, 8), 2),
        (
            lambda t: t.sql("UPDATE audit_events SET id = CASE id WHEN 5 THEN 8 ELSE 5 END WHERE id IN (5, 8)"),
            Fault.REORDERED,
            (5, 8),
            2,
        ),
    ],
    ids=["actor", "facts", "two", "time", "deleted", "swapped"],
)
def test_a_row_that_was_touched_is_named(
    sealed: Trail, tamper: Tamper, fault: Fault, ids: tuple[int, ...], seal: int
) -> None:
    tamper(sealed)
    report = sealed.check()
    assert [(p.fault, p.ids, p.seal) for p in report.problems] == [(fault, ids, seal)]
    problem = report.problems[0]
    assert problem.first_at is not None and problem.last_at is not None
    assert timedelta() <= datetime.now(UTC) - problem.first_at < timedelta(minutes=5)


def test_a_row_put_behind_a_seal_is_found(trail: Trail) -> None:
    """An id that was burnt by a transaction that was rolled back, used again by hand, backdated."""
    trail.write(1)
    with psycopg.connect(trail.overread.login(trail.schema)) as connection:
        connection.execute("SELECT nextval('audit_numbers')")
        connection.rollback()
    trail.write(1)
    for _ in range(3):
        trail.write(1)
        trail.seal()
    assert trail.check().good
    trail.sql("INSERT INTO audit_events (id, action, actor, actor_kind) VALUES (2, 'login', 'forged', 'person')")
    assert [(p.fault, p.ids) for p in trail.check().problems] == [(Fault.INSERTED, (2,))]
    trail.write(1)
    trail.seal()
    assert [(p.fault, p.ids) for p in trail.check().problems] == [(Fault.INSERTED, (2,))], "sealing does not adopt it"


def test_a_backdated_row_is_found(sealed: Trail) -> None:
    sealed.sql(
        "INSERT INTO audit_events (at, action, actor, actor_kind)"
        " VALUES (now() - interval '3 hours', 'login', 'forged', 'person')"
    )
    assert sealed.seal() == 1
    assert [(p.fault, p.ids) for p in sealed.check().problems] == [(Fault.BACKDATED, (13,))]


def test_a_row_and_its_seal_changed_together(sealed: Trail) -> None:
    sealed.sql("UPDATE audit_events SET actor = 'nobody' WHERE id = 6")
    sealed.sql("UPDATE audit_seals SET sha256 = sha256('x'), hash = sha256('y') WHERE number = 2")
    faults = {p.fault for p in sealed.check().problems}
    assert faults == {Fault.SEAL_CHANGED, Fault.CHANGED}


def test_a_seal_signed_with_another_key(sealed: Trail) -> None:
    stranger = SealKey(b"x" * 32)
    sealed.key = stranger
    report = sealed.check()
    assert [p.fault for p in report.problems] == [Fault.SEAL_CHANGED] * 3


def test_a_seal_in_the_middle_is_gone(sealed: Trail) -> None:
    sealed.sql("DELETE FROM audit_seals WHERE number = 2")
    faults = [(p.fault, p.seal) for p in sealed.check().problems]
    assert (Fault.SEAL_MISSING, 3) in faults


def test_the_end_is_cut_off(sealed: Trail) -> None:
    sealed.sql("DELETE FROM audit_seals WHERE number = 3")
    sealed.sql("DELETE FROM audit_events WHERE id >= 10")
    report = sealed.check()
    assert [(p.fault, p.seal) for p in report.problems] == [(Fault.CUT_OFF, 3)]
    sealed.write(3)
    sealed.seal()
    report = sealed.check()
    assert [(p.fault, p.seal) for p in report.problems] == [(Fault.CUT_OFF, 3)], "going on does not hide it"


def test_everything_is_cut_off(sealed: Trail) -> None:
    sealed.sql("TRUNCATE audit_seals, audit_events")
    assert [p.fault for p in sealed.check().problems] == [Fault.CUT_OFF]


def test_an_old_seal_is_replayed(sealed: Trail) -> None:
    """Back to the state after the second seal, as from a copy: each link is right, and the end is missing."""
    sealed.sql("CREATE TABLE copy AS SELECT * FROM audit_seals WHERE number = 2")
    sealed.sql("DELETE FROM audit_seals WHERE number >= 2")
    sealed.sql("DELETE FROM audit_events WHERE id >= 10")
    sealed.sql("INSERT INTO audit_seals SELECT * FROM copy")
    assert [(p.fault, p.seal) for p in sealed.check().problems] == [(Fault.CUT_OFF, 3)]
    sealed.sql(
        "INSERT INTO audit_seals SELECT 3, c.kind, c.sealed_at, c.first_at, c.last_at, c.row_count, c.ids, c.seen,"
        " c.next_tx, c.settled, c.sha256, c.digests, c.hash, c.hash, c.key_id, c.signature FROM copy c"
    )
    faults = {p.fault for p in sealed.check().problems}
    assert {Fault.SEAL_CHANGED, Fault.CUT_OFF} <= faults
    sealed.sql("DROP TABLE copy")


def test_a_slow_transaction_goes_into_a_later_seal(trail: Trail) -> None:
    """It took its id first and commits last: nobody waits for it, and it is sealed when it comes."""
    with psycopg.connect(trail.overread.login(trail.schema)) as slow:
        slow.execute("INSERT INTO audit_events (action, actor, actor_kind) VALUES ('login', 'slow', 'person')")
        for _ in range(4):
            trail.write(1)
            assert trail.seal() == 1
        assert trail.check().good
        slow.commit()
    assert trail.check().pending == 1
    assert trail.seal() == 1
    report = trail.check()
    assert (report.good, report.rows, report.pending) == (True, 5, 0)
    assert trail.sql("SELECT ids::text FROM audit_seals WHERE number = 5") == [("{[1,2)}",)]


def test_writers_and_sealers_at_once(trail: Trail) -> None:
    """Four writers, some of whose transactions fail, and two sealers: every row in exactly one seal."""
    stop = threading.Event()
    totals: list[int] = []

    def sealing() -> None:
        mine = 0
        while not stop.is_set():
            mine += trail.seal()
        totals.append(mine)

    def writing() -> None:
        for number in range(40):
            try:
                with trail.overread.database.unit(trail.tenant) as unit:
                    unit.audit.record(AuditAction.LOGIN, actor=DOCTOR)
                    if number % 5 == 4:
                        raise KeyError(number)
            except KeyError:
                pass

    sealers = [threading.Thread(target=sealing) for _ in range(2)]
    writers = [threading.Thread(target=writing) for _ in range(4)]
    for thread in (*sealers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in sealers:
        thread.join()
    assert sum(totals) + trail.seal() == 4 * 32
    report = trail.check()
    assert (report.good, report.rows, report.pending) == (True, 128, 0)


def test_more_rows_than_a_seal_takes(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("audit_seal", "audit_verify"):
        monkeypatch.setattr(f"overread.services.{module}.ROWS_A_SEAL", 10)
    monkeypatch.setattr("overread.services.audit_verify._ROWS_AT_ONCE", 20)
    trail.sql(
        "INSERT INTO audit_events (at, action, actor, actor_kind)"
        " SELECT now() - interval '1 day', 'login', 'old', 'person' FROM generate_series(1, 55)"
    )
    assert trail.seal() == 55
    report = trail.check()
    assert (report.good, report.rows, report.seals) == (True, 55, 6), report.problems


def test_a_trail_on_another_server_goes_on(sealed: Trail) -> None:
    """Restored elsewhere, transaction numbers begin anew below those of the last seal."""
    number = sealed.service.ledgers
    with number.ledger(sealed.tenant) as ledger:
        last = ledger.last()
        assert last is not None
        oldest, newest = ledger.transactions()
        assert oldest <= newest

        class Elsewhere:
            def transactions(self) -> tuple[int, int]:
                return 5, 5

        assert sealed.service._settled(Elsewhere(), last) == last.seen  # type: ignore[arg-type]
