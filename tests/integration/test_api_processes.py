"""Several web server processes on one port: one dies and nobody notices; what one revokes the other refuses."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import httpx2
import pytest

from overread import bootstrap, seed
from overread.config import Settings
from overread.supervisor import Supervisor
from tests.integration.test_supervisor import eventually, free_port, healthy


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Supervisor]]:
    settings = Settings(
        _env_file=None,
        state=tmp_path_factory.mktemp("processes") / "state",
        http_port=free_port(),
        dicom_port=free_port(),
        receivers=1,
        api_processes=2,
    )
    supervisor = Supervisor(settings)
    with supervisor.running():
        yield settings, supervisor
    bootstrap.embedded(settings).destroy()


def test_both_answer_and_one_may_die(running: tuple[Settings, Supervisor]) -> None:
    settings, supervisor = running
    pids = supervisor.pids()
    assert {"api-1", "api-2"} <= pids.keys() and "api" not in pids
    os.kill(pids["api-1"], signal.SIGKILL)
    assert all(healthy(settings) for _ in range(5))  # the other one answers
    assert eventually(lambda: supervisor.pids().get("api-1") not in (None, pids["api-1"]))
    os.kill(pids["api-2"], signal.SIGSTOP)
    try:  # one that hangs takes no new connection; the one that was started again has the port too
        assert eventually(lambda: healthy(settings))
    finally:
        os.kill(pids["api-2"], signal.SIGCONT)


def test_a_log_out_holds_in_all_within_five_seconds(running: tuple[Settings, Supervisor]) -> None:
    settings, _ = running
    assert eventually(lambda: healthy(settings))
    base = f"http://127.0.0.1:{settings.http_port}"
    body = {"username": "radiologist", "password": seed.password_of(settings, "radiologist")}
    headers = {"Authorization": f"Bearer {httpx2.post(f'{base}/api/auth/login', json=body).json()['token']}"}

    def statuses(times: int) -> set[int]:
        return {httpx2.get(f"{base}/api/auth/session", headers=headers).status_code for _ in range(times)}

    assert statuses(30) == {200}  # both know it now
    assert httpx2.post(f"{base}/api/auth/logout", headers=headers).status_code == 204
    time.sleep(5)
    assert statuses(30) == {401}
