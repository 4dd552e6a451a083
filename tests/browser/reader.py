"""What every story in a browser begins with."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from overread.domain.study import TenantId
from tests.app_on_fakes import PASSWORD


def log_in(page: Page, base: str, tenant: TenantId, role: str = "radiologist") -> None:
    """Through the form."""
    page.goto(f"{base}/login")
    page.fill("[name=username]", role)
    page.fill("[name=password]", PASSWORD)
    page.fill("[name=tenant]", tenant.slug)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: not url.endswith("/login"))
    if role != "operator":
        ready(page)


def ready(page: Page) -> None:
    """The page's script runs and has a connection: keys work from here on."""
    expect(page.locator("#live")).to_have_text("live")
