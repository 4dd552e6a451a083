"""A planted patient is sent to a whole installation, read, searched for, and caught in errors; then everything that the
installation wrote is looked through for them: logs, database, objects, spool, temporary files, addresses, headers.
"""

from __future__ import annotations

import io
import os
import re
import signal
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from overread import bootstrap, seed
from overread.config import Settings
from overread.dicom.send import send_files
from overread.store import roles
from overread.supervisor import Supervisor
from tests.app_on_fakes import make_dicom
from tests.integration.test_supervisor import eventually, free_port, healthy

#: pynetdicom leaves the socket of a refused connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
#: Each is in no other text of the world. Searched for without regard to case, in UTF-8 and UTF-16.
FAMILY, GIVEN = "Quxzylofon", "Plantedina"
PLANTED = (FAMILY, GIVEN, "PLANTID90210X", "ACCPLANT77431", "19310713", "1931-07-13", "Wardnoteplanted")
PATIENT = {
    "PatientName": f"{FAMILY}^{GIVEN}",
    "PatientID": "PLANTID90210X",
    "PatientBirthDate": "19310713",
    "AccessionNumber": "ACCPLANT77431",
    "StudyDescription": f"Chest of {FAMILY} (Wardnoteplanted)",
    "SeriesDescription": f"PA {GIVEN}",
}
NEEDLES = tuple(
    {n for w in PLANTED for n in (w.lower().encode(), w.lower().encode("utf-16-le"), w.lower().encode("utf-16-be"))}
)
#: In the clear on purpose: finding it proves that the search would find the others.
STUDY_UID = "1.2.826.0.1.3680043.8.498.77123456789"


def leaks(data: bytes) -> list[str]:
    """Planted words in these bytes."""
    low = data.lower()
    return sorted({n.decode("latin-1").replace("\0", "") for n in NEEDLES if n in low})


def planted(**changes: Any) -> bytes:
    return make_dicom(**(PATIENT | {"StudyInstanceUID": STUDY_UID} | changes))


def hostile() -> list[bytes]:
    """Names that try to become something else on their way."""
    tries = (
        "'; DROP TABLE studies; --",
        "<script>",
        "%s %(x)s {0}",
        "../../../tmp/x",
        "\\\\host\\x",
        "=1+1",
        "日本\u202e",
    )
    return [
        planted(PatientName=f"{FAMILY}{t}^{GIVEN}", StudyInstanceUID=f"{STUDY_UID}.{n}") for n, t in enumerate(tries, 1)
    ]


@dataclass
class Seen:
    """What a browser and everything between it and us sees besides the bodies of good answers."""

    addresses: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def hook(self, response: httpx2.Response) -> None:
        self.addresses.append(str(response.request.url))
        self.headers += [f"{k}: {v}" for k, v in response.headers.items()]
        if response.status_code >= 400:
            response.read()
            self.errors.append(response.text)


