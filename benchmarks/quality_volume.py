"""What the checks of volumes say of a real chest CT, as it is and spoiled by known amounts. Prints Markdown.

`python -m benchmarks.quality_volume` reads `chest_ct/covid001` in `OVERREAD_DATA` (default `../shared/data`). It is one
series: the table shows the direction and the size of what is said, not how often it is right.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.quality import DATA
from overread.dicom.series import volumes_of
from overread.domain.volume import Volume
from overread.pipeline.quality import assess_volume

Stack = NDArray[np.int16] | NDArray[np.float32]


def _noise(hu: Stack, sigma: float) -> Stack:
    return (hu + np.random.default_rng(0).normal(0, sigma, hu.shape).astype(np.float32)).astype(np.int16)


def _breath(hu: Stack, pixels: float) -> Stack:
    out = hu.copy()
    for index in range(60, min(90, len(hu))):
        out[index] = np.roll(hu[index], round(pixels * np.sin(index * 1.7)), axis=0)
    return out


def _blur(hu: Stack, sigma: float) -> Stack:
    return ndimage.gaussian_filter(hu.astype(np.float32), (0, sigma, sigma))


def _top(hu: Stack, slices: float) -> Stack:
    return hu[: len(hu) - int(slices)]


def _field(hu: Stack, pixels: float) -> Stack:
    cut = int(pixels)
    return np.ascontiguousarray(hu[:, cut : hu.shape[1] - cut, cut : hu.shape[2] - cut])


def _window(hu: Stack, highest: float) -> Stack:
    return np.clip(hu, -1000, int(highest)).astype(np.int16)


def _invert(hu: Stack, _: float) -> Stack:
    return (-hu).astype(np.int16)


WAYS: tuple[tuple[str, Callable[[Stack, float], Stack], tuple[float, ...], str], ...] = (
    ("noise added", _noise, (30, 60, 120, 200), "HU"),
    ("30 slices moved", _breath, (2, 4, 8, 15), "pixels"),
    ("blurred", _blur, (2, 3, 4, 5), "pixels"),
    ("slices lost at the top", _top, (20, 40, 60), "slices"),
    ("field of view cut on each side", _field, (40, 80, 120), "pixels"),
    ("values cut above", _window, (400, 200, 100), "HU"),
    ("values exchanged", _invert, (1,), ""),
)


def _like(volume: Volume, hu: Stack) -> Volume:
    count = len(hu)
    uids, frames = volume.sop_instance_uids[:count], volume.frame_numbers[:count]
    return replace(volume, hu=hu, sop_instance_uids=uids, frame_numbers=frames)


def _row(name: str, amount: str, volume: Volume) -> str:
    began = time.process_time()
    found = assess_volume(volume)
    seconds = time.process_time() - began
    said = ", ".join(f"{check.type} ({check.severity})" for check in found.issues) or "-"
    return f"| {name} | {amount} | {found.score:.2f} | {found.level} | {said} | {seconds:.1f} |"


def main() -> int:
    """Exit status 1 only if the series is not there."""
    paths = sorted((DATA / "chest_ct" / "covid001").glob("*.dcm"))
    if not paths:
        print(f"no chest_ct/covid001 in {DATA}", file=sys.stderr)
        return 1
    (volume,) = volumes_of([(path.name, path.read_bytes()) for path in paths]).volumes
    print("| spoiled by | amount | score | overall | issues | CPU, s |\n| --- | --- | --- | --- | --- | --- |")
    print(_row("as published", "", volume))
    for name, spoil, amounts, unit in WAYS:
        for amount in amounts:
            print(_row(name, f"{amount:g} {unit}".strip(), _like(volume, spoil(volume.hu, amount))), flush=True)
    gap = [path for index, path in enumerate(paths) if not 70 <= index < 75]
    parts = volumes_of([(path.name, path.read_bytes()) for path in gap]).volumes
    for number, part in enumerate(parts, start=1):
        print(_row("5 files left out", f"part {number} of {len(parts)}", part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
