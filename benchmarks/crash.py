"""kill -9 the receiver, a worker, the API and PostgreSQL at random moments while studies arrive.

Proof: every acknowledged study was analysed exactly once. A sender that gets no acknowledgement sends again, as a
modality does. `python -m benchmarks.crash --rounds 10 --studies 50 [--report FILE]`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.installation import StudyFile, installation, radiographs, storescu
from overread import bootstrap
from overread.domain.analysis import AnalysisStatus
from overread.domain.errors import StoreUnavailable
from overread.services.values import AnalysisFilter
from overread.supervisor import Supervisor

_SETTLE_S = 180.0
_KILLS = 10


@dataclass
class Round:
    """What happened in one round."""

    killed: dict[str, int] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    sent_again: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def main() -> int:
    """Exit status 0 only if nothing was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    lines = [
        "| round | killed (-9) | acknowledged | sent again | analysed exactly once | s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    faults = 0
    for number in range(1, options.rounds + 1):
        result = crash_round(options.studies, random.Random(options.seed * 1000 + number), f"r{number}")
        faults += len(result.faults)
        killed = ", ".join(f"{name} x{count}" for name, count in sorted(result.killed.items()))
        once = f"NO: {result.faults[:3]}" if result.faults else "all"
        acknowledged = len(result.acknowledged)
        lines.append(f"| {number} | {killed} | {acknowledged} | {result.sent_again} | {once} | {result.seconds:.0f} |")
        print(lines[-1], flush=True)
    text = "\n".join(["# Crash test", "", *(__doc__ or "").strip().splitlines()[2:4], "", *lines, ""])
    if options.report:
        options.report.write_text(text)
    print(f"{faults} faults in {options.rounds} rounds of {options.studies} studies")
    return 1 if faults else 0


def crash_round(studies: int, rng: random.Random, prefix: str) -> Round:
    """One installation, its studies and its deaths."""
    result = Round()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, installation() as (settings, supervisor):
        files = radiographs(Path(folder), studies, size=256, prefix=prefix)
        stop = threading.Event()
        killer = threading.Thread(target=_kill, args=(supervisor, rng, studies, stop, result))
        killer.start()
        for file in files:
            while not storescu(settings.dicom_port, file.path):
                result.sent_again += 1
                time.sleep(0.2)
            result.acknowledged.add(file.study_uid)
        stop.set()
        killer.join()
        overread = bootstrap.build(settings.model_copy(update={"log_level": "CRITICAL"}))
        try:
            _settle(overread, files)
            result.faults = _faults(overread, files)
        finally:
            overread.close()
    result.seconds = time.monotonic() - began
    return result


def _kill(supervisor: Supervisor, rng: random.Random, studies: int, stop: threading.Event, result: Round) -> None:
    """Each target at least once, at random points of the flow of studies and a random moment after each point."""
    targets = ["receiver", "worker-1", "api", "postgres", "receiver child", "model"]
    victims = rng.sample(targets, len(targets)) + rng.choices(targets, k=_KILLS - len(targets))
    for point, name in zip(sorted(rng.sample(range(studies), _KILLS)), victims, strict=True):
        while len(result.acknowledged) < point and not stop.is_set():
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.5))
        _kill_one(supervisor, rng, name, result)


def _kill_one(supervisor: Supervisor, rng: random.Random, name: str, result: Round) -> None:
    parent = {"receiver child": "receiver", "model": "worker-1"}.get(name)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # the victim may just be starting again
        pids = supervisor.pids()
        children = _children(pids.get(parent, -1)) if parent else [pids[name]] if name in pids else []
        if children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(children), signal.SIGKILL)
                result.killed[name] = result.killed.get(name, 0) + 1
                return
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def _settle(overread: bootstrap.Overread, files: list[StudyFile]) -> None:
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(StoreUnavailable), overread.database.unit(bootstrap.DEMO_TENANT) as unit:
            rows, total = unit.analyses.search(AnalysisFilter(limit=10_000))
            if total >= len(files) and all(row.status.is_final for row in rows):
                return
        time.sleep(0.5)


def _faults(overread: bootstrap.Overread, files: list[StudyFile]) -> list[str]:
    """Lost, doubled, unfinished or changed: one sentence each."""
    tenant = bootstrap.DEMO_TENANT
    faults = []
    with overread.database.unit(tenant) as unit:
        rows, _ = unit.analyses.search(AnalysisFilter(limit=10_000))
        for file in files:
            study = unit.studies.find(file.study_uid)
            if study is None:
                faults.append(f"{file.path.name}: acknowledged and not indexed")
                continue
            mine = [row for row in rows if row.study.id == study.id]
            if [row.status for row in mine] != [AnalysisStatus.COMPLETED]:
                faults.append(f"{file.path.name}: {[(r.status.value, r.error_message) for r in mine]}")
            stored = unit.studies.instances(study.id)
            if len(stored) != 1:
                faults.append(f"{file.path.name}: {len(stored)} instances")
            for instance in stored:
                data = overread.objects.get(tenant, instance.object_key)
                if hashlib.sha256(data).hexdigest() != instance.record.file_sha256:
                    faults.append(f"{file.path.name}: the object on disk is not what was indexed")
    return faults


if __name__ == "__main__":
    sys.exit(main())
