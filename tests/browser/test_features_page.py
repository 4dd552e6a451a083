"""The matrix of features in a real browser, by keyboard."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Page, expect

from overread.bootstrap import Overread
from overread.domain.features import Feature, Switch
from overread.domain.modality import Modality
from overread.domain.study import TenantId
from overread.services.optout import OptOutService
from tests.app_on_fakes import PASSWORD
from tests.integration.records import SENDER
from tests.integration.test_analyses import now, radiograph


def _log_in(page: Page, base: str, tenant: TenantId, target: str) -> None:
    page.goto(f"{base}/login?next={target}")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", PASSWORD)
    page.fill("[name=tenant]", tenant.slug)
    page.keyboard.press("Enter")


def _picture(page: Page, name: str) -> None:
    """Kept only where somebody asks for it: OVERREAD_PICTURES names the folder."""
    folder = os.environ.get("OVERREAD_PICTURES")
    if folder:
        page.screenshot(path=str(Path(folder) / name))


def test_a_switch_is_turned_by_keyboard(page: Page, base: str, overread: Overread, tenant: TenantId) -> None:
    _log_in(page, base, tenant, "/admin/features")
    expect(page.get_by_role("heading", name="Features")).to_be_visible()
    page.wait_for_load_state()
    cell = page.get_by_role("link", name="Abnormality detection, CT: on, as all modalities")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(cell).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Abnormality detection · CT")).to_be_visible()
    expect(page.locator("input[name=reason]")).to_be_focused()
    page.get_by_label("Off", exact=True).check()
    page.locator("input[name=reason]").fill("Not approved for CT yet")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Saved.")).to_be_visible()
    expect(page.get_by_role("link", name="Abnormality detection, CT: off")).to_be_visible()
    expect(page.locator("#history")).to_contain_text("Not approved for CT yet")
    _picture(page, "features.png")
    page.goto(f"{base}/admin/patients")
    page.locator("form[action='/admin/patients'] input[name=patient_id]").fill("4711")
    page.locator("form[action='/admin/patients'] input[name=reason]").fill("Form 7, binder 3")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The objection is on the list.")).to_be_visible()
    _picture(page, "patients.png")
    page.goto(f"{base}/privacy?lang=de")
    expect(page.get_by_role("heading", name="Sie können Nein sagen")).to_be_visible()
    _picture(page, "privacy.png")
    with overread.database.unit(tenant) as unit:
        assert len(unit.opt_outs.all(with_removed=False, limit=10)) == 1


def test_studies_that_are_not_read_say_why(page: Page, base: str, overread: Overread, tenant: TenantId) -> None:
    with overread.database.unit(tenant) as unit:
        unit.features.set(
            Switch(
                feature=Feature.ABNORMALITY_DETECTION,
                modality=Modality.XRAY,
                enabled=False,
                changed_by="admin",
                changed_at=datetime(2026, 1, 15, 8, tzinfo=UTC),
                reason="Not approved here yet",
            )
        )
    opt_outs = OptOutService(database=overread.database, clock=now)
    opt_outs.add(tenant, patient_id="P2", issuer="", reason="Form 7", by="technician")
    for number, patient in enumerate(("P1", "P2"), start=1):
        data = radiograph(number, f"study {number}", "a", patient_id=patient)
        overread.receive.receive(tenant, data, SENDER, name="x")
    _log_in(page, base, tenant, "/")
    expect(page.get_by_text("AI analysis not available: Abnormality detection is off for X-ray")).to_be_visible()
    expect(page.get_by_text("Not analysed: the patient objected")).to_be_visible()
    _picture(page, "worklist-unread.png")
    page.get_by_role("link", name="Not read by AI").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.locator("tbody tr").first.locator("a").first.click()
    expect(page.get_by_role("heading", name="AI analysis not available")).to_be_visible()
    expect(page.locator("#pixels")).to_be_visible()
    _picture(page, "study-unread.png")
