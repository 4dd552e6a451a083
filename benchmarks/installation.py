"""A throw-away installation on free ports, and studies to send to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from overread.bootstrap import DEMO_AE, embedded
from overread.config import Settings
from overread.dicom.create import ImageIdentity, RadiographAttributes, create_dx, stable_uid, write
from overread.phantom.study import demo_studies
from overread.supervisor import Supervisor


def free_port() -> int:
    """A loopback port that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def installation(**changes: object) -> Iterator[tuple[Settings, Supervisor]]:
    """A running installation in a temporary folder, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="overread-bench-"))
    settings = Settings(
        _env_file=None,
        state=folder / "state",
        http_port=free_port(),
        dicom_port=free_port(),
        **changes,  # type: ignore[arg-type]
    )
    supervisor = Supervisor(settings)
    try:
        with supervisor.running():
            yield settings, supervisor
    finally:
        embedded(settings).destroy()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """One radiograph, a study of its own."""

    study_uid: str
    path: Path


def radiographs(folder: Path, count: int, *, size: int = 1024, prefix: str = "bench") -> list[StudyFile]:
    """`count` different phantom radiographs: one projection, with other noise and position each."""
    image = demo_studies(seed=7, size=size)[0].render()
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        pixels = np.roll(image.pixels, int(rng.integers(-20, 20)), axis=1)
        pixels = np.clip(pixels.astype(np.int32) + rng.integers(-8, 9, pixels.shape), 0, 2**image.bits - 1)
        study_uid = stable_uid(prefix, str(number), "study")
        identity = ImageIdentity(
            study_uid=study_uid,
            series_uid=stable_uid(prefix, str(number), "series"),
            sop_uid=stable_uid(prefix, str(number), "image"),
            patient_id=f"{prefix}-{number}",
            patient_name=f"PHANTOM^{number}",
            acquired=datetime(2026, 1, 1, tzinfo=UTC),
        )
        attributes = RadiographAttributes(view="PA", pixel_mm=image.pixel_mm, bits=image.bits, inverted=image.inverted)
        path = folder / f"{prefix}-{number}.dcm"
        write(create_dx(pixels.astype(np.uint16), identity, attributes), path)
        files.append(StudyFile(study_uid=study_uid, path=path))
    return files


def storescu(port: int, *paths: Path, timeout_s: float = 60.0) -> bool:
    """Send with DCMTK over one association; whether everything was acknowledged."""
    command = ["storescu", "-aec", DEMO_AE, "-aet", "BENCH", "-pdu", "131072", "127.0.0.1", str(port), *map(str, paths)]
    result = subprocess.run(
        command,
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    return result.returncode == 0
