"""A real browser on the real application: PostgreSQL, real events, Debian's Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from overread import bootstrap
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.services.access import Role, hash_password
from overread.services.values import UserRow
from tests.app_on_fakes import PASSWORD
from tests.integration.conftest import overread, settings, tenant
from tests.served import served

__all__ = ["overread", "settings", "tenant"]

ARGS = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_HASH = hash_password(PASSWORD)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One Chromium for a module. While it lasts, its event loop runs in this thread: no `asyncio.run` beside it."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        yield started
        started.close()


@pytest.fixture
def base(overread: bootstrap.Overread, tenant: TenantId) -> Iterator[str]:
    """The address of the application, with a user for each role in `tenant`."""
    with overread.database.unit(tenant) as unit:
        for role in Role:
            unit.users.add(
                UserRow(
                    id=uuid7(),
                    tenant=tenant,
                    name=role.value,
                    display_name=f"Dr. {role.value.capitalize()}",
                    role=role.value,
                    password_hash=_HASH,
                    disabled=False,
                )
            )
    with served(bootstrap.build_app(overread)) as address:
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh window at a laptop's size; an error in the page fails the test."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda m: problems.append(m.text) if "Content Security Policy" in m.text else None)
    opened.set_default_timeout(20_000)
    yield opened
    context.close()
    assert problems == []
