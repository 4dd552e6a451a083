"""Sessions in a real browser: a page that nobody uses says that it ends, and leads back to where one was."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from overread import bootstrap
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.services.access import hash_password
from overread.services.values import UserRow
from tests.app_on_fakes import PASSWORD
from tests.served import served

IDLE_S = 12.0


@pytest.fixture
def impatient(overread: bootstrap.Overread, tenant: TenantId) -> Iterator[str]:
    """The application, where a page's session lasts twelve seconds."""
    with overread.database.unit(tenant) as unit:
        for name in ("admin", "radiologist"):
            unit.users.add(
                UserRow(
                    id=uuid7(),
                    tenant=tenant,
                    name=name,
                    display_name=f"Dr. {name}",
                    role=name,
                    password_hash=hash_password(PASSWORD),
                    disabled=False,
                )
            )
    app = bootstrap.build_app(overread)
    app.state.services.access.idle = timedelta(seconds=IDLE_S)
    with served(app) as address:
        yield address


def _log_in(page: Page, base: str, tenant: TenantId, name: str, target: str = "/") -> None:
    page.goto(f"{base}/login?next={target}")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Hospital").fill(tenant.slug)
    page.keyboard.press("Enter")


def test_an_idle_page_ends_and_leads_back(page: Page, impatient: str, tenant: TenantId) -> None:
    _log_in(page, impatient, tenant, "admin", "/admin/users")
    expect(page.get_by_role("heading", name="Users", exact=True)).to_be_visible()
    note = page.locator("#session")
    for _ in range(10):  # somebody works: longer than a session of nobody
        page.keyboard.press("Shift")
        page.wait_for_timeout(1500)
    expect(note).to_be_hidden()
    expect(note).to_have_attribute("data-state", "ending", timeout=15_000)
    expect(note).to_contain_text("Press a key or move the pointer")
    page.keyboard.press("Shift")
    expect(note).to_be_hidden()
    expect(note).to_have_attribute("data-state", "ended", timeout=20_000)
    page.get_by_role("link", name="Log in again").click()
    expect(page.get_by_role("status")).to_contain_text("Nobody used the page")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Hospital").fill(tenant.slug)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Users", exact=True)).to_be_visible()


def test_the_worklist_of_nobody_is_covered(page: Page, impatient: str, tenant: TenantId) -> None:
    """The live worklist listens to events all the time, and that is no use of the page."""
    _log_in(page, impatient, tenant, "radiologist")
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    page.wait_for_function(
        "() => document.querySelector('#session')?.dataset.state === 'ended' || location.pathname === '/login'",
        timeout=25_000,
    )


def test_users_by_keyboard(page: Page, base: str, tenant: TenantId) -> None:
    _log_in(page, base, tenant, "admin", "/admin/users")
    page.get_by_label("User name").fill("kim")
    page.keyboard.press("Tab")
    page.keyboard.type("Dr. Kim")
    page.keyboard.press("Enter")
    made = page.locator(".made code")
    assert len(made.inner_text()) == 23
    row = page.get_by_role("row", name="Dr. Kim")
    expect(row).to_be_visible()
    row.get_by_role("button", name="Disable kim").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Enable kim")).to_be_visible()


def test_second_factor_with_a_qr_code(page: Page, base: str, tenant: TenantId) -> None:
    _log_in(page, base, tenant, "radiologist", "/account")
    page.locator("form[action='/account/second-factor']").get_by_label("Present password").fill(PASSWORD)
    page.keyboard.press("Enter")
    picture = page.locator(".qr svg")
    expect(picture).to_be_visible()
    box = picture.bounding_box()
    assert box is not None and box["width"] > 120 and abs(box["width"] - box["height"]) < 2
