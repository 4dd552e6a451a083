"""The audit trail in a browser: filters, keys, a patient by number, and the file that comes out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from overread import bootstrap
from overread.domain.audit import Actor, ActorKind, AuditAction, AuditOutcome
from overread.domain.study import TenantId
from tests.app_on_fakes import PASSWORD
from tests.integration.records import SENDER, record


@pytest.fixture
def busy(overread: bootstrap.Overread, tenant: TenantId) -> TenantId:
    """A hospital where something happened; the log-in names it."""
    ann = Actor(
        kind=ActorKind.PERSON, name="ann", role="radiologist", session="s-1", address="10.20.3.14", channel="page"
    )
    ct = Actor(kind=ActorKind.PEER, name="CT_SIEMENS_1", address="10.20.7.2", channel="dicom")
    with overread.database.unit(tenant) as unit:
        filed = unit.studies.file_instance(record(), "k", SENDER, bootstrap.now(), lambda: None)
        unit.audit.record(AuditAction.STUDY_RECEIVED, actor=ct, study_id=filed.study_id)
        unit.audit.record(AuditAction.STUDY_RECEIVED, actor=ct, study_id=filed.study_id, count=411)
        unit.audit.record(AuditAction.ANALYSIS_COMPLETED, actor="worker", study_id=filed.study_id, urgency="critical")
        unit.audit.record(AuditAction.STUDY_VIEW, actor=ann, study_id=filed.study_id)
        unit.audit.record(AuditAction.IMAGE_VIEW, actor=ann, study_id=filed.study_id)
        unit.audit.record(
            AuditAction.REJECTED_VIEW, actor=ann, outcome=AuditOutcome.DENIED, code="FORBIDDEN", route="/rejected"
        )
        unit.audit.record(
            AuditAction.STUDY_VIEW, actor=ann, outcome=AuditOutcome.FAILED, code="STUDY_NOT_FOUND", route="/studies"
        )
        unit.audit.record(AuditAction.FEATURE_CHANGED, actor="admin", feature="priority_flagging", enabled=False)
    return tenant


def test_an_administrator_searches(page: Page, base: str, busy: TenantId, tmp_path: Path) -> None:
    page.goto(f"{base}/login")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", PASSWORD)
    page.fill("[name=tenant]", busy.slug)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{base}/")
    page.get_by_role("link", name="Administration").click()
    page.get_by_role("link", name="Audit trail").click()
    rows = page.locator(".trail tbody tr")
    expect(rows.filter(has_text="CT_SIEMENS_1")).to_have_count(2)
    expect(rows.filter(has_text="denied")).to_have_count(1)
    page.wait_for_load_state()  # keys count once the page's script is there
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(rows.nth(1)).to_have_class(re.compile("selected"))
    page.screenshot(path=tmp_path / "audit.png")

    page.select_option("[name=outcome]", "denied")
    page.wait_for_url(re.compile(r"outcome=denied"))
    expect(rows).to_have_count(1)
    page.keyboard.press("x")
    page.wait_for_url(f"{base}/admin/audit")

    page.fill("[name=patient_id]", record().patient_id)
    page.get_by_role("button", name="Find this patient").click()
    page.wait_for_url(re.compile(r"\?patient=[0-9a-f]{64}$"))
    expect(rows.filter(has_text="ann")).to_have_count(2)
    expect(rows.filter(has_text="switched a feature")).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as CSV").click()
    text = Path(download.value.path()).read_text()
    assert text.startswith("id,at,action,") and "study.received" in text and "feature.changed" not in text

    page.goto(f"{base}/admin/audit?actor=nobody")
    expect(page.get_by_role("heading", name="Nothing on record that fits")).to_be_visible()
