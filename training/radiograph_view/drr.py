"""Digitally reconstructed radiographs: Beer-Lambert projections of a CT volume at any angle.

No set of lateral chest radiographs is in the data, so laterals come from the one whole CT that is. Frontal and oblique
projections of the same volume are made alike, so that the look of a projection does not tell the view.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Linear attenuation of water at about 60 keV effective, 1/mm (NIST XCOM: 0.206 cm2/g).
WATER_PER_MM = 0.0206
#: Isotropic voxel of the working volume, mm. A radiograph of 400 mm at the model's 112 pixels has 3.6 mm.
VOXEL_MM = 2.5


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Hounsfield units, float32 (slices, rows, columns) = (head to feet, front to back, patient's right to left)."""

    hu: NDArray[np.float32]
    voxel_mm: float = VOXEL_MM


def read_ct(folder: Path) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """A CT series of axial slices as HU (slices, rows, columns), head first, with its spacing in mm.

    Raises ValueError where the slices are not axial.
    """
    import pydicom

    slices = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    if any([float(v) for v in s.ImageOrientationPatient] != [1, 0, 0, 0, 1, 0] for s in slices):
        raise ValueError(f"{folder}: not axial")
    slices.sort(key=lambda s: -float(s.ImagePositionPatient[2]))
    heights = [float(s.ImagePositionPatient[2]) for s in slices]
    stack = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
    row_mm, column_mm = (float(v) for v in slices[0].PixelSpacing)
    return stack.astype(np.float32), (abs(float(np.median(np.diff(heights)))), row_mm, column_mm)


def body_volume(hu: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> Volume:
    """The patient alone (no table, no blankets), isotropic."""
    small = ndimage.zoom(hu, [s / VOXEL_MM for s in spacing_mm], order=1)
    dense = ndimage.binary_opening(small > -400, iterations=2)
    labels, count = ndimage.label(dense)
    if count:
        sizes = ndimage.sum_labels(dense, labels, range(1, count + 1))
        body = labels == 1 + int(np.argmax(sizes))
        body = ndimage.binary_dilation(body, iterations=2)
        body = np.stack([ndimage.binary_fill_holes(plane) for plane in body])
        small = np.where(body, small, -1000.0)
    return Volume(hu=small.astype(np.float32))


def project(volume: Volume, angle_deg: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """One radiograph, float32 (rows, columns) 0..1, bright = dense; 0 degrees is frontal, 90 and 270 are lateral.

    Tissue is varied (lung and bone density, body thickness), the ends are extended by repetition, scatter and a film
    curve are added.
    """
    hu = volume.hu
    mu = np.clip(1.0 + hu / 1000.0, 0.0, None)
    bone = np.clip((hu - 150.0) / 1000.0, 0.0, None)
    lung = ((hu > -980) & (hu < -450)).astype(np.float32)
    mu = mu + bone * rng.uniform(0.2, 1.6) + lung * rng.uniform(-0.04, 0.12)
    ends = (int(rng.integers(0, 26)), int(rng.integers(0, 26)))
    mu = np.pad(mu, (ends, (0, 0), (0, 0)), mode="edge")
    tilt = float(rng.normal(0.0, 3.0))
    if abs(tilt) > 1.0:
        mu = ndimage.rotate(mu, tilt, axes=(0, 1), reshape=False, order=1, mode="nearest")
    turned = ndimage.rotate(mu, angle_deg, axes=(1, 2), reshape=False, order=1, mode="constant", cval=0.0)
    length = turned.sum(axis=1) * volume.voxel_mm
    if rng.random() < 0.5:
        length = length + _shoulders(length.shape, rng)
    if rng.random() < 0.6:
        length = _collimated(length, rng)
    path = length * WATER_PER_MM * rng.uniform(0.7, 1.15)
    transmitted = np.exp(-path)
    scatter = ndimage.gaussian_filter(transmitted, rng.uniform(8, 25)) * rng.uniform(0.0, 0.4)
    photons = rng.uniform(3e4, 1e6)
    counts = rng.poisson(np.clip(transmitted + scatter, 0, None) * photons) + 1.0
    density = -np.log(counts / photons)
    low, high = np.percentile(density, [rng.uniform(0.0, 12.0), rng.uniform(97.0, 100.0)])
    level = (density - low) / max(1e-6, high - low)
    if rng.random() < 0.5:  # the film's S-curve
        level = 1.0 / (1.0 + np.exp(-rng.uniform(3.0, 7.0) * (level - rng.uniform(0.35, 0.6))))
        level = (level - level.min()) / max(1e-6, float(np.ptp(level)))
    image = np.clip(level, 0.0, 1.0)
    wide, high_factor = rng.uniform(0.88, 1.15), rng.uniform(0.92, 1.12)
    return np.clip(ndimage.zoom(image, (high_factor, wide), order=1), 0, 1).astype(np.float32)


def _shoulders(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Soft tissue above the lungs, mm: this CT was made with raised arms and ends below the shoulders."""
    rows, columns = shape
    v, u = np.mgrid[0:rows, 0:columns].astype(np.float32)
    centre_u = columns * rng.uniform(0.35, 0.65)
    centre_v = rows * rng.uniform(-0.15, 0.08)
    reach = ((u - centre_u) / (columns * rng.uniform(0.2, 0.5))) ** 2 + (
        (v - centre_v) / (rows * rng.uniform(0.15, 0.3))
    ) ** 2
    return (rng.uniform(40, 140) * np.sqrt(np.clip(1.0 - reach, 0.0, None))).astype(np.float32)


def _collimated(length: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut to the body from the sides, with up to 12% of air left (or of the body lost)."""
    inside = np.flatnonzero((length > 15.0).mean(axis=0) > 0.3)
    if inside.size < 20:
        return length
    left, right = int(inside[0]), int(inside[-1]) + 1
    slack = (right - left) * rng.uniform(-0.06, 0.12, 2)
    return length[:, max(0, int(left - slack[0])) : max(left + 10, int(right + slack[1]))]


def draw_angle(kind: str, rng: np.random.Generator) -> float:
    """An angle in degrees for "frontal" (within 10), "lateral" (within 12 of the side) or "oblique" (35 to 60)."""
    if kind == "frontal":
        return float(rng.choice([0.0, 180.0]) + rng.uniform(-10, 10))
    if kind == "lateral":
        return float(rng.choice([90.0, 270.0]) + rng.uniform(-12, 12))
    return float(rng.choice([0.0, 90.0, 180.0, 270.0]) + rng.uniform(35, 55))
