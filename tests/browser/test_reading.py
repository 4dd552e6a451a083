"""A radiologist at work: logs in, sees a study arrive, opens it, looks at the boxes, and goes back."""

from __future__ import annotations

import time
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from overread import bootstrap
from overread.domain.image import BoundingBox
from overread.domain.priority import Level
from overread.domain.study import Sender, TenantId
from tests.app_on_fakes import make_dicom, make_finding, make_outcome
from tests.browser.reader import log_in, ready

SENDER = Sender(channel="dicom", name="CR1", address="127.0.0.1")


def _receive(overread: bootstrap.Overread, tenant: TenantId, **attributes: object) -> tuple[UUID, str]:
    values = {"Rows": 400, "Columns": 320, **attributes}
    filed = overread.receive.receive(tenant, make_dicom(**values), SENDER, name="x.dcm")
    assert filed.study_id is not None
    with overread.database.unit(tenant) as unit:
        row = unit.analyses.latest_for_study(filed.study_id)
        assert row is not None
        return row.id, unit.studies.instances(filed.study_id)[0].record.sop_instance_uid


def _complete(overread: bootstrap.Overread, tenant: TenantId, analysis: UUID, uid: str, level: Level) -> None:
    box = BoundingBox(x=40, y=60, width=100, height=120)
    findings = (
        make_finding("pneumothorax", uid, 0.93, exploratory=level is Level.ROUTINE, bounding_box=box),
        make_finding("cardiomegaly", uid, 0.6, bounding_box=BoundingBox(x=120, y=200, width=120, height=90)),
    )
    with overread.database.unit(tenant) as unit:
        row = unit.analyses.claim(analysis, bootstrap.now())
        assert row is not None and row.claim is not None
        outcome = make_outcome(findings, level, "Pneumothorax 93 %, above the threshold to raise.")
        assert unit.analyses.complete(analysis, row.claim, outcome, bootstrap.now(), 250)
        unit.events.publish("analysis", {"analysis": str(analysis), "study": str(row.study.id)})


def test_a_critical_study_arrives_live_and_is_read_by_keyboard(
    page: Page, base: str, overread: bootstrap.Overread, tenant: TenantId
) -> None:
    log_in(page, base, tenant)
    expect(page.get_by_role("heading", name="No study has come in yet")).to_be_visible()
    expect(page.locator("#live")).to_have_text("live")

    for i in range(3):
        _receive(overread, tenant, PatientID=f"R-{i}", PatientName=f"Routine^{i}")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.keyboard.press("j")
    expect(page.locator("tr.selected")).to_contain_text("Routine, 0")

    analysis, uid = _receive(overread, tenant, PatientID="C-1", PatientName="Critical^Case")
    expect(page.locator("tbody tr")).to_have_count(4)
    begun = time.monotonic()
    _complete(overread, tenant, analysis, uid, Level.CRITICAL)
    expect(page.locator("tbody tr").first).to_contain_text("Critical, Case")
    waited = time.monotonic() - begun
    assert waited < 3, f"{waited:.1f} s until the critical study was on top"
    expect(page).to_have_title("(1) Worklist – Overread")
    expect(page.locator("tbody tr").first).to_contain_text("Pneumothorax 93 %, above the threshold to raise.")
    # What was selected stays selected when the list changes under it.
    expect(page.locator("tr.selected")).to_contain_text("Routine, 0")

    page.keyboard.press("g")
    page.keyboard.press("Enter")
    page.wait_for_url("**/studies/**")
    ready(page)
    expect(page.locator(".banner .name")).to_have_text("Critical, Case")
    boxes = page.locator("#boxes rect.line")
    expect(boxes).to_have_count(2)
    expect(boxes.first).to_be_visible()
    page.keyboard.press("2")
    expect(boxes.nth(1)).to_be_hidden()
    expect(boxes.first).to_be_visible()
    page.keyboard.press("b")
    expect(boxes.first).to_be_hidden()
    page.keyboard.press("b")
    expect(boxes.first).to_be_visible()
    expect(page.locator("#broken")).to_be_hidden()
    assert page.evaluate("fetch(document.getElementById('pixels').src).then(r => r.status)") == 200
    expect(page.locator("footer")).to_contain_text("Final interpretation by a qualified radiologist required")
    page.keyboard.press("u")
    expect(page.locator("tbody tr")).to_have_count(4)


