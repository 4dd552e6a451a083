"""What happens to images on their way to us, done to every source alike, so that only anatomy tells the classes apart.

Sizes, JPEG, blur, grey curves, borders, letters and noise differ between the data sets; a network would learn those
first. `vary` changes the image but never its class; `turn` makes what must not be analysed as a frontal chest.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.radiograph_view.classes import FRONTAL, LATERAL, NOT, OTHER, Grey8

_MARKERS = ("L", "R", "PA", "AP", "ERECT", "PORTABLE", "SUPINE", "12:45", "LAT", "STAT", "MOBILE", "A. SAMPLE 1956")


def vary(pixels: Grey8, rng: np.random.Generator, strength: float = 1.0) -> Grey8:
    """One image as it might have come by another road; class unchanged. `strength` 0..1."""
    image = Image.fromarray(pixels)
    image = _geometry(image, rng, strength)
    image = _grey_curve(image, rng, strength)
    if rng.random() < 0.35 * strength:
        image = _marker(image, rng)
    if rng.random() < 0.3 * strength:
        image = _border(image, rng)
    side = int(np.exp(rng.uniform(np.log(64), np.log(320))))
    scale = side / max(image.size)
    filters = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX)
    size = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
    image = image.resize(size, filters[int(rng.integers(0, 4))])
    if rng.random() < 0.25 * strength:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.4)) * side / 160))
    if rng.random() < 0.3 * strength:
        noisy = np.asarray(image, dtype=np.float32) + rng.normal(0, rng.uniform(1, 14), (image.height, image.width))
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(25, 96)))
        image = Image.open(buffer).convert("L")
    return np.asarray(image)


def turn(pixels: Grey8, label: int, rng: np.random.Generator) -> tuple[Grey8, int]:
    """`pixels` as they are, or turned, inverted or cut out, with the class that this makes of them."""
    if label == NOT:
        pixels = np.rot90(pixels, int(rng.choice([0, 0, 0, 1, 2, 3])))
        return (255 - pixels if rng.random() < 0.1 else pixels), NOT
    if label == OTHER:
        pixels = np.rot90(pixels, int(rng.integers(0, 4)))
        return (255 - pixels if rng.random() < 0.15 else pixels), OTHER
    if label in (FRONTAL, LATERAL) and rng.random() < 0.25:
        return make_other(pixels, str(rng.choice(TURNS)), rng), OTHER
    return pixels, label


#: What makes a chest radiograph one that must not be analysed as it is.
TURNS = ("turned_90", "turned_270", "turned_180", "inverted", "inverted", "detail", "two_films")


def make_other(pixels: Grey8, how: str, rng: np.random.Generator) -> Grey8:
    """A chest radiograph, turned, inverted, cut to less than half, or twice in one image."""
    if how.startswith("turned_"):
        return np.rot90(pixels, int(how.removeprefix("turned_")) // 90)
    if how == "inverted":
        return 255 - pixels
    rows, columns = pixels.shape
    if how == "detail":
        h, w = (int(s * rng.uniform(0.3, 0.5)) for s in (rows, columns))
        y, x = int(rng.integers(0, rows - h + 1)), int(rng.integers(0, columns - w + 1))
        return pixels[y : y + h, x : x + w]
    if how == "two_films":
        return np.concatenate([pixels, np.zeros((rows, int(rng.integers(0, 12))), np.uint8), pixels], axis=1)
    raise ValueError(how)


def _geometry(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """Mirror, rotation to 12 degrees, crop to 80%, aspect to 12%, a smooth warp."""
    if rng.random() < 0.3:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    w, h = image.size
    angle = np.deg2rad(float(rng.normal(0, 4.0 * strength)))
    zoom_x = float(np.exp(rng.normal(0.0, 0.08 * strength))) * rng.uniform(1 - 0.18 * strength, 1.06)
    zoom_y = zoom_x * float(np.exp(rng.normal(0.0, 0.06 * strength)))
    shift_x, shift_y = rng.normal(0, 0.04 * strength, 2)
    grid, quads = 3, []
    bend = rng.normal(0, 0.012 * strength, (grid + 1, grid + 1, 2)) if rng.random() < 0.4 else None

    def source(i: int, j: int) -> tuple[float, float]:
        u, v = i / grid - 0.5, j / grid - 0.5
        if bend is not None:
            u, v = u + bend[j, i, 0], v + bend[j, i, 1]
        x = (np.cos(angle) * u * w - np.sin(angle) * v * h) * zoom_x + (0.5 + shift_x) * w
        y = (np.sin(angle) * u * w + np.cos(angle) * v * h) * zoom_y + (0.5 + shift_y) * h
        return float(x), float(y)

    xs = [round(k * w / grid) for k in range(grid + 1)]
    ys = [round(k * h / grid) for k in range(grid + 1)]
    for j in range(grid):
        for i in range(grid):
            corners = (*source(i, j), *source(i, j + 1), *source(i + 1, j + 1), *source(i + 1, j))
            quads.append(((xs[i], ys[j], xs[i + 1], ys[j + 1]), corners))
    fill = int(rng.choice([0, 0, 0, 255, int(rng.integers(0, 255))]))
    return image.transform((w, h), Image.Transform.MESH, quads, Image.Resampling.BILINEAR, fillcolor=fill)


def _grey_curve(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """Gamma, window, S-curve."""
    level = np.arange(256) / 255.0
    level = level ** float(np.exp(rng.normal(0, 0.25 * strength)))
    low, high = rng.uniform(-0.1, 0.12) * strength, 1 + rng.uniform(-0.15, 0.1) * strength
    level = np.clip((level - low) / (high - low), 0, 1)
    if rng.random() < 0.25 * strength:
        level = 1 / (1 + np.exp(-rng.uniform(3, 8) * (level - rng.uniform(0.35, 0.65))))
    floor, ceiling = rng.uniform(0, 40) * strength, 255 - rng.uniform(0, 40) * strength
    return image.point([int(v) for v in floor + level * (ceiling - floor)])


def _marker(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Letters burnt in near an edge."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 4))):
        font = ImageFont.load_default(max(6, int(max(image.size) * rng.uniform(0.03, 0.09))))
        u, v = rng.uniform(0, 0.85), float(rng.choice([rng.uniform(0.0, 0.15), rng.uniform(0.82, 0.95)]))
        at = (
            (int(u * image.width), int(v * image.height))
            if rng.random() < 0.6
            else (int(v * image.width), int(u * image.height))
        )
        draw.text(at, str(rng.choice(_MARKERS)), fill=int(rng.choice([255, 255, 230, 0])), font=font)
    return image


def _border(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Collimation or padding on some sides, in black, white or grey."""
    w, h = image.size
    left, right = (int(w * rng.uniform(0, 0.18)) * int(rng.random() < 0.6) for _ in range(2))
    top, bottom = (int(h * rng.uniform(0, 0.18)) * int(rng.random() < 0.6) for _ in range(2))
    shade = int(rng.choice([0, 0, 255, int(rng.integers(0, 255))]))
    framed = Image.new("L", (w + left + right, h + top + bottom), shade)
    framed.paste(image, (left, top))
    return framed