@dataclass
class Run:
    settings: Settings
    supervisor: Supervisor
    seen: Seen
    temporary: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """An installation in which everything happened to the planted patient."""
    folder = tmp_path_factory.mktemp("leaks")
    temporary = folder / "tmp"
    temporary.mkdir()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(temporary)
    settings = Settings(
        _env_file=None,
        state=folder / "state",
        http_port=free_port(),
        dicom_port=free_port(),
        receivers=1,
        quiet_factor=0.05,
        log_level="DEBUG",
    )
    supervisor = Supervisor(settings)
    try:
        with supervisor.running():
            made = Run(settings=settings, supervisor=supervisor, seen=Seen(), temporary=temporary)
            send(made)
            upload_and_look(made)
            break_things(made)
            yield made
    finally:
        bootstrap.embedded(settings).destroy()
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def send(run: Run) -> None:
    good = planted(SOPInstanceUID="1.2.3.4.1")
    files = [
        good,
        good,  # a duplicate
        planted(SOPInstanceUID="1.2.3.4.1", PatientSex="M"),  # another header
        planted(SOPInstanceUID="1.2.3.4.1", Rows=60),  # other pixels: quarantine
        planted(PatientID="", StudyInstanceUID=f"{STUDY_UID}.77"),
        planted(no_pixels=True, StudyInstanceUID=f"{STUDY_UID}.80"),
        planted(Modality="SR", no_pixels=True, StudyInstanceUID=f"{STUDY_UID}.78"),
        *(
            planted(
                Modality="CT", InstanceNumber=n, SOPInstanceUID=f"1.2.3.4.2.{n}", StudyInstanceUID=f"{STUDY_UID}.79"
            )
            for n in range(1, 5)
        ),
        *hostile(),
        good[: len(good) * 2 // 3],
        FAMILY.encode() * 100,
    ]
    named = [(f"{FAMILY}_{n}.dcm", data) for n, data in enumerate(files)]
    sent = list(send_files(named, host="127.0.0.1", port=run.settings.dicom_port, called_ae=bootstrap.DEMO_AE))
    assert sum(outcome.accepted for _, _, outcome in sent) >= 15
    run.seen.errors += [outcome.reason for _, _, outcome in sent if "0x" in outcome.reason]  # what the peer answered


def client(run: Run) -> httpx2.Client:
    return httpx2.Client(
        base_url=f"http://127.0.0.1:{run.settings.http_port}",
        timeout=60,
        follow_redirects=True,
        event_hooks={"response": [run.seen.hook]},
    )


def log_in(run: Run, to: httpx2.Client, user: str) -> dict[str, str]:
    body = {"username": user, "password": seed.password_of(run.settings, user), "tenant": "demo"}
    answer = to.post("/api/auth/login", json=body)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def upload_and_look(run: Run) -> None:
    packed, broken = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{FAMILY}/{GIVEN}.dcm", planted(SOPInstanceUID="1.2.3.4.3", Rows=900, Columns=900))
        archive.writestr(f"{FAMILY}/cut.dcm", planted(SOPInstanceUID="1.2.3.4.4")[:-300])
        archive.writestr("readme.txt", f"of {FAMILY} {GIVEN}")
    broken.write(packed.getvalue()[:-60])
    with client(run) as page:
        me, admin = log_in(run, page, "radiologist"), log_in(run, page, "admin")
        for name, data in (
            (f"{FAMILY}_{GIVEN}.dcm", planted(SOPInstanceUID="1.2.3.4.5")),
            (f"{FAMILY}.zip", packed.getvalue()),
            (f"{FAMILY}_broken.zip", broken.getvalue()),
            (f"{FAMILY}.txt", f"{FAMILY} {GIVEN} 19310713".encode()),
            (f"{FAMILY}.png", b"\x89PNG\r\n\x1a\n" + FAMILY.encode()),
        ):
            # The sender of a file is told about it by the name that they gave it.
            with httpx2.Client(base_url=page.base_url, timeout=60) as sender:
                answer = sender.post("/api/studies", files={"files": (name, data)}, headers=me)
                assert answer.status_code in (200, 400), answer.text
                run.seen.headers += [f"{k}: {v}" for k, v in answer.headers.items()]
        with httpx2.Client(base_url=page.base_url, timeout=60) as sender:
            big = planted(SOPInstanceUID="1.2.3.4.6", Rows=1500, Columns=1500)
            sender.post("/api/studies", content=big, headers={**me, "Content-Type": "application/dicom"})

        def done() -> bool:
            listed = page.get("/api/image-analysis?limit=100", headers=me).json()["analyses"]
            return len(listed) >= 9 and all(a["status"] in ("completed", "failed") for a in listed)

        assert eventually(done, 240), page.get("/api/image-analysis?limit=100", headers=me).text
        html = {**me, "Accept": "text/html"}
        assert FAMILY in page.get("/", headers=html).text
        for text in (FAMILY.lower(), "PLANTID90210X", f"{GIVEN} {FAMILY}", "ACCPLANT", "wardnote"):
            assert FAMILY in page.post("/worklist/rows", data={"q": text}, headers=html).text, text
            assert page.post("/api/studies/search", json={"q": text}, headers=me).json()["studies"], text
        assert page.post("/api/image-analysis/search", json={"patientId": "PLANTID90210X"}, headers=me).json()[
            "analyses"
        ]
        study = page.get(f"/api/studies/{STUDY_UID}", headers=me).json()
        assert study["patientName"] == PATIENT["PatientName"]
        for instance in study["instances"]:
            assert page.get(instance["image"], headers=me).status_code == 200
        assert FAMILY in page.get(f"/studies/{STUDY_UID}", headers=html).text
        analysis = study["analysis"]["analysisId"]
        assert eventually(lambda: page.get(f"/api/image-analysis/{analysis}/sr", headers=me).status_code == 200)
        for path in ("/rejected", "/system", "/admin/features", "/admin/patients", "/admin/audit", "/docs", "/metrics"):
            page.get(path, headers={**admin, "Accept": "text/html"})
        who = {"patientId": "PLANTID90210X", "reason": "asked for it"}
        assert page.post("/api/patients/opt-outs", json=who, headers=admin).status_code in (200, 201, 404)
        # Errors on purpose, with the patient in every place that a request has.
        planted_body = {"studyId": FAMILY, "modality": GIVEN, "patientId": "PLANTID90210X", "note": GIVEN}
        page.post("/api/image-analysis", json=planted_body, headers=me)
        page.post(
            "/api/image-analysis", json={"studyId": STUDY_UID, "modality": "X-ray", "patientId": FAMILY}, headers=me
        )
        page.post(
            "/api/image-analysis", content=f'{{"studyId": "{FAMILY}', headers={**me, "Content-Type": "application/json"}
        )
        page.get("/api/image-analysis", headers={**me, "X-Tenant-ID": FAMILY})
        page.get("/api/image-analysis", headers={"Authorization": f"Bearer {FAMILY}"})
        page.post("/worklist/rows", data={"q": FAMILY * 100}, headers=html)
        page.post("/api/studies", content=b"x", headers={**me, "Content-Type": f"application/{FAMILY}"})


def break_things(run: Run) -> None:
    """Objects vanish and are damaged, processes and the database are killed while they have the patient in hand."""
    settings = run.settings
    with bootstrap.database(settings).unit(bootstrap.DEMO_TENANT) as unit:
        study = unit.studies.find(STUDY_UID)
        assert study is not None
        first, second, *_ = unit.studies.instances(study.id)
    stored = bootstrap.build(settings).stored
    stored.path(bootstrap.DEMO_TENANT, first.object_key).unlink()  # type: ignore[union-attr]
    damaged = stored.path(bootstrap.DEMO_TENANT, second.object_key)  # type: ignore[union-attr]
    damaged.write_bytes(damaged.read_bytes()[:-7])
    _kill(run, "api")  # it has pictures in its memory
    with client(run) as page:
        me = log_in(run, page, "radiologist")
        for instance in (first, second):
            uid = instance.record.sop_instance_uid
            assert page.get(f"/api/studies/{STUDY_UID}/instances/{uid}/image.png", headers=me).status_code == 500
    for name in ("worker-1", "receiver", "postgres"):
        _kill(run, name)
    eventually(lambda: _sent_again(settings), 60)


def _kill(run: Run, name: str) -> None:
    pid = run.supervisor.pids()[name]
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: run.supervisor.pids().get(name, pid) != pid)
    assert eventually(lambda: healthy(run.settings))


