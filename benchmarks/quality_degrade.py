"""Ways to spoil an image, in known amounts. For `benchmarks.quality` only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from overread.domain.image import FloatImage
from overread.pipeline.quality import IssueType


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """One way and how much of it, least first."""

    name: str
    #: What should be said of it.
    expected: frozenset[IssueType]
    amounts: tuple[float, ...]
    unit: str
    apply: Callable[[FloatImage, float], FloatImage]
    #: Only for frontal chest radiographs.
    chest: bool = False
    #: Not for these sets.
    without: frozenset[str] = frozenset()


def _blur(image: FloatImage, sigma: float) -> FloatImage:
    return np.asarray(ndimage.gaussian_filter(image, sigma * max(image.shape) / 512), np.float32)


def _motion(image: FloatImage, length: float) -> FloatImage:
    pixels = max(1, round(length * max(image.shape) / 512))
    return np.asarray(ndimage.uniform_filter1d(image, pixels, axis=1, mode="nearest"), np.float32)


def _noise(image: FloatImage, sigma: float) -> FloatImage:
    grain = np.random.default_rng(7).normal(0, sigma, image.shape)
    return np.clip(image + grain, 0, 1).astype(np.float32)


def _gamma(image: FloatImage, exponent: float) -> FloatImage:
    return np.asarray(image**exponent, np.float32)


def _clip(image: FloatImage, factor: float) -> FloatImage:
    return np.clip(image * factor, 0, 1).astype(np.float32)


def _flatten(image: FloatImage, range_left: float) -> FloatImage:
    low, high = np.percentile(image, (1, 99))
    return np.clip(0.5 + (image - (low + high) / 2) * range_left / max(high - low, 1e-3), 0, 1).astype(np.float32)


def _rows_missing(image: FloatImage, share: float) -> FloatImage:
    out = image.copy()
    out[round(len(image) * (1 - share)) :] = 0
    return out


def _top(image: FloatImage, share: float) -> FloatImage:
    return np.ascontiguousarray(image[round(share * len(image)) :])


def _bottom(image: FloatImage, share: float) -> FloatImage:
    return np.ascontiguousarray(image[: round((1 - share) * len(image))])


def _side(image: FloatImage, share: float) -> FloatImage:
    return np.ascontiguousarray(image[:, round(share * image.shape[1]) :])


def _tilt(image: FloatImage, degrees: float) -> FloatImage:
    return np.asarray(ndimage.rotate(image, degrees, reshape=False, order=1), np.float32)


def _invert(image: FloatImage, _: float) -> FloatImage:
    return np.asarray(1 - image, np.float32)


def _one(kind: IssueType, *more: IssueType) -> frozenset[IssueType]:
    return frozenset((kind, *more))


_PIXELS = "pixels at 512"
_WINDOWED = frozenset({"head_ct", "head_ct_slices"})
ALL = (
    Degradation(name="blur", expected=_one(IssueType.MOTION), amounts=(1.5, 2, 3, 5), unit=_PIXELS, apply=_blur),
    Degradation(name="motion", expected=_one(IssueType.MOTION), amounts=(5, 9, 15), unit=_PIXELS, apply=_motion),
    Degradation(
        name="noise", expected=_one(IssueType.NOISE), amounts=(0.03, 0.06, 0.12), unit="of full range", apply=_noise
    ),
    Degradation(
        name="too dark",
        expected=_one(IssueType.EXPOSURE, IssueType.CLIPPING, IssueType.CONTRAST),
        amounts=(2, 4, 8),
        unit="gamma",
        apply=_gamma,
        without=_WINDOWED,
    ),
    Degradation(
        name="overexposed display",
        expected=_one(IssueType.EXPOSURE, IssueType.CLIPPING),
        amounts=(1.5, 3, 6),
        unit="times brighter",
        apply=_clip,
        without=_WINDOWED,
    ),
    Degradation(
        name="little contrast",
        expected=_one(IssueType.CONTRAST),
        amounts=(0.2, 0.1, 0.05),
        unit="of full range",
        apply=_flatten,
    ),
    Degradation(
        name="rows missing", expected=_one(IssueType.TRUNCATED), amounts=(0.06, 0.12, 0.3), unit="", apply=_rows_missing
    ),
    Degradation(name="inverted", expected=_one(IssueType.INVERTED), amounts=(1,), unit="", apply=_invert),
    Degradation(
        name="apices cut", expected=_one(IssueType.CUT_OFF), amounts=(0.15, 0.25, 0.35), unit="", apply=_top, chest=True
    ),
    Degradation(
        name="bases cut", expected=_one(IssueType.CUT_OFF), amounts=(0.25, 0.4), unit="", apply=_bottom, chest=True
    ),
    Degradation(
        name="side cut",
        expected=_one(IssueType.CUT_OFF, IssueType.POSITIONING),
        amounts=(0.2, 0.3),
        unit="",
        apply=_side,
        chest=True,
    ),
    Degradation(
        name="tilted",
        expected=_one(IssueType.POSITIONING),
        amounts=(10, 20, 30),
        unit="degrees",
        apply=_tilt,
        chest=True,
    ),
)
