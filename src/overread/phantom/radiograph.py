"""A radiograph of a thorax: rays, attenuation, scatter, noise, and the picture that a digital system makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy import ndimage

from overread.domain.image import BoundingBox
from overread.phantom.anatomy import SIDES, WATER_PER_MM
from overread.phantom.findings import FindingTruth
from overread.phantom.grid import Box, Floats, Grid, Level, axis_points, path_length
from overread.phantom.thorax import Thorax
from overread.phantom.tubes import paint


class View(StrEnum):
    """ViewPosition (0018,5101)."""

    PA = "PA"
    AP = "AP"
    LATERAL = "LL"


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Source, patient and detector."""

    view: View = View.PA
    #: Rows (and columns: the image is square).
    size: int = 1024
    #: Width of the detector, mm; the pixel is ``field_mm / size``.
    field_mm: float = 410.0
    #: Source to detector, mm; 0 for parallel rays.
    distance_mm: float = 1800.0
    #: Distance from the midplane of the patient to the detector, mm.
    gap_mm: float = 145.0
    #: Place of the detector's middle in the phantom, mm: sideways, and up.
    centre_mm: tuple[float, float] = (0.0, 68.0)
    #: Width of the samples of the soft organs, mm on the detector, and distance of their planes.
    detail_mm: float = 1.0
    plane_mm: float = 4.0

    @property
    def pixel_mm(self) -> float:
        """Distance of pixels on the detector: ImagerPixelSpacing (0018,1164)."""
        return self.field_mm / self.size

    def grid(self, step: float, plane_mm: float) -> Grid:
        """Points along the rays: ``step`` mm apart on the detector, in planes ``plane_mm`` apart."""
        half = self.field_mm / 2
        sideways, up = self.centre_mm
        rows, cols = axis_points(up + half, up - half, step), axis_points(sideways - half, sideways + half, step)
        normal = 0 if self.view is View.LATERAL else 1
        reach = 230.0 if self.view is View.LATERAL else 180.0
        depths = axis_points(-reach, reach, plane_mm)
        # the detector is in front (PA), behind (AP), at the patient's left (lateral)
        toward = -1.0 if self.view is View.PA else 1.0
        if self.distance_mm:
            shrink = 1.0 - (self.gap_mm - toward * depths) / np.float32(self.distance_mm)
        else:
            shrink = np.ones_like(depths)
        return Grid(
            normal=normal,
            row_axis=2,
            col_axis=1 if normal == 0 else 0,
            depths=depths,
            rows=rows,
            cols=cols,
            shrink=np.clip(shrink, 0.1, 1.0).astype(np.float32),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """What the rays met."""

    geometry: Geometry
    #: Attenuation along each ray (mu times length, no unit), float32 (rows, columns).
    attenuation: Floats
    #: The findings with their boxes in the image.
    truths: tuple[FindingTruth, ...]


def project(thorax: Thorax, geometry: Geometry) -> Projection:
    """Line integrals of the attenuation of ``thorax`` (Beer-Lambert's exponent), and where the findings fall."""
    per_mm = np.float32(WATER_PER_MM / 1000.0)
    fine = geometry.grid(geometry.pixel_mm, 30.0)
    shape = fine.shape[1:]
    image = np.zeros(shape, dtype=np.float32)
    for coarser in sorted({layer.coarser for layer in thorax.layers}):
        grid = geometry.grid(coarser * geometry.detail_mm, coarser * geometry.plane_mm)
        layers = [layer for layer in thorax.layers if layer.coarser == coarser]
        total, lungs = (np.zeros(grid.shape[1:], dtype=np.float32) for _ in range(2))
        for layer in layers:
            length = path_length(grid, layer.level, layer.box, fade=layer.fade)
            total += np.float32(layer.hu) * length
            if layer.name.endswith(" lung"):
                lungs += length
        if lungs.any():
            texture = _noise(
                np.random.default_rng([thorax.anatomy.seed, 2]),
                lungs.shape,
                geometry.field_mm / lungs.shape[1],
                _LUNG_TEXTURE,
            )
            total += lungs * texture
        image += _enlarge(total, shape)
    small = (max(8, shape[0] // 4), max(8, shape[1] // 4))
    rng = np.random.default_rng([thorax.anatomy.seed, 3])
    image *= 1 + _enlarge(_noise(rng, small, geometry.field_mm / small[1], _BODY_TEXTURE), shape)
    paint(image, fine, thorax.tubes, whole_ray=True)
    np.maximum(image * per_mm, 0, out=image)
    coarse = geometry.grid(geometry.detail_mm, geometry.plane_mm)
    truths = tuple(_located(truth, thorax, coarse, geometry) for truth in thorax.truths())
    return Projection(geometry=geometry, attenuation=image, truths=truths)


def _enlarge(image: Floats, shape: tuple[int, int]) -> Floats:
    """Cubic interpolation of samples at the centres of coarse cells to the centres of fine ones."""
    factor = (shape[0] / image.shape[0], shape[1] / image.shape[1])
    out = ndimage.zoom(image, factor, order=3, mode="nearest", grid_mode=True, prefilter=True)
    return np.asarray(out, dtype=np.float32)


#: (size in mm, strength): HU by which the mean lung along a ray differs, the fine structure that no vessel of the
#: phantom stands for; and the same for all tissue, as a share.
_LUNG_TEXTURE = ((1.6, 7.0), (4.0, 10.0), (14.0, 10.0))
_BODY_TEXTURE = ((7.0, 0.0025), (18.0, 0.006), (45.0, 0.012))


def _noise(
    rng: np.random.Generator, shape: tuple[int, int], pixel_mm: float, bands: tuple[tuple[float, float], ...]
) -> Floats:
    """Smooth random variation with standard deviations of about the given strengths at the given sizes."""
    out = np.zeros(shape, dtype=np.float32)
    for size_mm, strength in bands:
        small = (max(4, round(shape[0] * pixel_mm / size_mm)), max(4, round(shape[1] * pixel_mm / size_mm)))
        out += np.float32(strength) * _enlarge(rng.standard_normal(small).astype(np.float32), shape)
    return out


def _located(truth: FindingTruth, thorax: Thorax, grid: Grid, geometry: Geometry) -> FindingTruth:
    """``truth`` with its box in the image, and the cardiothoracic ratio for a large heart on a frontal view."""
    if truth.key != "cardiomegaly":
        region = next(r for r in thorax.regions if r.key == truth.key and r.side is truth.side)
        margin = 8.0
        low = tuple(v - margin for v in truth.box_mm[0])
        high = tuple(v + margin for v in truth.box_mm[1])
        box: Box = ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        return replace(truth, box=_shadow_box(grid, region.level, geometry, box))
    heart = _shadow_box(grid, thorax.organs.heart, geometry, thorax.organs.heart_box())
    ratio = None
    if heart is not None and geometry.view is not View.LATERAL:
        chest = [_shadow_box(grid, thorax.lung_level(side), geometry, thorax.organs.lung_box(side)) for side in SIDES]
        edges = [(b.x, b.x + b.width) for b in chest if b is not None]
        ratio = heart.width / (max(e[1] for e in edges) - min(e[0] for e in edges))
    return replace(truth, box=heart, cardiothoracic_ratio=ratio)


def _shadow_box(grid: Grid, level: Level, geometry: Geometry, box: Box) -> BoundingBox | None:
    """The box, in pixels, around every ray that passes at least 1 mm through ``level``."""
    hit = path_length(grid, level, box) > 1.0
    if not hit.any():
        return None
    scale = geometry.size / hit.shape[0]
    ends = []
    for axis in (1, 0):
        index = np.flatnonzero(hit.any(axis=1 - axis))
        ends.append((int(np.floor(index[0] * scale)), int(np.ceil((index[-1] + 1) * scale))))
    (x0, x1), (y0, y1) = ends
    return BoundingBox(x=x0, y=y0, width=x1 - x0, height=y1 - y0)
