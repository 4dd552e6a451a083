"""Images and volumes that look roughly like the real thing, made from a seed in milliseconds. For tests of quality."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from overread.domain.image import FloatImage, GreyImage, ImageHeader, ImageInstance
from overread.domain.modality import Modality
from overread.domain.volume import Volume, VolumeWarning
from overread.pipeline.quality import ImageQuality, assess_image

SIDE = 320


def _grid(side: int) -> tuple[FloatImage, FloatImage]:
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    return y, x


def _inside(y: FloatImage, x: FloatImage, centre: tuple[float, float], radii: tuple[float, float]) -> FloatImage:
    """1 inside an ellipse, 0 outside, one pixel soft."""
    far = np.hypot((y - centre[0]) / radii[0], (x - centre[1]) / radii[1])
    return np.clip((1 - far) * min(radii) * y.shape[0] + 0.5, 0, 1).astype(np.float32)


def chest(seed: int = 0, side: int = SIDE) -> FloatImage:
    """A frontal chest: lungs with ribs, mediastinum, abdomen, air at the sides."""
    rng = np.random.default_rng(seed)
    y, x = _grid(side)
    shift = rng.uniform(-0.01, 0.01, 4).astype(np.float32)
    body = _inside(y, x, (0.75, 0.5), (0.72, 0.46))
    lungs = _inside(y, x, (0.46 + shift[0], 0.3), (0.3 + shift[1], 0.125)) + _inside(
        y, x, (0.46 + shift[0], 0.7), (0.3 + shift[1], 0.125 + shift[2])
    )
    lungs = np.clip(lungs, 0, 1)
    ribs = (np.sin((y + 0.3 * (x - 0.5) ** 2) * 75 + seed) > 0.75) * lungs
    vessels = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), 2.0) * 0.12
    heart = _inside(y, x, (0.62, 0.55), (0.15, 0.13))
    spine = np.exp(-(((x - 0.5) / 0.05) ** 2)) * 0.12
    image = 0.05 + body * (0.68 + spine + 0.1 * y) - 0.4 * lungs * (1 - heart) + 0.12 * ribs + vessels * lungs
    return np.clip(image, 0, 0.99).astype(np.float32)


def limb(seed: int = 0, side: int = SIDE) -> FloatImage:
    """A forearm: two bones in soft tissue, dark around."""
    y, x = _grid(side)
    soft = (np.abs(x - 0.5) < 0.2).astype(np.float32)
    bones = np.zeros_like(x)
    for middle in (0.42, 0.58):
        across = np.abs(x - middle - 0.01 * np.sin(6 * y + seed))
        bones += (across < 0.05) * (0.25 + 0.3 * (across > 0.033))
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, (side, side)), 1.5) * 0.1
    image = 0.06 + soft * (0.25 + texture) + bones * (1 + texture)
    return np.clip(image, 0, 0.99).astype(np.float32)


def ultrasound(seed: int = 0, side: int = SIDE) -> FloatImage:
    """Layers with speckle and a dark cyst."""
    rng = np.random.default_rng(seed)
    y, x = _grid(side)
    waves = ndimage.gaussian_filter(rng.normal(0, 1, (2, side, side)), (0, 1.3, 2.0))
    speckle = np.hypot(waves[0], waves[1]) ** 0.5
    speckle /= speckle.mean()
    layers = 0.28 + 0.15 * (np.sin(30 * y + 2 * np.sin(5 * x + seed)) > 0.4)
    cyst = 1 - 0.95 * _inside(y, x, (0.45, 0.5), (0.12, 0.16))
    return np.clip(speckle * layers * cyst * (1.1 - 0.8 * y), 0, 0.99).astype(np.float32)


def head(seed: int = 0, side: int = 224) -> FloatImage:
    """An MR slice: skull, brain with folds and ventricles, black outside."""
    rng = np.random.default_rng(seed)
    y, x = _grid(side)
    scalp = _inside(y, x, (0.5, 0.5), (0.44, 0.36))
    skull = _inside(y, x, (0.5, 0.5), (0.41, 0.33))
    brain = _inside(y, x, (0.5, 0.5), (0.38, 0.3))
    folds = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), 3.0) > 0
    ventricles = _inside(y, x, (0.48, 0.45), (0.1, 0.03)) + _inside(y, x, (0.48, 0.55), (0.1, 0.03))
    image = 0.8 * (scalp - skull) + 0.1 * skull + brain * (0.3 + 0.12 * folds) - 0.28 * np.clip(ventricles, 0, 1)
    return np.clip(image + 0.003, 0, 0.99).astype(np.float32)


def ct_slice(seed: int = 0, side: int = SIDE) -> FloatImage:
    """A head CT in a brain window: white skull, black outside."""
    image = head(seed, side)
    y, x = _grid(side)
    ring = _inside(y, x, (0.5, 0.5), (0.43, 0.35)) - _inside(y, x, (0.5, 0.5), (0.38, 0.3))
    return np.clip(image * 0.9 + ring, 0, 1).astype(np.float32)


#: Name: (maker, modality, whether it is a frontal chest).
KINDS = {
    "chest": (chest, Modality.XRAY, True),
    "limb": (limb, Modality.XRAY, False),
    "ultrasound": (ultrasound, Modality.ULTRASOUND, False),
    "mri": (head, Modality.MRI, False),
    "ct": (ct_slice, Modality.CT, False),
}


def quality(pixels: FloatImage, kind: str, spacing_mm: tuple[float, float] | None = None) -> ImageQuality:
    """As the pipeline assesses an image of this kind."""
    _, modality, frontal = KINDS[kind]
    image = GreyImage(pixels=np.ascontiguousarray(pixels, np.float32), spacing_mm=spacing_mm)
    instance = ImageInstance(header=ImageHeader(sop_instance_uid="1.2.3"), image=image)
    return assess_image(instance, modality, frontal_chest=frontal)


def thorax_hu(seed: int = 0, side: int = 128, slices: int = 60) -> np.ndarray:
    """HU (slices, rows, columns) of a chest from below the lungs to above them, 5 mm slices of 3 mm pixels."""
    rng = np.random.default_rng(seed)
    y, x = _grid(side)
    out = np.empty((slices, side, side), np.float32)
    grain = ndimage.gaussian_filter(rng.normal(0, 1, out.shape), (0, 0.7, 0.7))
    for index in range(slices):
        z = (index + 0.5) / slices
        size = max(1 - ((z - 0.5) / 0.42) ** 2, 0) ** 0.5
        body = _inside(y, x, (0.5, 0.5), (0.3 + 0.02 * np.sin(3 * z), 0.42 - 0.03 * z))
        plane = -1000 + 1040 * body
        for side_x in (0.3, 0.7):
            if size > 0.05:
                plane -= 860 * _inside(y, x, (0.48, side_x), (0.2 * size, 0.13 * size))
        bone = _inside(y, x, (0.68, 0.5), (0.05, 0.05)) * 500
        out[index] = plane + bone
    return np.clip(np.rint(out + 22 * grain), -1000, 3000).astype(np.int16)


def volume(
    hu: np.ndarray, spacing: tuple[float, float, float] = (5.0, 3.0, 3.0), warnings: tuple[VolumeWarning, ...] = ()
) -> Volume:
    """Axial, slices from the feet to the head."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing, 1
    count = len(hu)
    return Volume(
        hu=np.ascontiguousarray(hu),
        affine=affine,
        series_instance_uid="1.2.4",
        frame_of_reference_uid="1.2.5",
        sop_instance_uids=tuple(f"1.2.3.{n}" for n in range(count)),
        frame_numbers=(1,) * count,
        warnings=warnings,
    )