def test_box_lies_on_the_pixels_that_it_names(
    page: Page, base: str, overread: bootstrap.Overread, tenant: TenantId
) -> None:
    analysis, uid = _receive(overread, tenant, PixelSpacing=[0.4, 0.2])
    _complete(overread, tenant, analysis, uid, Level.ROUTINE)
    log_in(page, base, tenant)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/studies/**")
    ready(page)
    # Rows are twice as far apart as columns: shown twice as high, and the box with them.
    expect(page.locator("#view")).to_have_attribute("viewBox", "0 0 320 800")
    place = page.evaluate(
        """() => {
          const rect = (e) => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; };
          const img = document.getElementById('pixels');
          const [x, y, w, h] = rect(img);
          const by = Math.min(w / img.naturalWidth, h / img.naturalHeight);
          const [pw, ph] = [img.naturalWidth * by, img.naturalHeight * by];
          return [[x + (w - pw) / 2, y + (h - ph) / 2, pw, ph], rect(document.querySelector('#boxes rect.line'))];
        }"""
    )
    (ix, iy, iw, ih), (bx, by, bw, bh) = place
    assert ih / iw == pytest.approx(800 / 320, rel=0.01)
    assert [(bx - ix) / iw, (by - iy) / ih, bw / iw, bh / ih] == pytest.approx(
        [40 / 320, 60 / 400, 100 / 320, 120 / 400], abs=0.01
    )


def test_an_open_study_shows_its_result_when_it_comes(
    page: Page, base: str, overread: bootstrap.Overread, tenant: TenantId
) -> None:
    analysis, uid = _receive(overread, tenant)
    log_in(page, base, tenant)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/studies/**")
    ready(page)
    expect(page.locator(".verdict .state")).to_have_text("waiting")
    expect(page.locator("#live")).to_have_text("live")
    _complete(overread, tenant, analysis, uid, Level.CRITICAL)
    expect(page.locator(".verdict .state")).to_have_text("AI read")
    expect(page.locator("#boxes rect.line")).to_have_count(2)
    with overread.database.unit(tenant) as unit:
        unit.analyses.attach_sr(analysis, "sr/x.dcm")
        unit.events.publish("analysis", {"analysis": str(analysis)})
    expect(page.get_by_role("link", name="DICOM SR")).to_be_visible()


def test_a_finished_result_does_not_change_under_the_readers_eyes(
    page: Page, base: str, overread: bootstrap.Overread, tenant: TenantId
) -> None:
    analysis, uid = _receive(overread, tenant)
    _complete(overread, tenant, analysis, uid, Level.CRITICAL)
    with overread.database.unit(tenant) as unit:
        unit.analyses.attach_sr(analysis, "sr/x.dcm")
        row = unit.analyses.get(analysis)
    assert row is not None
    log_in(page, base, tenant)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/studies/**")
    ready(page)
    expect(page.locator("#live")).to_have_text("live")
    _receive(overread, tenant, StudyInstanceUID=row.study.study_instance_uid, InstanceNumber=2)
    expect(page.locator("#newer")).to_be_visible()
    expect(page.locator("#boxes rect.line")).to_have_count(2)


def test_search_filter_cancel_retry_and_help(
    page: Page, base: str, overread: bootstrap.Overread, tenant: TenantId
) -> None:
    for i in range(3):
        _receive(overread, tenant, PatientID=f"R-{i}", PatientName=f"Name{i}^Given")
    log_in(page, base, tenant, "technician")
    page.keyboard.press("/")
    page.keyboard.type("name1")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    ready(page)
    assert page.url == f"{base}/", "what is searched for is in no address"
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/studies/**")
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("input[name=q]")).to_have_value("name1")
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert page.url == f"{base}/"
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".state.cancelled")).to_be_visible()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".state.pending")).to_be_visible()
    ready(page)
    page.get_by_label("Status").select_option("failed")
    expect(page.get_by_role("heading", name="No study matches these filters")).to_be_visible()
    ready(page)
    page.keyboard.press("x")
    expect(page.locator("tbody tr")).to_have_count(3)
    ready(page)
    page.keyboard.press("c")
    page.wait_for_url("**/?priority=critical")
    ready(page)
    expect(page.get_by_label("Urgency")).to_have_value("critical")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Next, previous study")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto(f"{base}/")
    assert "/login" in page.url


def test_the_page_says_when_the_server_is_gone_and_comes_back(
    page: Page, base: str, overread: bootstrap.Overread, tenant: TenantId
) -> None:
    log_in(page, base, tenant)
    expect(page.locator("#live")).to_have_text("live")
    page.context.set_offline(True)
    expect(page.locator("#live")).to_contain_text("not connected")
    _receive(overread, tenant)
    page.context.set_offline(False)
    expect(page.locator("#live")).to_have_text("live", timeout=30_000)
    expect(page.locator("tbody tr")).to_have_count(1)


def test_a_session_that_is_over_leads_to_thelog_in(page: Page, base: str, tenant: TenantId) -> None:
    log_in(page, base, tenant)
    expect(page.locator("#live")).to_have_text("live")
    page.context.clear_cookies()
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


@pytest.mark.parametrize("size", [(1366, 768), (3840, 2160)])
def test_nothing_overflows_at_any_size(
    page: Page, base: str, overread: bootstrap.Overread, tenant: TenantId, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    analysis, uid = _receive(overread, tenant, PatientName="Wolfeschlegelsteinhausenbergerdorff^Hubert Blaine")
    _complete(overread, tenant, analysis, uid, Level.CRITICAL)
    log_in(page, base, tenant, "admin")
    for path in ("/", "/rejected", "/system", "/docs"):
        page.goto(base + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    page.goto(f"{base}/")
    ready(page)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/studies/**")
    ready(page)
    expect(page.locator("#view")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    height = page.locator(".stage").bounding_box()
    assert height is not None and height["height"] > size[1] * 0.75
