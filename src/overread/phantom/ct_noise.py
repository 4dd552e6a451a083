"""The noise, the sharpness and the motion of a CT scanner."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import ndimage

from overread.phantom.grid import Floats


class Kernel(StrEnum):
    """Reconstruction kernel: how sharp, how noisy."""

    SOFT = "soft"
    SHARP = "sharp"


@dataclass(frozen=True, kw_only=True)
class _KernelValues:
    #: Standard deviation of the noise in the middle of the body at dose 1, HU, and its correlation (sigma), mm.
    noise_hu: float
    grain_mm: float
    #: Blur of the image (sigma), mm; and the gain of detail around `detail_mm`.
    blur_mm: float
    detail: float
    detail_mm: float = 0.7


_KERNELS = {
    Kernel.SOFT: _KernelValues(noise_hu=13.0, grain_mm=0.85, blur_mm=0.5, detail=0.0),
    Kernel.SHARP: _KernelValues(noise_hu=36.0, grain_mm=0.42, blur_mm=0.15, detail=0.45),
}


def noise_hu(kernel: Kernel, dose: float) -> float:
    """Standard deviation in the middle of the body, HU: it falls with the root of the dose."""
    return _KERNELS[kernel].noise_hu / float(np.sqrt(dose))


def resolve(hu: Floats, pixel_mm: float, kernel: Kernel) -> Floats:
    """``hu`` (planes, rows, columns) as sharp as the kernel makes it."""
    values = _KERNELS[kernel]
    out = ndimage.gaussian_filter(hu, (0, values.blur_mm / pixel_mm, values.blur_mm / pixel_mm), truncate=3.0)
    if values.detail:
        sigma = values.detail_mm / pixel_mm
        out += np.float32(values.detail) * (out - ndimage.gaussian_filter(out, (0, sigma, sigma), truncate=3.0))
    return np.asarray(out, dtype=np.float32)


def noise(shape: tuple[int, int], pixel_mm: float, kernel: Kernel, dose: float, rng: np.random.Generator) -> Floats:
    """Noise of one slice, HU: strongest in the middle of the field, correlated within the slice only."""
    values = _KERNELS[kernel]
    out = rng.standard_normal(shape, dtype=np.float32)
    sigma = values.grain_mm / pixel_mm
    if sigma > 0.2:
        out = ndimage.gaussian_filter(out, sigma, truncate=3.0, mode="wrap")
        out /= _gain(sigma)
    rows, cols = ((np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)) * np.float32(pixel_mm) for n in shape)
    square = (rows[:, None] / np.float32(120.0)) ** 2 + (cols[None, :] / np.float32(170.0)) ** 2
    strength = np.float32(0.55) + np.float32(0.45) * np.exp(-square)
    return np.asarray(out * strength * np.float32(noise_hu(kernel, dose)), dtype=np.float32)


def _gain(sigma: float) -> np.float32:
    """Standard deviation that a Gaussian filter leaves of white noise."""
    delta = np.zeros(2 * int(3 * sigma + 2) + 1)
    delta[len(delta) // 2] = 1.0
    kernel = ndimage.gaussian_filter1d(delta, sigma, truncate=3.0)
    return np.float32((kernel * kernel).sum())


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A breath (or heart beats) during part of the scan: slices there show two positions at once."""

    #: How far the lung moves, mm, and the heights between which it does, mm.
    amount_mm: float
    low_mm: float
    high_mm: float

    def shift(self, z: float) -> float:
        """How far the second position lies from the first in a slice at height ``z``, mm; 0 outside the band."""
        if not self.low_mm <= z <= self.high_mm:
            return 0.0
        phase = (z - self.low_mm) / max(self.high_mm - self.low_mm, 1e-6)
        window = np.sin(np.pi * phase) ** 0.5
        return float(self.amount_mm * window * (0.75 + 0.25 * np.sin(1.9 * z)))


def doubled(first: Floats, second: Floats, shift_mm: float, pixel_mm: float) -> Floats:
    """One slice (rows, columns) from two positions of the breath: the front of the chest moves, the back lies still."""
    rows, cols = second.shape
    y = np.arange(rows, dtype=np.float32)
    moving = np.clip((np.float32(0.75 * rows) - y) / np.float32(0.5 * rows), 0, 1)
    source = y + moving * np.float32(0.8 * shift_mm / pixel_mm)
    low = np.clip(np.floor(source).astype(int), 0, rows - 2)
    part = np.clip(source - low, 0, 1)[:, None].astype(np.float32)
    moved = second[low] * (1 - part) + second[low + 1] * part
    middle = cols / 2
    x = np.arange(cols, dtype=np.float32)
    source = middle + (x - np.float32(middle)) * np.float32(1.0 - 0.5 * shift_mm / (pixel_mm * middle))
    low = np.clip(np.floor(source).astype(int), 0, cols - 2)
    part = np.clip(source - low, 0, 1)[None, :].astype(np.float32)
    moved = moved[:, low] * (1 - part) + moved[:, low + 1] * part
    return np.asarray(0.5 * (first + moved), dtype=np.float32)
