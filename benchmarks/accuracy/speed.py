"""Seconds and memory of a chest CT, from files to findings. `python -m benchmarks.accuracy.speed FOLDER` is one run.

One phantom of 150 slices is made; series of 300 and 600 slices of the same body hold what lies between, interpolated,
with noise of their own. Each is read by a process of its own, as a worker reads it: decode, quality, analyser.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.records import Record
from overread.dicom.create import CtAttributes, ImageIdentity, Syntax, create_ct, stable_uid, write
from overread.phantom.anatomy import Arms, draw_anatomy
from overread.phantom.ct import HU_RANGE
from overread.phantom.ct_case import CtCase, covering, ct_case

SLICES = (150, 300, 600)
SEED = 95
_NOISE_HU = 15.0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One run of one series."""

    slices: int
    decode_s: float
    quality_s: float
    read_s: float
    #: Of the process, processor time of all its threads.
    cpu_s: float
    peak_mb: float
    refused: str

    @property
    def wall_s(self) -> float:
        return self.decode_s + self.quality_s + self.read_s

    @property
    def before_share(self) -> float:
        """Decoding and quality over all."""
        return (self.decode_s + self.quality_s) / self.wall_s


@functools.cache
def _phantom(slices: int, size: int) -> tuple[CtCase, NDArray[np.int16]]:
    """The body in about so many slices, rendered once."""
    height = covering(draw_anatomy(np.random.default_rng([SEED, 0]), arms=Arms.UP), size=size, slice_mm=1.0).slices
    case = ct_case(SEED, nodules=4, size=size, slice_mm=height / slices)
    return case, np.asarray(case.volume().hu, np.int16)


def write_series(folder: Path, slices: int, *, size: int, syntax: Syntax = Syntax.EXPLICIT_LE) -> None:
    """The phantom as DICOM files, one body whatever the number of slices."""
    case, made = _phantom(min(SLICES[0], slices), size)
    pixel = case.geometry.pixel_mm
    step = case.geometry.slice_mm * len(made) / slices
    rng = np.random.default_rng(SEED)
    at = np.linspace(0, len(made) - 1, slices)
    folder.mkdir(parents=True, exist_ok=True)
    for number, place in enumerate(at):
        low = min(int(place), len(made) - 2)
        share = place - low
        hu = (1 - share) * made[low].astype(np.float32) + share * made[low + 1]
        hu += rng.normal(0, _NOISE_HU * np.sqrt(2 * share * (1 - share)), hu.shape)
        identity = ImageIdentity(
            study_uid=stable_uid("speed", str(slices)),
            series_uid=stable_uid("speed series", str(slices)),
            sop_uid=stable_uid("speed slice", str(slices), str(number)),
            patient_id="PHANTOM-SPEED",
            patient_name="PHANTOM^SPEED",
            acquired=datetime(2026, 1, 15, tzinfo=UTC),
            instance_number=number + 1,
        )
        values = CtAttributes(
            position=(-size * pixel / 2, -size * pixel / 2, number * step),
            pixel_mm=pixel,
            slice_mm=step,
            frame_uid=stable_uid("speed frame", str(slices)),
        )
        write(
            create_ct(np.clip(np.rint(hu), *HU_RANGE).astype(np.int16), identity, values),
            folder / f"{number:04}.dcm",
            syntax,
        )


def read_series(folder: Path) -> Timing:
    """In this process. Files of the folder, as they are."""
    from benchmarks.accuracy.phantoms import read
    from overread.dicom.series import volumes_of
    from overread.pipeline import quality

    files = [(path.name, path.read_bytes) for path in sorted(folder.iterdir()) if path.is_file()]
    began, processor = time.perf_counter(), time.process_time()
    volume = volumes_of(files).main()
    decoded = time.perf_counter()
    quality.assess_volume(volume)
    assessed = time.perf_counter()
    reading = read(volume)
    done = time.perf_counter()
    return Timing(
        slices=len(volume.sop_instance_uids),
        decode_s=decoded - began,
        quality_s=assessed - decoded,
        read_s=done - assessed,
        cpu_s=time.process_time() - processor,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        refused=reading.refused,
    )


def timed(folder: Path) -> Timing:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.accuracy.speed", str(folder)], stdout=subprocess.PIPE, text=True, check=True
    )
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


def measure(real: Path | None, *, slices: Sequence[int] = SLICES, size: int = 512, rounds: int = 1) -> list[Record]:
    """All figures; of `rounds` runs the median. `real`: the folder of a real series, for its share of decoding."""
    made: dict[int, list[Timing]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for count in slices:
            folder = Path(temporary) / str(count)
            write_series(folder, count, size=size)
            made[count] = [timed(folder) for _ in range(rounds)]
    records = [r for count, runs in made.items() for r in _of(f"speed.{count}", f"{count} slices", runs, count == 300)]
    for shorter, longer in itertools.pairwise(slices):
        ratios = [b.cpu_s / a.cpu_s for a, b in zip(made[shorter], made[longer], strict=True)]
        most = longer / shorter * 1.1
        name = f"{shorter} to {longer} slices, processor time"
        records.append(_told(f"speed.ratio.{longer}", name, ratios, "times", goal=round(most, 2)))
    if real is not None and real.is_dir():
        runs = [timed(real) for _ in range(rounds)]
        records += _of("speed.real", f"{real.name} ({runs[0].slices} slices)", runs, counts=False)
        shares = [run.before_share * 100 for run in runs]
        name = f"{real.name}: decoding and quality, of all time"
        records.append(_told("speed.real.before_share", name, shares, "%", goal=100 / 3))
    return records


def _of(key: str, words: str, runs: list[Timing], counts: bool) -> list[Record]:
    return [
        _told(f"{key}.wall", f"{words}: seconds", [r.wall_s for r in runs], "s", goal=40.0 if counts else None),
        _told(f"{key}.cpu", f"{words}: processor seconds", [r.cpu_s for r in runs], "s"),
        _told(f"{key}.decode", f"{words}: of these to decode", [r.decode_s for r in runs], "s"),
        _told(f"{key}.quality", f"{words}: of these for quality", [r.quality_s for r in runs], "s"),
        _told(f"{key}.peak", f"{words}: peak memory", [r.peak_mb for r in runs], "MB", goal=2500.0 if counts else None),
    ]


def _told(key: str, name: str, values: list[float], unit: str, *, goal: float | None = None) -> Record:
    """The machine decides: told, never compared. Goals of speed are upper ends."""
    return Record(
        key=key, name=name, value=statistics.median(values), low=min(values), high=max(values), n=len(values),
        unit=unit, better="told", goal=goal, goal_is_most=True,
    )  # fmt: skip


def load() -> str:
    """How busy the machine is, one clause."""
    return f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} when it was measured"


if __name__ == "__main__":
    timing = read_series(Path(sys.argv[1]))
    print(json.dumps(timing.__dict__))
