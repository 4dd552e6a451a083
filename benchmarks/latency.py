"""From the last byte to the stored result, beside the bare work: decoding and ONNX Runtime, nothing else.

`one`: studies one by one, from just before the C-STORE begins (so the transfer counts against us) to `completed_at`;
the claim is at most 300 ms more than decoding the file and running the models. `queue`: 50 studies that wait while the
worker is stopped, from its release to the last result; the claim is at most 1.5 times the bare sum.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime

from benchmarks.installation import StudyFile, installation, radiographs
from overread import bootstrap
from overread.config import Settings
from overread.dicom.read import image
from overread.dicom.send import send_files
from overread.inference.registry import Registry, shipped_folder
from overread.pipeline.preprocess import prepare

_ONE = 20
_QUEUED = 50
#: Seconds between two looks at the results. What counts is `completed_at`; looking takes the processor from the work.
_LOOK_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds."""

    bare_one: float
    ours_one: float
    bare_queue: float
    ours_queue: float

    @property
    def extra_ms(self) -> float:
        """What we add to the bare work for one study, median, ms."""
        return (self.ours_one - self.bare_one) * 1000

    @property
    def queue_ratio(self) -> float:
        """Our time for the queue over the bare sum."""
        return self.ours_queue / self.bare_queue


def measure() -> Latency:
    """All on this machine, interleaved where they compete."""
    with tempfile.TemporaryDirectory() as folder, installation() as (settings, supervisor):
        files = radiographs(Path(folder), _ONE + _QUEUED, prefix="latency")
        bare = _Bare()
        overread = bootstrap.build(settings.model_copy(update={"log_level": "CRITICAL"}))
        try:
            bare_times, our_times = [], []
            for file in files[:_ONE]:
                bare_times.append(bare.run(file))
                our_times.append(_one(settings, overread, file))
            queued = files[_ONE:]
            bare_queue = sum(bare.run(file) for file in queued)
            ours_queue = _queue(settings, overread, supervisor.pids()["worker-1"], queued)
            _reported(overread, queued)
            bare_queue = (bare_queue + sum(bare.run(file) for file in queued)) / 2
        finally:
            overread.close()
    return Latency(
        bare_one=statistics.median(bare_times),
        ours_one=statistics.median(our_times),
        bare_queue=bare_queue,
        ours_queue=ours_queue,
    )


class _Bare:
    """What cannot be avoided: read the file, decode it, run the models on all cores."""

    def __init__(self) -> None:
        registry = Registry([shipped_folder()])
        self._sessions = []
        for package in registry.packages:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            session = onnxruntime.InferenceSession(package.read_model(), options, providers=["CPUExecutionProvider"])
            self._sessions.append((session, package.card.input))
        registry.close()

    def run(self, file: StudyFile) -> float:
        """Seconds for one file; making the tensor is ours, and not counted here."""
        data = file.path.read_bytes()
        began = time.perf_counter()
        decoded = image(data, name=file.path.name)
        seconds = time.perf_counter() - began
        for session, spec in self._sessions:
            tensor = prepare(decoded.image.pixels, spec).tensor
            began = time.perf_counter()
            session.run(None, {spec.name: tensor})
            seconds += time.perf_counter() - began
        return seconds


def _one(settings: Settings, overread: bootstrap.Overread, file: StudyFile) -> float:
    began = datetime.now(UTC)
    _send(settings, [file])
    return (_completed(overread, file) - began).total_seconds()


def _queue(settings: Settings, overread: bootstrap.Overread, worker: int, files: list[StudyFile]) -> float:
    os.kill(worker, signal.SIGSTOP)
    try:
        _send(settings, files)
        time.sleep(1.0)
        began = datetime.now(UTC)
    finally:
        os.kill(worker, signal.SIGCONT)
    return (max(_completed(overread, file) for file in files) - began).total_seconds()


def _send(settings: Settings, files: list[StudyFile]) -> None:
    members = ((file.path.name, file.path.read_bytes()) for file in files)
    for name, _, sent in send_files(members, host="127.0.0.1", port=settings.dicom_port, called_ae=bootstrap.DEMO_AE):
        if not sent.accepted:
            raise RuntimeError(f"{name}: {sent.reason}")


def _completed(overread: bootstrap.Overread, file: StudyFile) -> datetime:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with overread.database.unit(bootstrap.DEMO_TENANT) as unit:
            study = unit.studies.find(file.study_uid)
            row = unit.analyses.latest_for_study(study.id) if study is not None else None
        if row is not None and row.completed_at is not None:
            if row.outcome is None or not row.outcome.assessed:
                raise RuntimeError(f"{file.path.name} was not assessed: {row.error_message or row.reason}")
            return row.completed_at
        time.sleep(_LOOK_S)
    raise TimeoutError(file.path.name)


def _reported(overread: bootstrap.Overread, files: list[StudyFile]) -> None:
    """Wait until the worker has written the last SR too: what runs beside the bare work would slow it down."""
    deadline = time.monotonic() + 120
    for file in files:
        while True:
            with overread.database.unit(bootstrap.DEMO_TENANT) as unit:
                study = unit.studies.find(file.study_uid)
                row = unit.analyses.latest_for_study(study.id) if study is not None else None
            if row is not None and row.sr_object_key is not None:
                break
            if time.monotonic() > deadline:
                raise TimeoutError(file.path.name)
            time.sleep(_LOOK_S)


def table(result: Latency) -> list[str]:
    """Markdown."""
    return [
        "| what | bare (decode + ONNX Runtime) | Overread | claim | measured |",
        "| --- | --- | --- | --- | --- |",
        f"| one radiograph, median of {_ONE} | {result.bare_one * 1000:.0f} ms | {result.ours_one * 1000:.0f} ms"
        f" | at most 300 ms more | {result.extra_ms:.0f} ms more |",
        f"| {_QUEUED} queued | {result.bare_queue:.2f} s | {result.ours_queue:.2f} s"
        f" | at most 1.5 times | {result.queue_ratio:.2f} times |",
    ]
