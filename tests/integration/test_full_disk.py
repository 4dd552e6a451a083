"""The disk of the objects runs full under load (a small tmpfs): refused by status, never acknowledged and lost."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from overread import bootstrap
from overread.config import Settings
from overread.dicom.listener import listen
from overread.dicom.receive import ReceiveOptions, StorageScp
from overread.dicom.send import send_files
from overread.domain.study import TenantId
from tests.integration.test_analyses import radiograph
from tests.integration.test_api_store import _DICOM, _add_users, _bearer
from tests.receiving import KnownSenders

#: 256 folders are in it too, which take no room of a tmpfs worth a word.
SIZE_MIB = 1
SENDERS, OF_EACH = 4, 30


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small tmpfs")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def on_small_disk(settings: Settings, small_disk: Path) -> Iterator[bootstrap.Overread]:
    built = bootstrap.build(settings.model_copy(update={"objects_url": str(small_disk / "objects")}))
    yield built
    built.close()


def test_nothing_acknowledged_is_lost_when_the_disk_is_full(
    on_small_disk: bootstrap.Overread, small_disk: Path, tenant: TenantId
) -> None:
    overread = on_small_disk
    _add_users(overread, tenant)
    client = TestClient(bootstrap.build_app(overread), follow_redirects=False)
    me = _bearer(client, tenant)
    files = {
        f"{sender} {number}": radiograph(number, f"full {sender}", "a")
        for sender in range(SENDERS)
        for number in range(OF_EACH)
    }
    assert sum(map(len, files.values())) > 3 * SIZE_MIB << 19, "more than the disk holds"
    answers: dict[str, str] = {}

    def send(names: list[str]) -> None:
        to_send = ((name, files[name]) for name in names)
        for name, _, sent in send_files(to_send, host="127.0.0.1", port=port, called_ae="OVERREAD"):
            answers[name] = "" if sent.accepted else sent.reason

    def everybody(names: list[str]) -> None:
        threads = [threading.Thread(target=send, args=(names[start::SENDERS],)) for start in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with listen("127.0.0.1", 0) as listening:
        scp = StorageScp(overread.receive, KnownSenders(known={("OVERREAD", "127.0.0.1"): tenant}), ReceiveOptions())
        scp.start(listening)
        port: int = listening.getsockname()[1]
        try:
            everybody(list(files))
            accepted = {name for name, reason in answers.items() if not reason}
            refused = {name: reason for name, reason in answers.items() if reason}
            assert len(answers) == len(files)
            assert accepted and refused, "it must have run full in between"
            assert all(reason.startswith("0xA700") for reason in refused.values()), set(refused.values())
            here(overread, tenant, [files[name] for name in accepted])
            answer = client.post(
                "/api/studies", content=next(iter(files[n] for n in refused)), headers={**me, **_DICOM}
            )
            assert (answer.status_code, answer.json()["code"]) == (503, "STORAGE_FULL"), answer.text
            assert client.get("/api/image-analysis", headers=me).status_code == 200  # the worklist can be read
            assert not list(small_disk.rglob(".put-*"))  # no halves are left

            subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
            everybody(list(refused))  # as the senders do by themselves
            assert not any(answers.values())
        finally:
            scp.stop(5.0)
    here(overread, tenant, list(files.values()))


def here(overread: bootstrap.Overread, tenant: TenantId, files: list[bytes]) -> None:
    """Exactly these are indexed, and each object is, byte for byte, what was sent."""
    with overread.database.unit(tenant) as unit:
        keys = list(unit.custody.object_keys())
    pixels = sorted(data[-10_000:] for data in files)
    assert sorted(overread.objects.get(tenant, key)[-10_000:] for key in keys) == pixels