def _sent_again(settings: Settings) -> bool:
    try:
        again = send_files(
            [("x.dcm", planted(SOPInstanceUID="1.2.3.4.9"))],
            host="127.0.0.1",
            port=settings.dicom_port,
            called_ae=bootstrap.DEMO_AE,
        )
        return all(outcome.accepted for _, _, outcome in again)
    except Exception:  # noqa: BLE001 - a receiver that is not back yet
        time.sleep(1)
        return False


# --- what is found ----------------------------------------------------------------------------------------------------


def owner(run: Run) -> psycopg.Connection[tuple[Any, ...]]:
    password = roles.password(run.settings.secret(), "owner")
    return psycopg.connect(bootstrap.embedded(run.settings).url, password=password, autocommit=True)


def test_no_table_holds_the_patient(run: Run) -> None:
    with owner(run) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        found: dict[str, list[str]] = {}
        whole = b""
        for (table,) in tables:
            dump = str(connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()).encode()
            whole += dump
            if words := leaks(dump):
                found[table] = words
    assert not found
    assert STUDY_UID.encode() in whole, "the search looked at the rows"
    assert any(table.endswith("procrastinate_jobs") for (table,) in tables)


def test_no_file_holds_the_patient(run: Run) -> None:
    """Logs, objects, spool, run, keys, PostgreSQL's data with its write-ahead log, and temporary files."""
    server = bootstrap.embedded(run.settings)
    with owner(run) as connection:
        connection.execute("CHECKPOINT")
    found: dict[str, list[str]] = {}
    sizes = 0
    control = set()
    for folder in (run.settings.state_dir, server.data.parent, run.temporary, Path("/dev/shm")):
        for path in folder.rglob("*"):
            try:
                data = path.read_bytes() if path.is_file() else b""
            except OSError:
                continue
            sizes += len(data)
            if STUDY_UID.encode() in data:
                control.add("wal" if "pg_wal" in path.parts else "other")
            if words := leaks(data + str(path).encode()):
                found[str(path)] = words
    assert not found
    assert sizes > 10_000_000
    assert control == {"wal", "other"}, "the search looked at the database and its log"
    assert list((run.settings.state_dir / "objects").rglob("*.dcm"))


def test_no_address_header_or_error_holds_the_patient(run: Run) -> None:
    assert len(run.seen.addresses) > 30
    assert len(run.seen.errors) > 8
    for what in (run.seen.addresses, run.seen.headers, run.seen.errors):
        assert not {text: words for text in what if (words := leaks(text.encode()))}


def test_the_logs_say_something(run: Run) -> None:
    logs = {path.name: path.read_text() for path in (run.settings.state_dir / "logs").glob("*.log")}
    assert {"api.log", "receiver.log", "worker-1.log"} <= logs.keys()
    assert "association_released" in logs["receiver.log"]
    assert "instance refused" in logs["api.log"]
    assert "request.failed" in logs["api.log"]
    assert re.search(r"analysis (completed|failed)", logs["worker-1.log"])
