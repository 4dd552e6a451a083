"""From a display image to a model's input, and back: the one function that training and serving share.

An image goes through two sizes. First everything, a 2500 x 2048 DICOM as well as a 128 x 128 PNG, is brought to the
*working* size that the network learned from, with antialiasing, so that both look the same to it. Then this small image
is enlarged to the input of the network, which finds more in it at a finer stride.

Arrays are (rows, columns). Boxes and frames are (x, y) = (column, row), top-left corner, pixels of the stored image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from overread.domain.evidence import InputSpec
from overread.domain.image import FloatImage

#: A border row or column is outside the collimation (or the patient) if nine tenths of it are darker than this part of
#: the image's range. Side markers and letters are smaller than the other tenth.
DARK = 0.08
_DARK_QUANTILE = 90.0
#: No more than this part of the image is cut off on one side.
MOST_CUT = 0.25
#: Pixels of a side at which borders are judged.
_THUMB = 128
#: Images with less difference between their percentiles than this, of 0..1, show nothing.
_FLAT = 1e-4


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Which rectangle of the stored image the input shows, in pixels of the stored image (floating point).

    It reaches over the image's edge where the input was padded.
    """

    x: float
    y: float
    width: float
    height: float
    #: Size of the stored image.
    image_rows: int
    image_columns: int

    def to_stored(self, u: float, v: float) -> tuple[float, float]:
        """(x, y) in the stored image of a point of the input, u and v in 0..1 from left and top."""
        return self.x + u * self.width, self.y + v * self.height


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model's input and where it came from."""

    #: float32 (1, channels, rows, columns).
    tensor: NDArray[np.float32]
    frame: Frame


def prepare(pixels: FloatImage, spec: InputSpec) -> Prepared:
    """`pixels`, float32 (rows, columns), 0..1, bright = dense, as the input that `spec` asks for.

    Raises ValueError if `pixels` is not two-dimensional or not finite. A constant image gives a constant input.
    """
    working, frame = standardise(pixels, spec)
    return Prepared(tensor=to_tensor(working, spec), frame=frame)


def standardise(pixels: FloatImage, spec: InputSpec) -> tuple[FloatImage, Frame]:
    """The image at working size, 0..1 by percentiles, and the frame it shows."""
    if pixels.ndim != 2 or pixels.size == 0:
        raise ValueError(f"expected (rows, columns), got shape {pixels.shape}")
    if not np.isfinite(pixels).all():
        raise ValueError("pixels are not all finite")
    extra = dict(spec.extra)
    rows = int(extra.get("working_rows", spec.rows))
    columns = int(extra.get("working_columns", spec.columns))
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    thumb = _thumb(image) if extra.get("crop_dark_borders", 0.0) else None
    left, top, right, bottom = whole = (0, 0, image.width, image.height)
    if thumb is not None:
        left, top, right, bottom = _bright_part(thumb, whole)
    if spec.fit == "stretch":
        if thumb is not None and (left, top, right, bottom) == whole and thumb.shape == (rows, columns):
            small = thumb
        else:
            small = _resize(image, columns, rows, (left, top, right, bottom))
        frame = (float(left), float(top), float(right - left), float(bottom - top))
    else:
        small, frame = _pad(image, columns, rows, (left, top, right, bottom))
    x, y, width, height = frame
    return (
        _stretch_range(small, spec.percentiles),
        Frame(x=x, y=y, width=width, height=height, image_rows=pixels.shape[0], image_columns=pixels.shape[1]),
    )


def to_tensor(working: FloatImage, spec: InputSpec) -> NDArray[np.float32]:
    """float32 (1, channels, rows, columns) of an image at working size, 0..1."""
    if working.shape != (spec.rows, spec.columns):
        image = Image.fromarray(working)
        working = np.asarray(image.resize((spec.columns, spec.rows), Image.Resampling.BILINEAR), dtype=np.float32)
    mean = np.asarray(spec.mean, dtype=np.float32)[:, None, None]
    std = np.asarray(spec.std, dtype=np.float32)[:, None, None]
    return np.ascontiguousarray(((working[None] - mean) / std)[None], dtype=np.float32)


def _thumb(image: Image.Image) -> FloatImage:
    """All of the image at 128 x 128."""
    return _resize(image, _THUMB, _THUMB, (0, 0, image.width, image.height))


def _bright_part(thumb: FloatImage, whole: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) without dark borders. Judged at 128 x 128, so that size does not matter."""
    _, _, columns, rows = whole
    low, high = np.percentile(thumb, (1.0, 99.0))
    if high - low < _FLAT:
        return whole
    limit = low + DARK * (high - low)
    top, bottom = _bright_run(np.percentile(thumb, _DARK_QUANTILE, axis=1) > limit)
    left, right = _bright_run(np.percentile(thumb, _DARK_QUANTILE, axis=0) > limit)
    return round(left * columns), round(top * rows), round(right * columns), round(bottom * rows)


def _bright_run(bright: NDArray[np.bool_]) -> tuple[float, float]:
    """Where the bright part begins and ends, 0..1, cutting off no more than `MOST_CUT` on each side."""
    n = bright.size
    at = np.flatnonzero(bright)
    if at.size == 0:
        return 0.0, 1.0
    begin = min(float(at[0]) / n, MOST_CUT)
    end = max(float(at[-1] + 1) / n, 1.0 - MOST_CUT)
    return begin, end


def _resize(image: Image.Image, columns: int, rows: int, box: tuple[float, float, float, float]) -> FloatImage:
    """Antialiased bicubic: of the filters tried, it gives a 512 px NIH image the spectrum of the 128 px ones."""
    small = image.resize((columns, rows), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    return np.asarray(small, dtype=np.float32)


def _pad(
    image: Image.Image, columns: int, rows: int, box: tuple[int, int, int, int]
) -> tuple[FloatImage, tuple[float, float, float, float]]:
    """The part `box` in the middle of (rows, columns), its aspect kept, the rest filled with its darkest value."""
    left, top, right, bottom = box
    scale = min(columns / (right - left), rows / (bottom - top))
    inner_columns = min(columns, max(1, round((right - left) * scale)))
    inner_rows = min(rows, max(1, round((bottom - top) * scale)))
    inner = _resize(image, inner_columns, inner_rows, box)
    small = np.full((rows, columns), inner.min(), dtype=np.float32)
    x0, y0 = (columns - inner_columns) // 2, (rows - inner_rows) // 2
    small[y0 : y0 + inner_rows, x0 : x0 + inner_columns] = inner
    per_column, per_row = (right - left) / inner_columns, (bottom - top) / inner_rows
    return small, (left - x0 * per_column, top - y0 * per_row, columns * per_column, rows * per_row)


def _stretch_range(small: FloatImage, percentiles: tuple[float, float]) -> FloatImage:
    low, high = np.percentile(small, percentiles)
    if high - low < _FLAT:
        return np.zeros_like(small)
    scaled: FloatImage = np.clip((small - low) / (high - low), 0.0, 1.0).astype(np.float32)
    return scaled
