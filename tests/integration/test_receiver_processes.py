"""The receiver as it runs: processes on one port, a real database, DCMTK as sender, and deaths at bad moments."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from overread import bootstrap, receiver
from overread.config import Settings
from overread.dicom.listener import listen
from overread.domain.errors import SetupError
from overread.domain.study import TenantId
from overread.store import migrate
from tests.receiving import association

START = (
    "import sys; from overread.config import Settings; from overread.receiver import run;"
    " sys.exit(run(Settings.model_validate_json(sys.argv[1]), ready=lambda: print('ready', flush=True)))"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(check: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False


def register(settings: Settings, tenant: TenantId, called: str, network: str) -> None:
    engine = migrate.owner_engine(bootstrap.owner_conninfo(settings))
    migrate.add_sender(engine, tenant, called_ae=called, network=network)
    engine.dispose()


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()]


@contextmanager
def receiving(settings: Settings, processes: int = 2) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A receiver's port and its parent process."""
    mine = settings.model_copy(update={"dicom_port": free_port(), "receivers": processes})
    command = [sys.executable, "-c", START, mine.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert any(line == b"ready\n" for line in process.stdout)
            yield mine.dicom_port, process
        finally:
            process.terminate()
            process.communicate(timeout=60)


class Study:
    """CT slices of one study in a folder, named by their number."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.uid = folder, str(generate_uid())
        self.instances = {f"{n:04}.dcm": str(generate_uid()) for n in range(count)}
        folder.mkdir()
        ds = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        ds.StudyInstanceUID, ds.SeriesInstanceUID = self.uid, generate_uid()
        for number, (name, uid) in enumerate(self.instances.items()):
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
            ds.InstanceNumber = number
            ds.save_as(folder / name)

    def send(self, storescu: str, port: int, called: str) -> subprocess.Popen[str]:
        """storescu sends them all over one association, in order of their names, and tells of each."""
        return subprocess.Popen(
            [
                storescu,
                "-v",
                "-aec",
                called,
                "127.0.0.1",
                str(port),
                *(str(self.folder / name) for name in self.instances),
            ],
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def acknowledged(self, said: str) -> list[str]:
        """SOPInstanceUIDs that were answered with success."""
        pairs = re.findall(
            r"Sending file: \S+/(\d+\.dcm)\n(?:(?!Sending file).*\n)*?.*Store Response \(Success\)", said
        )
        return [self.instances[name] for name in pairs]


def on_disk(settings: Settings, tenant: TenantId) -> list[Path]:
    """Objects that were written, acknowledged or not."""
    return list((settings.state_dir / "objects" / tenant.slug).rglob("*.dcm"))


def held(settings: Settings, tenant: TenantId, study: Study) -> dict[str, bytes]:
    """What is indexed of the study, and its bytes: whole, as their hash says."""
    overread = bootstrap.build(settings)
    try:
        with overread.database.unit(tenant) as unit:
            row = unit.studies.find(study.uid)
            if row is None:
                return {}
            unit.studies.assemble(row.id)  # only then are the instances listed
            stored = unit.studies.instances(row.id)
        files = {i.record.sop_instance_uid: overread.objects.get(tenant, i.object_key) for i in stored}
        assert len(files) == len(stored), "each instance once"
        for instance in stored:
            digest = hashlib.sha256(files[instance.record.sop_instance_uid]).hexdigest()
            assert digest == instance.record.file_sha256
        return files
    finally:
        overread.close()


@pytest.mark.parametrize("objects_before", [20, 100, 250])
def test_kill_9_loses_nothing_that_was_acknowledged(
    objects_before: int, settings: Settings, tenant: TenantId, storescu: str, tmp_path: Path
) -> None:
    """Both processes die in the middle of associations; they are replaced, and what is sent again is kept once."""
    called = f"KILL{tenant.slug[-8:]}".upper()
    register(settings, tenant, called, "127.0.0.0/8")
    studies = [Study(tmp_path / f"s{n}", 150) for n in range(3)]
    with receiving(settings) as (port, parent):
        warm = Study(tmp_path / "warm", 1).send(storescu, port, called)
        warm.communicate(timeout=60)
        assert warm.returncode == 0
        victims = children(parent.pid)
        assert len(victims) == 2
        senders = [study.send(storescu, port, called) for study in studies]
        assert eventually(lambda: len(on_disk(settings, tenant)) >= objects_before)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        said = [sender.communicate(timeout=60)[0] for sender in senders]
        acknowledged = [study.acknowledged(text) for study, text in zip(studies, said, strict=True)]
        assert any(0 < len(a) < 150 for a in acknowledged), "killed in the middle"
        for study, uids in zip(studies, acknowledged, strict=True):
            files = held(settings, tenant, study)
            assert set(uids) <= set(files)
            for uid in uids:
                assert pydicom.dcmread(pydicom.filebase.DicomBytesIO(files[uid])).SOPInstanceUID == uid

        assert eventually(lambda: len(set(children(parent.pid)) - set(victims)) == 2), "replaced"
        for study in studies:
            again = study.send(storescu, port, called)
            text, _ = again.communicate(timeout=120)
            assert again.returncode == 0, text
            assert set(held(settings, tenant, study)) == set(study.instances.values())


def test_a_stop_in_the_middle_is_clean(settings: Settings, tenant: TenantId, storescu: str, tmp_path: Path) -> None:
    called = f"STOP{tenant.slug[-8:]}".upper()
    register(settings, tenant, called, "127.0.0.0/8")
    study = Study(tmp_path / "study", 300)
    with receiving(settings) as (port, parent):
        sender = study.send(storescu, port, called)
        assert eventually(lambda: bool(on_disk(settings, tenant)))
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(30) == 0
        said, _ = sender.communicate(timeout=60)
        acknowledged = study.acknowledged(said)
        assert 0 < len(acknowledged) < 300
        # What was in flight was answered too: not one more is stored than was acknowledged.
        assert set(held(settings, tenant, study)) == set(acknowledged), said[-900:]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_children_follow_a_killed_parent(settings: Settings) -> None:
    with receiving(settings) as (port, parent):
        orphans = children(parent.pid)
        parent.kill()
        parent.wait()
        # Once they run at all they look for their parent twice a second; a zombie is gone as well.
        assert eventually(lambda: not any(_alive(pid) for pid in orphans))
        with listen("127.0.0.1", port):
            pass


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_tenants_are_told_apart_by_title_and_address(
    settings: Settings, tenant: TenantId, other_tenant: TenantId, tmp_path: Path
) -> None:
    """One of them alone is no identity: the same title from the other's address is refused, and so is the reverse."""
    one, other = f"ONE{tenant.slug[-8:]}".upper(), f"TWO{tenant.slug[-8:]}".upper()
    register(settings, tenant, one, "127.0.0.2/32")
    register(settings, other_tenant, other, "127.0.0.3/32")
    study = Study(tmp_path / "study", 1)
    file = study.folder / "0000.dcm"
    with receiving(settings, processes=1) as (port, _):
        for called, source in ((one, "127.0.0.3"), (other, "127.0.0.2"), (one, "127.0.0.1"), ("NOBODY", "127.0.0.2")):
            with association(port, called=called, bind_address=(source, 0)) as assoc:
                assert assoc.is_rejected
        with association(port, called=one, bind_address=("127.0.0.2", 0)) as assoc:
            assert assoc.send_c_store(file).Status == 0
    assert len(held(settings, tenant, study)) == 1
    assert not held(settings, other_tenant, study)


def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"Cannot take DICOM port {number} on 127.0.0.1: Address already in use"):
            receiver.run(Settings(_env_file=None, state=tmp_path, dicom_port=number))


def test_gives_up_when_no_child_can_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "_LONGEST_PAUSE_S", 0.1)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        settings = Settings(_env_file=None, state=tmp_path, dicom_port=0, receivers=1)
        assert receiver.run(settings, factory="tests.no_such_module:parts") == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
