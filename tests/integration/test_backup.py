"""An installation with studies is backed up while it serves, destroyed, and put back on an empty machine.

With OVERREAD_TEST_DATABASE=external the backup of the embedded PostgreSQL 18 goes into Debian's 15 behind pgbouncer.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from overread import backup as backups
from overread import bootstrap, seed
from overread.admin import tenants as admin_tenants
from overread.admin.audit import check as check_audit
from overread.backup import KeyPlace
from overread.backup.blobs import Blobs
from overread.backup.restore import entries
from overread.config import Settings
from overread.dicom.send import send_files
from overread.domain.errors import BackupDamaged, Conflict, InvalidRequest, KeyUnavailable, SetupError
from overread.store import dump, migrate
from overread.supervisor import Supervisor
from tests.app_on_fakes import make_dicom
from tests.integration.conftest import DATABASE, installation
from tests.integration.test_supervisor import eventually, free_port

#: pynetdicom leaves the socket of a refused connection to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.any_database,
]
TENANT = bootstrap.DEMO_TENANT


@dataclass
class Facts:
    """What a radiologist can see, and who looked."""

    worklist: Any = None
    results: dict[str, Any] = field(default_factory=dict)
    reports: dict[str, bytes] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Saved:
    """A backup of an installation that is gone."""

    folder: Path
    keys: Path
    facts: Facts
    first: backups.Made
    second: backups.Made
    secret: str
    #: Audit rows that were sealed when the backup began.
    audited: int


def ports() -> dict[str, Any]:
    return {"http_port": free_port(), "dicom_port": free_port(), "receivers": 1, "quiet_factor": 0.05}


@contextmanager
def empty_machine(state: Path) -> Iterator[Settings]:
    """Nothing is in its state folder, and no server was ever started there; or an external one without hospitals."""
    if DATABASE == "external":
        with installation(state, **ports()) as settings:
            yield settings
        return
    settings = Settings(_env_file=None, state=state, **ports())
    try:
        yield settings
    finally:
        bootstrap.embedded(settings).destroy()


def send(settings: Settings, numbers: range) -> None:
    files = []
    for n in numbers:
        uid = f"1.2.826.77.{n}"
        files.append((f"{n}.dcm", make_dicom(StudyInstanceUID=uid, SOPInstanceUID=f"{uid}.1", PatientID=f"P{n}")))
    sent = send_files(files, host="127.0.0.1", port=settings.dicom_port, called_ae=bootstrap.DEMO_AE)
    assert all(outcome.accepted for _, _, outcome in sent)


def look(settings: Settings, *, studies: int) -> Facts:
    """Log in by password and read everything."""
    facts = Facts()
    with httpx2.Client(base_url=f"http://127.0.0.1:{settings.http_port}", timeout=60) as page:
        body = {"username": "radiologist", "password": seed.password_of(settings, "radiologist"), "tenant": TENANT.slug}
        answer = page.post("/api/auth/login", json=body)
        assert answer.status_code == 200, answer.text
        me = {"Authorization": f"Bearer {answer.json()['token']}"}

        def listed() -> Any:
            return page.get("/api/image-analysis?limit=100", headers=me).json()

        def all_read() -> bool:
            analyses = listed()["analyses"]
            return len(analyses) == studies and all(a["status"] in ("completed", "failed") for a in analyses)

        assert eventually(all_read, 120), listed()
        facts.worklist = listed()
        for row in facts.worklist["analyses"]:
            number = row["analysisId"]
            facts.results[number] = page.get(f"/api/image-analysis/{number}", headers=me).json()
            if row["status"] == "completed":
                report = f"/api/image-analysis/{number}/sr"
                assert eventually(lambda report=report: page.get(report, headers=me).status_code == 200)
                facts.reports[number] = page.get(report, headers=me).content
        for row in page.get("/api/studies?limit=100", headers=me).json()["studies"]:
            study = page.get(f"/api/studies/{row['studyId']}", headers=me).json()
            for instance in study["instances"]:
                facts.pictures[instance["image"]] = page.get(instance["image"], headers=me).content
    return facts


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    """Received, analysed, backed up twice while it served, and destroyed."""
    folder = tmp_path_factory.mktemp("backup")
    state = folder / "state"
    settings = Settings(_env_file=None, state=state, **ports())
    to, keys = folder / "data", folder / "vault"
    with Supervisor(settings).running():
        site = settings.models_dir / "site" / "1.0.0"
        site.mkdir(parents=True)
        (site / "note.txt").write_bytes(b"a package of the site")
        admin_tenants.create(settings, "closed_ward", "A ward that is closed")
        admin_tenants.suspend(settings, "closed_ward", "moved out")
        send(settings, range(1, 4))
        look(settings, studies=3)
        more = threading.Thread(target=send, args=(settings, range(4, 9)))  # it serves on
        more.start()
        first = backups.backup(settings, to, KeyPlace(folder=keys))
        more.join()
        facts = look(settings, studies=8)
        time.sleep(1.1)  # a backup a second
        audited = sum(report.rows for report, _ in check_audit(settings, None))
        second = backups.backup(settings, to, KeyPlace(folder=keys))
        secret = (state / "secret.key").read_text()
    bootstrap.embedded(settings).destroy()
    shutil.rmtree(state)
    yield Saved(folder=to, keys=keys, facts=facts, first=first, second=second, secret=secret, audited=audited)


def test_an_empty_machine_has_everything_again(saved: Saved, tmp_path: Path) -> None:
    state = tmp_path / "new"
    with empty_machine(state) as settings:
        began = time.monotonic()
        done = backups.restore(settings, saved.folder, keys=saved.keys)
        print(f"restored {done.rows} rows and {done.objects} objects in {time.monotonic() - began:.1f} s")
        assert set(done.tenants) == {"demo", "closed_ward"}
        assert done.missing == 0
        assert (settings.models_dir / "site" / "1.0.0" / "note.txt").read_bytes() == b"a package of the site"
        with Supervisor(settings).running():
            facts = look(settings, studies=8)
            assert facts.worklist == saved.facts.worklist
            assert facts.results == saved.facts.results
            assert facts.reports == saved.facts.reports and facts.reports
            assert facts.pictures == saved.facts.pictures and facts.pictures
            send(settings, range(9, 10))  # and it goes on: new numbers, new jobs
            look(settings, studies=9)
            reports = [report for report, _ in check_audit(settings, None)]
            assert all(report.good for report in reports), [report.problems for report in reports]
            assert sum(report.rows for report in reports) > saved.audited
            states = {h.state.tenant.slug: h.state.state for h in admin_tenants.listing(settings)}
            assert states == {"demo": "active", "closed_ward": "suspended"}
        with pytest.raises(Conflict, match="not empty"):
            backups.restore(settings, saved.folder, keys=saved.keys)


def test_what_was_copied_is_not_copied_again(saved: Saved) -> None:
    assert saved.first.copied == saved.first.objects >= 6
    assert saved.second.objects == 16  # eight images, eight reports
    assert saved.second.copied == saved.second.objects - saved.first.objects
    assert backups.check(saved.folder).name == saved.second.manifest.name
    assert backups.check(saved.folder, saved.first.manifest.name).rows == saved.first.manifest.rows


def test_no_key_is_beside_the_data(saved: Saved) -> None:
    secret = saved.secret.strip()
    master = (saved.keys / "master.key").read_text().split()[0]
    assert (saved.keys / "secret.key").read_text().strip() == secret
    for path in saved.folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
        if path.is_file():
            data = path.read_bytes()
            for key in (secret, master):
                assert key.encode() not in data and bytes.fromhex(key) not in data, path


def test_where_the_keys_go_must_be_said(saved: Saved, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, state=tmp_path)
    for place in (
        KeyPlace(),
        KeyPlace(folder=tmp_path / "data"),
        KeyPlace(folder=tmp_path / "data" / "keys"),
        KeyPlace(folder=tmp_path),
        KeyPlace(folder=tmp_path / "vault", with_data=True),
    ):
        with pytest.raises(InvalidRequest):
            backups.backup(settings, tmp_path / "data", place)
    with pytest.raises(SetupError, match="There is no installation"):
        backups.backup(settings, tmp_path / "data", KeyPlace(nowhere=True))


def test_without_the_right_keys_nothing_is_touched(saved: Saved, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, state=tmp_path / "state")
    with pytest.raises(KeyUnavailable):
        backups.restore(settings, saved.folder, keys=None)
    other = tmp_path / "other"
    other.mkdir()
    (other / "secret.key").write_text("ab" * 32)
    (other / "master.key").write_text("cd" * 32)
    with pytest.raises(BackupDamaged, match="changed, or was made with another"):
        backups.restore(settings, saved.folder, keys=other)
    assert not (tmp_path / "state" / "secret.key").exists()


def test_a_changed_file_is_found(saved: Saved, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved.folder, copy)
    table = max(saved.second.manifest.tables, key=lambda t: t.blob.size)
    path = copy / "blobs" / table.blob.sha256[:2] / table.blob.sha256
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BackupDamaged):
        backups.check(copy)
    settings = Settings(_env_file=None, state=tmp_path / "state")
    with pytest.raises(BackupDamaged):
        backups.restore(settings, copy, keys=saved.keys)
    assert not (tmp_path / "state" / "secret.key").exists(), "nothing was begun"
    manifest = copy / "backups" / f"{saved.second.manifest.name}.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"rows":', b'"rows": 1'))
    with pytest.raises(BackupDamaged, match="was changed"):
        backups.restore(settings, copy, keys=saved.keys)


def test_an_interrupted_restore_goes_on(saved: Saved, tmp_path: Path) -> None:
    """It stops at its first object, is not served half, and is whole after the second run."""
    copy = tmp_path / "copy"
    shutil.copytree(saved.folder, copy)
    state = tmp_path / "state"
    index = next(i for i in saved.second.manifest.objects if i.tenant == TENANT.slug)
    lost = next(blob for _, blob in entries(Blobs(copy), index))
    path = copy / "blobs" / lost.sha256[:2] / lost.sha256
    path.rename(tmp_path / "lost")
    with empty_machine(state) as settings:
        with pytest.raises(BackupDamaged):
            backups.restore(settings, copy, keys=saved.keys)
        with pytest.raises(SetupError, match="half restored"), Supervisor(settings).running():
            pass
        (tmp_path / "lost").rename(path)
        assert backups.restore(settings, copy, keys=saved.keys).objects == saved.second.objects
        server = bootstrap.embedded(settings) if not settings.database_url else None
        if server is not None:
            server.start()
        engine = migrate.owner_engine(bootstrap.owner_conninfo(settings))
        with dump.snapshot(engine) as snapshot:
            named = set(snapshot.object_keys(TENANT))
        engine.dispose()
        if server is not None:
            server.stop()
        stored = bootstrap.build(settings).stored
        assert named <= {item.key for item in stored.list(TENANT)} and len(named) >= 16
