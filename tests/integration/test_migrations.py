"""Installations that run: what an older version left is brought up to date, row by row kept; fifty tenants in time."""

from __future__ import annotations

import json
import time
from uuid import UUID

import pytest
import sqlalchemy

from overread.bootstrap import Overread
from overread.config import Settings
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.services.tenant_settings import TenantSettings
from overread.store import migrate, roles
from tests.integration.conftest import make_tenant

OUTCOME = {
    "modality": "X-ray",
    "body_part": "CHEST",
    "not_assessed": [],
    "assessed": ["pneumothorax"],
    "triage": {"urgency": "urgent", "reason": "Urgent: pneumothorax 0.80"},
    "models": [{"name": "chest_xray", "version": "1.0.0", "sha256": ""}],
    "problems": [],
}


@pytest.fixture
def old(settings: Settings, owner_engine: sqlalchemy.Engine) -> tuple[TenantId, UUID]:
    """A tenant as the first version had it, with a study, an analysis with its results, a user and an audit row."""
    tenant = TenantId(slug=f"old_{time.monotonic_ns()}")
    schema = roles.tenant_role(tenant)
    study, series, analysis, finding = (uuid7() for _ in range(4))
    with owner_engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO overread.tenants (slug, name) VALUES (%s, 'Old')", (tenant.slug,))
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        connection.exec_driver_sql(f"CREATE ROLE {schema} LOGIN NOINHERIT")
    migrate._upgrade(owner_engine, schema, "tenant", "tenant_0001")
    with owner_engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL search_path = {schema}")
        run = connection.exec_driver_sql
        run(
            "INSERT INTO studies (id, study_instance_uid, patient_id, issuer_of_patient_id, patient_name, patient_sex,"
            " patient_birth_date, accession_number, study_description, modality, revision, instance_count, image_count,"
            " received_first, received_last) VALUES (%s, '1.2.3', 'P-1', '', 'Doe^Jane', 'F', '1960-02-29', 'A-1',"
            " 'Chest', 'X-ray', 1, 1, 1, now(), now())",
            (study,),
        )
        run("INSERT INTO series VALUES (%s, %s, '1.2.3.4', 'CR', 1, 'PA')", (series, study))
        run(
            "INSERT INTO image_analyses (id, study_id, revision, modality, status, queue_priority, urgency, reason,"
            " requested_by, requested_at, completed_at, processing_ms, outcome)"
            " VALUES (%s, %s, 1, 'X-ray', 'completed', 0, 1, 'why', 'arrival', now(), now(), 900, %s)",
            (analysis, study, json.dumps(OUTCOME)),
        )
        run(
            "INSERT INTO analysis_findings (id, analysis_id, position, finding_type, severity, confidence_score,"
            " description, sop_instance_uid, details, tracking_uid)"
            " VALUES (%s, %s, 0, 'pneumothorax', 2, 0.8, 'seen', '1.2.3.4.5', '{}', '2.25.1')",
            (finding, analysis),
        )
        run(
            "INSERT INTO analysis_measurements (id, analysis_id, measurement_type, value, unit, method)"
            " VALUES (%s, %s, 'cardiothoracic_ratio', 0.5, '1', 'automated')",
            (uuid7(), analysis),
        )
        run(
            "INSERT INTO quality_assessments (analysis_id, id, overall_quality, quality_score, issues, recommendations,"
            " flagged_for_repeat) VALUES (%s, %s, 'adequate', 0.9, '[]', '', false)",
            (analysis, uuid7()),
        )
        run("INSERT INTO users VALUES (%s, 'dr', 'Dr. Old', 'radiologist', 'hash')", (uuid7(),))
        run("INSERT INTO audit_events (action, actor, facts) VALUES ('login', 'dr', '{\"address\": \"10.0.0.1\"}')")
    return tenant, analysis


def test_a_tenant_of_the_first_version_is_brought_up_to_date(
    overread: Overread, settings: Settings, owner_engine: sqlalchemy.Engine, old: tuple[TenantId, UUID]
) -> None:
    tenant, analysis = old
    assert migrate.ensure(owner_engine, settings.secret()) == ()
    assert overread.tenant_settings.current(tenant) == TenantSettings()
    with overread.database.unit(tenant) as unit:
        row = unit.analyses.get(analysis)
        assert row is not None
        assert (row.study.patient_name, row.study.patient_birth_date) == ("Doe^Jane", "1960-02-29")
        assert row.outcome is not None
        assert [f.finding_type for f in row.outcome.findings] == ["pneumothorax"]
        assert [(m.value, m.metadata) for m in row.outcome.measurements] == [(0.5, {})]
        assert unit.users.by_name("dr") is not None
        assert unit.connection.execute("SELECT action, actor, address FROM audit_events").fetchall() == [
            ("login", "dr", "10.0.0.1")
        ]


def test_fifty_tenants_that_are_up_to_date_take_no_time(settings: Settings, owner_engine: sqlalchemy.Engine) -> None:
    """As many as are there by now, in statements: each costs those of its log-in, and no migration."""
    make_tenant(settings)
    migrate.ensure(owner_engine, settings.secret())
    count = len(migrate.list_tenants(owner_engine))
    statements = 0

    def counted(*_: object) -> None:
        nonlocal statements
        statements += 1

    sqlalchemy.event.listen(owner_engine, "before_cursor_execute", counted)
    migrate.ensure(owner_engine, settings.secret())
    sqlalchemy.event.remove(owner_engine, "before_cursor_execute", counted)
    assert statements <= 60 + 12 * count
