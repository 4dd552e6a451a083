"""A tenant's audit trail, what seals and checks it, and the superuser who tampers with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from overread import bootstrap
from overread.bootstrap import Overread
from overread.config import Settings
from overread.domain.audit import Actor, ActorKind, AuditAction
from overread.domain.study import TenantId
from overread.services.audit_chain import SealKey
from overread.services.audit_seal import SealService
from overread.services.audit_verify import TrailReport, verify
from overread.store import roles
from overread.store.audit_anchors import FileAnchors
from overread.store.audit_seals import PostgresLedgers, PostgresTrail

DOCTOR = Actor(
    kind=ActorKind.PERSON, name="doctor", role="radiologist", session="s1", address="10.0.0.7", channel="page"
)


@pytest.fixture
def owner(settings: Settings) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """The superuser of the embedded server: what an attacker on the machine has."""
    with psycopg.connect(bootstrap.owner_conninfo(settings), autocommit=True) as connection:
        yield connection


class Trail:
    """A tenant's trail, and what seals and checks it."""

    def __init__(self, overread: Overread, tenant: TenantId, owner: psycopg.Connection[tuple[object, ...]], at: Path):
        self.overread, self.tenant, self.owner = overread, tenant, owner
        self.schema = roles.tenant_role(tenant)
        self.anchors = FileAnchors(at)
        self.key = SealKey(overread.settings.secret())
        self.service = SealService(
            ledgers=PostgresLedgers(overread.database), anchors=self.anchors, key=self.key, clock=bootstrap.now
        )

    def write(self, count: int) -> None:
        for number in range(count):
            with self.overread.database.unit(self.tenant) as unit:
                unit.audit.record(AuditAction.LOGIN, actor=DOCTOR, number=number)

    def seal(self) -> int:
        return self.service.run(self.tenant)

    def check(self) -> TrailReport:
        with psycopg.connect(bootstrap.owner_conninfo(self.overread.settings)) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return verify(
                PostgresTrail(connection, self.tenant),
                keys={self.key.key_id: self.key.public},
                anchor=self.anchors.last(self.tenant),
                lost=self.anchors.lost(self.tenant),
            )

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        self.owner.execute(f"SET search_path = {self.schema}".encode())
        done = self.owner.execute(statement.encode())
        return done.fetchall() if done.description else []


@pytest.fixture
def trail(overread: Overread, tenant: TenantId, owner: psycopg.Connection[tuple[object, ...]], tmp_path: Path) -> Trail:
    return Trail(overread, tenant, owner, tmp_path / "audit")


@pytest.fixture
def sealed(trail: Trail) -> Trail:
    """Three seals: rows 1-4, 5-9, 10-12."""
    for count in (4, 5, 3):
        trail.write(count)
        assert trail.seal() == count
    report = trail.check()
    assert (report.good, report.rows, report.seals, report.pending) == (True, 12, 3, 0)
    return trail
