"""`overread demo --once`, the whole way: real processes, our own DICOM port, a folder of the user's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from overread import bootstrap
from overread.config import Settings
from overread.dicom.samples import shipped
from tests.integration.test_analyses import radiograph
from tests.integration.test_supervisor import free_port


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    yield {
        **os.environ,
        "OVERREAD_STATE": str(tmp_path / "state"),
        "OVERREAD_HTTP_PORT": str(free_port()),
        "OVERREAD_DICOM_PORT": str(free_port()),
        "OVERREAD_RECEIVERS": "1",
        "COLUMNS": "200",
    }
    bootstrap.embedded(Settings(_env_file=None, state=tmp_path / "state")).destroy()


def demo(environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "overread", "demo", "--once", "--studies", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_folder_of_the_users_is_read_and_kept(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    (folder / "chest.dcm").write_bytes(radiograph(1, "demo", "a"))
    (folder / "broken.dcm").write_bytes(radiograph(2, "demo", "b")[:400])
    (folder / "notes.txt").write_text("not an image")
    for path in shipped():
        shutil.copy(path, folder)
    first = demo(environment, folder)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "PHANTOM TEST" in first.stdout
    assert "fewer than three CT slices" in first.stdout
    assert "broken.dcm" in first.stdout
    assert "notes.txt" in first.stdout
    assert "radiologist" in first.stdout
    second = demo(environment, folder)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "Traceback" not in first.stderr + second.stderr


def test_an_empty_folder_is_no_success(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    result = demo(environment, folder)
    assert result.returncode == 1
    assert "nothing to read" in result.stdout
