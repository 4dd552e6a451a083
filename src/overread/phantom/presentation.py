"""From attenuation to the image that a digital radiography system sends: exposure, scatter, noise, processing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from overread.phantom.grid import Floats
from overread.phantom.marker import draw_letter

Pixels = npt.NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How the image was taken and processed."""

    #: Photons per mm2 that reach the detector with nothing in the beam; 1e6 is a usual exposure.
    photons_per_mm2: float = 1.0e6
    #: Scattered radiation behind the grid, as a share of the primary around.
    scatter: float = 0.12
    #: Width (sigma) of the scatter's spread and of the detector's blur, mm.
    scatter_mm: float = 32.0
    blur_mm: float = 0.16
    #: Bits stored, 8 to 16.
    bits: int = 12
    #: White is the highest value (MONOCHROME2) or the lowest (MONOCHROME1).
    inverted: bool = False
    #: Letter burned in at the patient's side of that name, upper corner: "R", "L" or "".
    marker: str = "L"
    #: Width of the unexposed border of the collimator at (top, bottom, left, right), mm.
    border_mm: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    #: Share of the slow variation that processing takes away, and gain of fine detail.
    flatten: float = 0.42
    detail: float = 0.55
    #: Slope of the grey scale.
    contrast: float = 1.0
    #: Grey (0 black, 1 white) of the darkest parts of the lungs.
    lung_grey: float = 0.24

    def __post_init__(self) -> None:
        if not 8 <= self.bits <= 16:
            raise ValueError(f"bits must be in 8..16, got {self.bits}")
        if self.photons_per_mm2 <= 0:
            raise ValueError("an exposure needs photons")


def expose(attenuation: Floats, pixel_mm: float, exposure: Exposure, rng: np.random.Generator) -> Floats:
    """Detected signal relative to the open field, float32 (rows, columns): Beer-Lambert, scatter, noise, blur."""
    primary = np.exp(-attenuation)
    signal = primary
    if exposure.scatter:
        spread = _smooth(primary, exposure.scatter_mm / pixel_mm)
        signal = primary + np.float32(exposure.scatter) * np.minimum(spread, 0.35)
    if exposure.blur_mm:
        signal = ndimage.gaussian_filter(signal, exposure.blur_mm / pixel_mm)
    photons = np.maximum(signal, 1e-6) * np.float32(exposure.photons_per_mm2 * pixel_mm**2)
    # Poisson, in its normal limit: thousands of photons a pixel
    noise = rng.standard_normal(photons.shape, dtype=np.float32)
    counted = np.maximum(photons + np.sqrt(photons) * noise, 1.0)
    return np.asarray(counted / np.float32(exposure.photons_per_mm2 * pixel_mm**2), dtype=np.float32)


def present(signal: Floats, pixel_mm: float, exposure: Exposure) -> Pixels:
    """The stored pixels: logarithm, equalisation, detail, grey scale, marker; uint16 (rows, columns)."""
    grey = np.full(signal.shape, _SHUTTER, dtype=np.float32)
    open_rows, open_cols = _opening(signal.shape, pixel_mm, exposure.border_mm)
    grey[open_rows, open_cols] = _process(-np.log(signal[open_rows, open_cols]), pixel_mm, exposure)
    if exposure.marker:
        draw_letter(grey, exposure.marker, pixel_mm, exposure.border_mm)
    top = (1 << exposure.bits) - 1
    stored = np.rint(np.clip(grey, 0, 1) * top)
    return np.asarray(top - stored if exposure.inverted else stored, dtype=np.uint16)


#: Grey of the collimated border.
_SHUTTER = 0.004
#: Attenuation under which a pixel is taken for open field.
_OPEN_FIELD = 0.9


def _process(dense: Floats, pixel_mm: float, exposure: Exposure) -> Floats:
    """Grey (0..1) of the exposed field from its attenuation."""
    slow = _smooth(dense, 14.0 / pixel_mm)
    fine = dense - ndimage.gaussian_filter(dense, 2.2 / pixel_mm)
    body = dense > _OPEN_FIELD
    if body.sum() < 0.02 * dense.size:
        body = np.ones_like(body)
    level = np.float32(np.median(slow[body]))
    picture = dense - np.float32(exposure.flatten) * (slow - level) + np.float32(exposure.detail) * fine
    low, middle, high = (float(v) for v in np.percentile(picture[body], [1.5, 45.0, 97.0]))
    slope = exposure.contrast * 3.6 / max(high - low, 1e-3)

    def curve(value: Floats) -> Floats:
        return np.asarray(1.0 / (1.0 + np.exp(-np.float32(slope) * (value - np.float32(middle)))))

    foot, head = curve(np.array([low, high], dtype=np.float32))
    dark, bright = np.float32(exposure.lung_grey), np.float32(0.93)
    grey = dark + (bright - dark) * (curve(picture) - foot) / (head - foot)
    # outside the body the film is black, and above the densest parts it saturates slowly
    grey = np.where(grey < dark, dark * np.exp((grey - dark) / (0.5 * dark)), grey)
    grey = np.where(grey > bright, bright + 0.07 * (1 - np.exp(-(grey - bright) / 0.07)), grey)
    return np.asarray(grey, dtype=np.float32)


def _smooth(image: Floats, sigma: float) -> Floats:
    """A wide Gaussian blur, made on a smaller image."""
    factor = max(1, int(sigma / 4))
    if factor == 1:
        return np.asarray(ndimage.gaussian_filter(image, sigma), dtype=np.float32)
    rows, cols = (image.shape[0] // factor) * factor, (image.shape[1] // factor) * factor
    small = image[:rows, :cols].reshape(rows // factor, factor, cols // factor, factor).mean(axis=(1, 3))
    small = ndimage.gaussian_filter(small, sigma / factor, mode="nearest")
    zoom = (image.shape[0] / small.shape[0], image.shape[1] / small.shape[1])
    return np.asarray(ndimage.zoom(small, zoom, order=1, mode="nearest", grid_mode=True), dtype=np.float32)


def _opening(shape: tuple[int, ...], pixel_mm: float, border: tuple[float, float, float, float]) -> tuple[slice, slice]:
    """Rows and columns inside the collimator."""
    top, bottom, left, right = (round(b / pixel_mm) for b in border)
    return slice(top, shape[0] - bottom), slice(left, shape[1] - right)
