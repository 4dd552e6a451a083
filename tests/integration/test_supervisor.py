"""The whole installation as `overread serve` starts it: real processes, real deaths, clear refusals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overread import bootstrap
from overread.config import Settings
from overread.domain.errors import KeyUnavailable, SetupError
from overread.store import migrate
from overread.supervisor import Supervisor


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(check: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Supervisor]]:
    settings = Settings(
        _env_file=None,
        state=tmp_path_factory.mktemp("serve") / "state",
        http_port=free_port(),
        dicom_port=free_port(),
        receivers=1,
    )
    supervisor = Supervisor(settings)
    with supervisor.running():
        yield settings, supervisor
    bootstrap.embedded(settings).destroy()


def healthy(settings: Settings) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.http_port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def dicom_open(settings: Settings) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", settings.dicom_port)) == 0


@pytest.mark.parametrize("name", ["receiver", "worker-1", "api", "postgres"])
def test_what_is_killed_comes_back(running: tuple[Settings, Supervisor], name: str) -> None:
    settings, supervisor = running
    assert eventually(lambda: name in supervisor.pids())
    before = supervisor.pids()[name]
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: supervisor.pids().get(name, before) != before)
    assert eventually(lambda: healthy(settings) and dicom_open(settings))


def test_a_second_one_on_the_same_state_is_refused(running: tuple[Settings, Supervisor]) -> None:
    settings, _ = running
    other = settings.model_copy(update={"http_port": free_port(), "dicom_port": free_port()})
    with pytest.raises(SetupError, match="already running on the state folder"), Supervisor(other).running():
        pass


@pytest.mark.parametrize(
    ("port", "variable"), [("http_port", "OVERREAD_HTTP_PORT"), ("dicom_port", "OVERREAD_DICOM_PORT")]
)
def test_a_taken_port_is_one_clear_sentence(tmp_path: Path, port: str, variable: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"http_port": free_port(), "dicom_port": free_port()} | {port: taken.getsockname()[1]}
        settings = Settings(_env_file=None, state=tmp_path / "state", **ports)
        with pytest.raises(SetupError, match=variable), Supervisor(settings).running():
            pass


def test_no_write_right_is_one_clear_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(SetupError, match="Cannot write to the state folder"):
        Settings(_env_file=None, state=blocked / "state").prepare_state()


def test_a_full_disk_is_one_clear_sentence() -> None:
    with pytest.raises(SetupError, match="Cannot write to the state folder"):
        Settings(_env_file=None, state=Path("/dev/full/state")).prepare_state()


def test_a_refusal_on_the_command_line_has_no_traceback(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    result = subprocess.run(
        [sys.executable, "-m", "overread", "serve"],
        env={**os.environ, "OVERREAD_STATE": str(blocked / "state")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert "SETUP_ERROR" in result.stderr
    assert "Traceback" not in result.stderr


def test_another_master_key_is_one_clear_sentence(running: tuple[Settings, Supervisor]) -> None:
    settings, _ = running
    other = Supervisor(settings.model_copy(update={"master_key": "ab" * 32}))
    engine = migrate.owner_engine(bootstrap.owner_conninfo(settings))
    try:
        with pytest.raises(KeyUnavailable, match="which OVERREAD_MASTER_KEY does not hold"):
            other._open_keys(engine)
    finally:
        engine.dispose()
