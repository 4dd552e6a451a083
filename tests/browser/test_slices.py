"""A CT in a browser: through its slices, to its findings, outlines on and off; and the repeat list."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from overread import bootstrap
from overread.domain.analysis import QualityAssessment, QualityIssue, QualityLevel
from overread.domain.study import TenantId
from tests.browser.ct_study import NODULE, SIZE, SLICES, CtStudy, read_ct, send_ct
from tests.browser.reader import log_in, ready

POOR = QualityAssessment(
    level=QualityLevel.INADEQUATE,
    score=0.2,
    issues=(
        QualityIssue(type="motion_artifact", severity="severe", description="Edges are smeared over 4 mm."),
        QualityIssue(type="cut_off_anatomy", severity="moderate", description="The right base is cut off."),
    ),
    recommendations="Take the images again and ask the patient to hold the breath.",
    flagged_for_repeat=True,
)


@pytest.fixture
def ct(overread: bootstrap.Overread, tenant: TenantId) -> CtStudy:
    """Filed and read."""
    filed = send_ct(overread, tenant)
    read_ct(overread, tenant, filed)
    return filed


@pytest.fixture
def study(page: Page, base: str, tenant: TenantId, ct: CtStudy) -> Iterator[Page]:
    """Its page; an error in the console fails the test, but for the one that a test provokes."""
    errors: list[str] = []
    # What a reload cuts off is no error of the page ("net::...").
    provoked = ("422", "net::")
    page.on(
        "console",
        lambda m: errors.append(m.text) if m.type == "error" and not any(p in m.text for p in provoked) else None,
    )
    log_in(page, base, tenant)
    page.goto(f"{base}/studies/{ct.study_uid}")
    ready(page)
    yield page
    assert errors == []


def _at(page: Page, number: int) -> None:
    """The slice that is in front: picture, words and slider agree."""
    expect(page.locator("#position")).to_have_text(re.compile(rf"^Slice {number} of {SLICES} "))
    expect(page.locator("#slider")).to_have_attribute("aria-valuetext", re.compile(rf"^Slice {number} "))
    expect(page.locator("#pixels")).to_have_attribute("alt", re.compile(rf"^Slice {number} "))


def _mean(page: Page) -> float:
    """Grey of the picture in front, 0..255."""
    return float(
        page.evaluate(
            """() => {
          const img = document.getElementById("pixels");
          const canvas = Object.assign(document.createElement("canvas"), {width: 64, height: 64});
          const context = canvas.getContext("2d");
          context.drawImage(img, 0, 0, 64, 64);
          const { data } = context.getImageData(0, 0, 64, 64);
          let sum = 0;
          for (let i = 0; i < data.length; i += 4) sum += data[i];
          return sum / (data.length / 4);
        }"""
        )
    )


def test_opens_at_the_first_finding_and_wheel_keys_and_slider_go_through(study: Page, ct: CtStudy) -> None:
    # The first finding is the effusion (urgent): largest at the twelfth slice from the feet, shown in soft tissue.
    _at(study, 12)
    assert "window=mediastinum" in (study.locator("#pixels").get_attribute("src") or "")
    expect(study.locator("#position")).to_contain_text("z −65.0 mm")
    study.keyboard.press("ArrowDown")
    _at(study, 11)
    study.keyboard.press("ArrowUp")
    study.keyboard.press("ArrowUp")
    _at(study, 13)
    study.keyboard.press("PageUp")
    _at(study, 23)
    study.keyboard.press("Home")
    _at(study, SLICES)
    study.keyboard.press("ArrowUp")
    _at(study, SLICES)
    study.keyboard.press("End")
    _at(study, 1)
    assert ct.sop_uids[0] in (study.locator("#pixels").get_attribute("src") or "")
    study.keyboard.press("Home")
    box = study.locator("#stage").bounding_box()
    assert box is not None
    study.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for _ in range(3):
        study.mouse.wheel(0, 100)
    _at(study, SLICES - 3)
    study.mouse.wheel(0, -100)
    _at(study, SLICES - 2)
    # A touchpad: many small movements are one slice.
    for _ in range(8):
        study.mouse.wheel(0, 10)
    _at(study, SLICES - 4)
    rail = study.locator("#slider .rail").bounding_box()
    assert rail is not None
    study.mouse.click(rail["x"] + 1, rail["y"] + rail["height"] - 1)
    _at(study, 1)
    # What is spoken and what the address says follow.
    expect(study.locator("#said")).to_have_text(re.compile(r"^Slice 1 of "))
    expect(study).to_have_url(re.compile(rf"[?&]image={SLICES}\b"))
    study.reload()
    ready(study)
    _at(study, 1)


def test_fast_scrolling_ends_where_it_should_and_slices_are_fetched_ahead(study: Page, ct: CtStudy) -> None:
    study.keyboard.press("Home")
    for _ in range(SLICES + 5):
        study.keyboard.press("ArrowDown")
    _at(study, 1)
    asked: list[str] = []
    loaded: list[str] = []
    study.on("request", lambda r: asked.append(r.url) if "image.png" in r.url else None)
    study.on("requestfinished", lambda r: loaded.append(r.url) if "window=bone" in r.url else None)
    # Another window, so that nothing is there yet; the next slices come by themselves.
    study.keyboard.press("o")

    def there() -> set[str]:
        return {uid for uid in ct.sop_uids if any(uid in url for url in loaded)}

    for _ in range(200):
        if len(there()) == 9:
            break
        study.wait_for_timeout(100)
    assert there() == set(ct.sop_uids[:9])
    asked.clear()
    study.keyboard.press("ArrowUp")
    _at(study, 2)
    # It was there before the reader saw it.
    assert not any(ct.sop_uids[1] in url for url in asked), asked


def test_from_finding_to_finding(study: Page) -> None:
    study.keyboard.press("n")
    _at(study, 12)
    study.keyboard.press("n")
    _at(study, NODULE[0] + 1)
    item = study.locator('.finding-list li[data-finding="2"]')
    expect(item).to_have_attribute("aria-current", "true")
    expect(item).to_contain_text("13.2 × 11.0 mm · ")
    expect(item.locator(".size")).to_contain_text(" mL")
    # One sees a nodule in the lung window, unless the reader took another.
    assert "window=lung" in (study.locator("#pixels").get_attribute("src") or "")
    marks = study.locator('.box[data-finding="2"] .outline')
    expect(marks).to_be_visible()
    # The whole label stands on what one looks at only: labels must not hide the lung.
    label = study.locator('.box[data-finding="2"] .label.long')
    expect(label).to_be_visible()
    expect(label).to_contain_text("2 Lung nodule 13.2 × 11.0 mm")
    # The outline lies on the nodule: its middle is the middle of the phantom's.
    x, y, height = study.evaluate(
        """() => {
          const of = (s) => document.querySelector(s).getBoundingClientRect();
          const [mark, stage] = [of('.box[data-finding="2"] .outline'), of("#view")];
          return [mark.x + mark.width / 2 - stage.x - (stage.width - stage.height) / 2,
                  mark.y + mark.height / 2 - stage.y, stage.height];
        }"""
    )
    assert (x, y) == pytest.approx([(NODULE[2] + 0.5) * height / SIZE, (NODULE[1] + 0.5) * height / SIZE], abs=3)
    study.keyboard.press("ArrowDown")
    expect(study.locator('.box.bright[data-finding="2"] .outline')).to_be_visible()
    study.keyboard.press("Escape")
    expect(item).not_to_have_attribute("aria-current", "true")
    expect(label).to_be_hidden()
    expect(study.locator('.box[data-finding="2"] .label.short')).to_have_text(re.compile("● 2"))
    plate = study.locator('.box[data-finding="2"] .label.short .plate').bounding_box()
    assert plate is not None
    study.mouse.click(plate["x"] + 3, plate["y"] + 3)
    expect(item).to_have_attribute("aria-current", "true")
    study.keyboard.press("Escape")
    study.keyboard.press("p")
    _at(study, NODULE[0] + 1)
    study.locator('.finding-list li[data-finding="1"] .jump').click()
    _at(study, 12)
    study.locator('.slider .tick[data-finding="2"]').click()
    _at(study, NODULE[0] + 1)


def test_marks_and_organs_go_on_and_off_and_stay_so_on_the_next_slice(study: Page) -> None:
    effusion = study.locator('.box[data-finding="1"] .outline')
    lungs = study.locator("path.anatomy")
    expect(effusion).to_be_visible()
    expect(lungs).to_have_count(2)
    study.keyboard.press("1")
    expect(effusion).to_be_hidden()
    study.keyboard.press("ArrowDown")
    _at(study, 11)
    expect(effusion).to_have_count(1)
    expect(effusion).to_be_hidden()
    study.keyboard.press("b")
    study.keyboard.press("b")
    expect(effusion).to_be_visible()
    study.keyboard.press("a")
    expect(lungs.first).to_be_hidden()
    study.keyboard.press("ArrowUp")
    _at(study, 12)
    expect(lungs).to_have_count(2)
    expect(lungs.first).to_be_hidden()
    study.get_by_label("Left lung").check()
    expect(lungs.nth(1)).to_be_visible()
    expect(lungs.nth(0)).to_be_hidden()


def test_windows_change_the_picture_and_stay(study: Page) -> None:
    study.keyboard.press("m")
    expect(study.locator("#pixels")).to_have_attribute("src", re.compile("window=mediastinum"))
    soft = _mean(study)
    study.keyboard.press("l")
    expect(study.locator("#pixels")).to_have_attribute("src", re.compile("window=lung"))
    assert _mean(study) > soft + 30
    expect(study.locator("[data-window=lung]")).to_have_attribute("aria-current", "true")
    study.keyboard.press("ArrowDown")
    _at(study, 11)
    expect(study.locator("#pixels")).to_have_attribute("src", re.compile("window=lung"))
    expect(study).to_have_url(re.compile(r"image=20\b.*window=lung|window=lung.*image=20\b"))
    study.reload()
    ready(study)
    _at(study, 11)
    expect(study.locator("[data-window=lung]")).to_have_attribute("aria-current", "true")
    study.get_by_role("link", name="Stored").click()
    expect(study.locator("#pixels")).not_to_have_attribute("src", re.compile("window="))


def test_another_series_opens_at_the_same_place(study: Page) -> None:
    study.keyboard.press("]")
    # Its slices are 15 mm apart and begin 5 mm higher: the nearest to z -65 is at -70.
    expect(study.locator("#position")).to_have_text("Slice 4 of 10 · z −70.0 mm")
    expect(study.locator(".series [aria-current]")).to_contain_text("Chest soft tissue 15.0")
    expect(study.locator(".slider .tick")).to_have_count(0)
    study.locator(".series a").first.click()
    expect(study.locator("#position")).to_have_text(re.compile(r"^Slice 11 of 30"))
    expect(study.locator(".slider .tick")).to_have_count(2)
    study.keyboard.press("Shift+ArrowRight")
    expect(study.locator("#position")).to_have_text(re.compile(r"^Slice 4 of 10"))


def test_a_slice_that_cannot_be_shown_says_so_and_the_next_one_can(study: Page, ct: CtStudy) -> None:
    study.route(
        re.compile(rf"{re.escape(ct.sop_uids[10])}/image\.png"),
        lambda route: route.fulfill(
            status=422, content_type="application/json", body='{"error": "The pixels are cut off.", "code": "X"}'
        ),
    )
    study.reload()
    ready(study)
    study.keyboard.press("ArrowDown")
    expect(study.locator("#broken")).to_have_text("The pixels are cut off.")
    study.keyboard.press("ArrowDown")
    _at(study, 10)
    expect(study.locator("#broken")).to_be_hidden()


def test_marks_that_cannot_be_loaded_are_not_taken_for_none(
    page: Page, base: str, tenant: TenantId, ct: CtStudy
) -> None:
    log_in(page, base, tenant)
    page.route(re.compile(r"/stage\?"), lambda route: route.fulfill(status=503, body="{}"))
    page.goto(f"{base}/studies/{ct.study_uid}")
    ready(page)
    expect(page.locator('.box[data-finding="1"] .outline')).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#broken")).to_have_text("What the AI marked on this image could not be loaded.")


def test_the_page_works_without_scripts(page: Page, base: str, tenant: TenantId, ct: CtStudy) -> None:
    log_in(page, base, tenant)
    context = page.context.browser.new_context(  # type: ignore[union-attr]
        java_script_enabled=False, storage_state=page.context.storage_state()
    )
    plain = context.new_page()
    plain.goto(f"{base}/studies/{ct.study_uid}?image=9&window=lung")
    expect(plain.locator("#position")).to_contain_text("Slice 22 of 30")
    expect(plain.locator('.box[data-finding="2"] .outline')).to_be_visible()
    plain.locator("[rel=next]").click()
    expect(plain.locator("#position")).to_contain_text("Slice 21 of 30")
    plain.get_by_role("link", name="slice 12").click()
    expect(plain.locator("#position")).to_contain_text("Slice 12 of 30")
    context.close()


def test_quality_is_one_calm_line_when_it_is_adequate(
    page: Page, base: str, overread: bootstrap.Overread, tenant: TenantId
) -> None:
    good, bad = send_ct(overread, tenant, name="GOOD^ONE"), send_ct(overread, tenant, name="BAD^ONE")
    fine = QualityAssessment(level=QualityLevel.ADEQUATE, score=0.98)
    read_ct(overread, tenant, good, fine)
    read_ct(overread, tenant, bad, POOR)
    log_in(page, base, tenant)
    page.goto(f"{base}/studies/{good.study_uid}")
    expect(page.locator(".quality")).to_have_text(re.compile(r"^\s*Quality adequate\s*$"))
    page.goto(f"{base}/studies/{bad.study_uid}")
    quality = page.locator(".quality")
    expect(quality).to_contain_text("inadequate")
    expect(quality).to_contain_text("repeat suggested")
    expect(quality.locator(".issues li")).to_have_text(
        [
            re.compile("severe.*Motion artifact.*Edges are smeared over 4 mm", re.DOTALL),
            re.compile("moderate.*Cut off anatomy.*right base", re.DOTALL),
        ]
    )
    expect(quality).to_contain_text("hold the breath")


def test_the_repeat_list_is_live_and_empty_again_when_the_images_came_again(
    page: Page, base: str, overread: bootstrap.Overread, tenant: TenantId
) -> None:
    fine = send_ct(overread, tenant, name="FINE^ONE", second_series=False)
    read_ct(overread, tenant, fine)
    log_in(page, base, tenant, "technician")
    expect(page.locator("#repeats .count")).to_have_text("0")
    page.keyboard.press("t")
    page.wait_for_url("**/?repeat=1")
    ready(page)
    expect(page.get_by_role("heading", name="No repeat is suggested")).to_be_visible()
    expect(page.locator(".empty")).to_contain_text("Take the images again")

    poor = send_ct(overread, tenant, name="MOVED^PATIENT", second_series=False)
    expect(page.locator("#repeats .count")).to_have_text("0")
    read_ct(overread, tenant, poor, POOR)
    row = page.locator("tbody tr")
    expect(row).to_have_count(1)
    expect(page.locator("#repeats .count")).to_have_text("1")
    for said in ("MOVED, PATIENT", "CT", "2026-01-15 02:00", "severe", "Motion artifact", "hold the breath"):
        expect(row).to_contain_text(said)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/studies/**")
    ready(page)
    expect(page.locator(".quality")).to_contain_text("repeat suggested")
    page.goto(f"{base}/worklist?repeat=1")
    ready(page)
    with overread.database.unit(tenant) as unit:
        study = unit.studies.find(poor.study_uid)
        assert study is not None
        overread.requests.create(tenant, study=str(study.id), modality=None, priority=None, requested_by="technician")
    expect(page.locator("tbody tr")).to_have_count(0)
    expect(page.locator("#repeats .count")).to_have_text("0")


@pytest.mark.parametrize("size", [(1366, 768), (3840, 2160)])
def test_nothing_overflows(
    page: Page, base: str, overread: bootstrap.Overread, tenant: TenantId, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    filed = send_ct(overread, tenant)
    read_ct(overread, tenant, filed, POOR)
    log_in(page, base, tenant)
    page.goto(f"{base}/?repeat=1")
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(f"{base}/studies/{filed.study_uid}")
    ready(page)
    _at(page, 12)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    places = page.evaluate(
        """() => ["#windows", ".corner.bottom-right", ".corner.bottom-left", ".series", "#slider", ".at-right"]
            .map((s) => { const r = document.querySelector(s).getBoundingClientRect();
                          return [r.left, r.top, r.right, r.bottom]; })"""
    )
    stage = page.locator("#stage").bounding_box()
    assert stage is not None
    for i, (left, top, right, bottom) in enumerate(places):
        assert left >= stage["x"] - 1 and right <= stage["x"] + stage["width"] + 1
        assert top >= stage["y"] - 1 and bottom <= math.ceil(stage["y"] + stage["height"]) + 1
        for other_left, other_top, other_right, other_bottom in places[:i]:
            apart = right <= other_left + 1 or other_right <= left + 1 or bottom <= other_top or other_bottom <= top
            assert apart, (i, places)
