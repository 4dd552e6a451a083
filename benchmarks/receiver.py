"""How fast objects come in by DICOM, beside Orthanc and DCMTK's storescp: images a second and ratios.

    .venv/bin/python benchmarks/receiver.py [--slices 500] [--rounds 3] [--processes 2] [--realtime] [--json FILE]

The sender is always DCMTK's `storescu` (TCP_NODELAY=1, -pdu 131072), over one association and over four at once, with
CT slices of 512 x 512 int16 (526 kB). The receivers take turns within each round, each sees each object once, and every
count is checked. Ours is the product: real PostgreSQL, real index, each object fsynced and committed before it is
acknowledged. Orthanc keeps its default SyncStorageArea (fsync) and its SQLite index; `storescp` writes files without
fsync or index: it shows what sender and network can do at all. Needs Debian's `dcmtk` and `orthanc`, and about 2 GB of
disk. Orthanc takes senders from this machine only.

On a machine whose cores are busy with other work each switch from one process to another costs up to a time slice
(4 ms seen), for ours most: an object takes PostgreSQL's process as well. `--realtime` (root) runs all receivers and
senders before everything else (SCHED_RR), as if the machine were idle; say which figures are which.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from overread import bootstrap, seed
from overread.config import Settings
from overread.store import migrate, roles

PDU = 131072
#: SOPInstanceUIDs have one length, so that new ones can be written over old ones.
_UID = "2.25.{run:09d}{number:06d}"
_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Slices:
    """The files to send, in four folders; `renew` gives them UIDs that nobody has seen."""

    folder: Path
    count: int
    run: int = 100_000_000

    def make(self) -> None:
        rng = np.random.default_rng(20260101)
        for number in range(self.count):
            uid = _UID.format(run=self.run, number=number)
            meta = FileMetaDataset()
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            meta.MediaStorageSOPClassUID = CTImageStorage
            meta.MediaStorageSOPInstanceUID = uid
            ds = Dataset()
            ds.file_meta = meta
            ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, uid
            ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1", "2.25.2"
            ds.PatientID, ds.PatientName = "BENCHMARK", "Benchmark^Receiver"
            ds.PatientBirthDate, ds.PatientSex, ds.AccessionNumber = "19700101", "O", "B1"
            ds.StudyDate, ds.StudyTime, ds.Modality, ds.BodyPartExamined = "20260101", "101500", "CT", "CHEST"
            ds.StudyDescription, ds.SeriesDescription = "Benchmark", "Noise"
            ds.SeriesNumber, ds.InstanceNumber = 1, number + 1
            ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
            ds.PixelSpacing, ds.SliceThickness = [0.7, 0.7], 1
            ds.Rows = ds.Columns = 512
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated = ds.BitsStored = 16
            ds.HighBit, ds.PixelRepresentation = 15, 1
            ds.RescaleIntercept, ds.RescaleSlope = -1024, 1
            ds.PixelData = rng.integers(-1000, 2000, (512, 512), dtype=np.int16).tobytes()
            path = self.path(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            ds.save_as(path, enforce_file_format=True)

    def path(self, number: int) -> Path:
        return self.folder / f"part{number * 4 // self.count}" / f"{number:06d}.dcm"

    def renew(self) -> None:
        for number in range(self.count):
            old = _UID.format(run=self.run, number=number).encode()
            new = _UID.format(run=self.run + 1, number=number).encode()
            with self.path(number).open("r+b") as file:
                head = file.read(4096)
                if head.count(old) != 2:
                    raise RuntimeError("the UID is not where it was written")
                file.seek(0)
                file.write(head.replace(old, new))
        self.run += 1

    def send(self, port: int, associations: int) -> float:
        """Seconds from the start of the senders to the end of the last."""
        parts = sorted(self.folder.glob("part*"))
        jobs = [parts] if associations == 1 else [[part] for part in parts]
        begin = time.perf_counter()
        senders = [
            subprocess.Popen(
                ["storescu", "-pdu", str(PDU), "-aet", "BENCHMARK", "-aec", "OVERREAD", "+sd", "127.0.0.1", str(port)]
                + [str(part) for part in job],
                env=_ENVIRONMENT,
            )
            for job in jobs
        ]
        if any(sender.wait() for sender in senders):
            raise RuntimeError("storescu failed")
        return time.perf_counter() - begin


@dataclass
class Receiver:
    """One that receives, and how to ask it how many it has."""

    name: str
    port: int
    count: Callable[[], int]


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if subprocess.run(["echoscu", "-aec", "OVERREAD", "127.0.0.1", str(port)], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    raise RuntimeError("a receiver did not start")


@contextlib.contextmanager
def ours(folder: Path, processes: int) -> Iterator[Receiver]:
    settings = Settings(state=folder / "state", dicom_port=free_port(), receivers=processes, log_level="WARNING")
    secret = settings.secret()
    postgres = bootstrap.embedded(settings)
    postgres.start()
    process = None
    try:
        postgres.ensure_database()
        engine = migrate.owner_engine(postgres.url, roles.password(secret, "owner"))
        migrate.ensure(engine, secret)
        seed.ensure(engine, settings)
        command = (
            "import sys; from overread.config import Settings; from overread.receiver import run;"
            " sys.exit(run(Settings.model_validate_json(sys.argv[1])))"
        )
        process = subprocess.Popen([sys.executable, "-c", command, settings.model_dump_json()])
        wait_for_port(settings.dicom_port, process)
        conninfo = bootstrap.build(settings).login(roles.tenant_role(bootstrap.DEMO_TENANT))

        def count() -> int:
            with psycopg.connect(conninfo) as connection:
                row = connection.execute("SELECT count(*) FROM instances").fetchone()
            return int(row[0]) if row else 0

        yield Receiver("overread", settings.dicom_port, count)
    finally:
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait()
        postgres.stop()
        if postgres.data.is_relative_to("/var/lib/overread"):
            shutil.rmtree(postgres.data.parent, ignore_errors=True)


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[Receiver]:
    port, http = free_port(), free_port()
    configuration = {
        "Name": "benchmark",
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "Plugins": [],
        "DicomAet": "OVERREAD",
        "DicomPort": port,
        "MaximumPduLength": PDU,
        "TcpNoDelay": True,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "DicomAlwaysAllowStore": False,
        "DicomAlwaysAllowEcho": True,
        "DicomCheckModalityHost": True,
        "DicomModalities": {"benchmark": ["BENCHMARK", "127.0.0.1", 104]},
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(["Orthanc", str(path)], stdout=log, stderr=log, env=_ENVIRONMENT)
    try:
        wait_for_port(port, process)

        def count() -> int:
            with urllib.request.urlopen(f"http://127.0.0.1:{http}/statistics", timeout=10) as answer:
                return int(json.load(answer)["CountInstances"])

        yield Receiver("orthanc", port, count)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def storescp(folder: Path) -> Iterator[Receiver]:
    port, target = free_port(), folder / "storescp"
    target.mkdir()
    command = ["storescp", "--fork", "+B", "-pdu", str(PDU), "-od", str(target), "-aet", "OVERREAD", str(port)]
    process = subprocess.Popen(command, env=_ENVIRONMENT)
    try:
        wait_for_port(port, process)
        yield Receiver("storescp", port, lambda: sum(1 for _ in target.iterdir()))
    finally:
        process.terminate()
        process.wait()


def measure(slices: Slices, receivers: list[Receiver], rounds: int) -> dict[tuple[str, int], list[float]]:
    rates: dict[tuple[str, int], list[float]] = {}
    for turn in range(rounds):
        for associations in (1, 4):
            slices.renew()
            order = receivers[turn % len(receivers) :] + receivers[: turn % len(receivers)]
            for receiver in order:
                before = receiver.count()
                seconds = slices.send(receiver.port, associations)
                got = receiver.count() - before
                if got != slices.count:
                    raise RuntimeError(f"{receiver.name} has {got} of {slices.count} objects")
                rate = slices.count / seconds
                rates.setdefault((receiver.name, associations), []).append(rate)
                print(f"round {turn + 1}  {associations} x  {receiver.name:9} {rate:7.1f} images/s", flush=True)
    return rates


def report(rates: dict[tuple[str, int], list[float]]) -> dict[str, Any]:
    median = {key: statistics.median(values) for key, values in rates.items()}
    result: dict[str, Any] = {}
    print(f"\n{'images/s, median':18} {'1 association':>14} {'4 associations':>15}")
    for name in dict.fromkeys(name for name, _ in rates):
        print(f"{name:18} {median[name, 1]:14.1f} {median[name, 4]:15.1f}")
        result[name] = {"1": median[name, 1], "4": median[name, 4]}
    for peer, goals in (("orthanc", (0.8, 1.0)), ("storescp", (None, None))):
        one, four = (median["overread", n] / median[peer, n] for n in (1, 4))
        print(f"{'overread/' + peer:18} {one:14.2f} {four:15.2f}", end="")
        print(f"    goals {goals[0]} and {goals[1]}" if goals[0] else "")
        result[f"overread/{peer}"] = {"1": one, "4": four}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Images a second by C-STORE, beside Orthanc and storescp.")
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--realtime", action="store_true", help="take precedence over other work (needs root)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    missing = [name for name in ("storescu", "echoscu", "storescp", "Orthanc") if shutil.which(name) is None]
    if missing:
        sys.exit(f"Not installed: {', '.join(missing)}. Install Debian's dcmtk and orthanc.")
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # what we start inherits it
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, {'before all other work' if arguments.realtime else 'beside it'}")
    with tempfile.TemporaryDirectory(prefix="overread-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        slices = Slices(folder=folder / "slices", count=arguments.slices)
        slices.make()
        receivers = [
            stack.enter_context(orthanc(folder)),
            stack.enter_context(ours(folder, arguments.processes)),
            stack.enter_context(storescp(folder)),
        ]
        result = report(measure(slices, receivers, arguments.rounds))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
