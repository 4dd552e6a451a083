"""One installation for all pages, with one phantom radiograph to send."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from overread import bootstrap, seed
from overread.config import Settings
from overread.dicom.phantoms import write_phantom
from overread.phantom.study import demo_studies
from overread.supervisor import Supervisor
from tests.integration.test_supervisor import free_port


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What the pages' blocks talk to."""

    settings: Settings
    environment: dict[str, str]
    #: A frontal chest radiograph (a phantom), a study of its own.
    chest: Path

    @property
    def ports(self) -> dict[str, int]:
        """Port that the pages name -> port of this installation."""
        return {"8080": self.settings.http_port, "11112": self.settings.dicom_port}


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Started as `make run` does, without the samples; only one is made, and not sent."""
    for program, package in (("curl", "curl"), ("storescu", "dcmtk"), ("dsrdump", "dcmtk")):
        if shutil.which(program, path=_without_venv(os.environ.get("PATH", ""))) is None:
            message = f"{program} is missing: apt-get install {package}"
            pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    settings = Settings(
        _env_file=None,
        state=tmp_path_factory.mktemp("docs") / "state",
        http_port=free_port(),
        dicom_port=free_port(),
        receivers=1,
        quiet_factor=0.05,
    )
    samples = settings.prepare_state() / "samples"
    samples.mkdir()
    case = demo_studies()[0]
    chest = samples / f"{case.key}.dcm"
    write_phantom(case, 1, chest)
    ours = {
        "OVERREAD_STATE": str(settings.state_dir),
        "OVERREAD_HTTP_PORT": str(settings.http_port),
        "OVERREAD_DICOM_PORT": str(settings.dicom_port),
        "OVERREAD_LOG_LEVEL": "WARNING",
        # At the end, as the tutorial says: pynetdicom brings a `storescu` of its own.
        "PATH": f"{_without_venv(os.environ.get('PATH', ''))}:{Path(sys.executable).parent}",
        "COLUMNS": "140",
        "NO_COLOR": "1",
        "PASSWORD": seed.password_of(settings, "radiologist"),
        "ADMIN_PASSWORD": seed.password_of(settings, "admin"),
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OVERREAD_")}
    try:
        with Supervisor(settings).running():
            _wait(settings)
            yield Installation(settings=settings, environment={**kept, **ours}, chest=chest)
    finally:  # as root the database lies outside the state folder
        shutil.rmtree(bootstrap.embedded(settings).data.parent, ignore_errors=True)


def _without_venv(path: str) -> str:
    return ":".join(folder for folder in path.split(":") if folder != str(Path(sys.executable).parent))


def _wait(settings: Settings) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{settings.http_port}/readyz", timeout=5) as answer:
                assert json.load(answer)["status"] == "ready"
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
