"""Shared fixtures. A missing peer is skipped on a laptop and fails in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def _peer(program: str, package: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if found is None:
        message = f"{program} is missing: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def storescu() -> str:
    """DCMTK's sender."""
    return _peer("storescu", "dcmtk")


@pytest.fixture(scope="session")
def storescp_program() -> str:
    """DCMTK's receiver."""
    return _peer("storescp", "dcmtk")


@pytest.fixture(scope="session")
def chromium() -> str:
    """A real browser."""
    return _peer("chromium", "chromium")
