"""Images that are no medical image: pages, screens, test patterns, gradients, noise. Drawn, seeded, ours."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from training.radiograph_view.classes import Grey8

_WORDS = [
    "patient",
    "study",
    "report",
    "the",
    "heart",
    "lung",
    "left",
    "right",
    "no",
    "of",
    "and",
    "with",
    "for",
    "chest",
    "film",
    "date",
    "technique",
    "comparison",
    "findings",
    "impression",
    "signed",
    "ward",
    "order",
    "invoice",
    "total",
    "page",
    "12",
    "7",
    "2024",
    "kV",
    "mAs",
    "menu",
    "file",
    "edit",
    "view",
    "tools",
    "help",
]


def page(rng: np.random.Generator) -> Grey8:
    """A page of text, dark on light or light on dark."""
    paper, ink = (245, 20) if rng.random() < 0.7 else (10, 230)
    image = Image.new("L", (int(rng.integers(180, 300)), int(rng.integers(180, 300))), paper)
    draw = ImageDraw.Draw(image)
    size = int(rng.integers(7, 22))
    font = ImageFont.load_default(size)
    y = int(rng.integers(0, 40))
    while y < image.height - size:
        words = " ".join(rng.choice(_WORDS, int(rng.integers(0, 12))))
        draw.text((int(rng.integers(4, 30)), y), words, fill=ink, font=font)
        y += int(size * rng.uniform(1.1, 1.9))
    return np.asarray(image)


def screen(rng: np.random.Generator) -> Grey8:
    """A user interface: panels, buttons, tables, charts."""
    image = Image.new("L", (int(rng.integers(200, 320)), int(rng.integers(150, 240))), int(rng.integers(0, 255)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 18))):
        x, y = int(rng.integers(-20, image.width)), int(rng.integers(-20, image.height))
        w, h = int(rng.integers(10, 180)), int(rng.integers(6, 120))
        shape = draw.rectangle if rng.random() < 0.75 else draw.ellipse
        shape((x, y, x + w, y + h), fill=int(rng.integers(0, 255)), outline=int(rng.integers(0, 255)))
        if rng.random() < 0.6:
            draw.text((x + 3, y + 2), str(rng.choice(_WORDS)), fill=int(rng.integers(0, 255)))
    points = [(int(x), int(rng.integers(0, image.height))) for x in np.linspace(0, image.width, 12)]
    if rng.random() < 0.3:
        draw.line(points, fill=int(rng.integers(0, 255)), width=2)
    return np.asarray(image)


def texture(rng: np.random.Generator) -> Grey8:
    """Noise at a random scale, plain or symmetric, or a gradient, a vignette, stripes, a checkerboard."""
    side = 192
    kind = int(rng.integers(0, 6))
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    if kind == 0:
        image = rng.normal(size=(side, side))
    elif kind == 1:
        image = ndimage.gaussian_filter(rng.normal(size=(side, side)), rng.uniform(1, 30))
    elif kind == 2:
        image = x * rng.normal() + y * rng.normal()
    elif kind == 3:
        image = -np.hypot(x * rng.uniform(0.5, 2), y * rng.uniform(0.5, 2)) * rng.choice([-1, 1])
    elif kind == 4:
        image = np.sin((x * rng.normal() + y * rng.normal()) * rng.uniform(5, 80))
    else:  # blobs that are mirror images, as a thorax is
        half = ndimage.gaussian_filter(rng.normal(size=(side, side // 2)), rng.uniform(4, 20))
        image = np.concatenate([half, half[:, ::-1]], axis=1)
    image = image + rng.normal(size=image.shape) * rng.uniform(0, 0.1) * image.std()
    low, high = float(image.min()), float(image.max())
    return ((image - low) / max(1e-9, high - low) * 255).astype(np.uint8)


def two_ellipses(rng: np.random.Generator) -> Grey8:
    """Dark ellipses on a bright body: shaped like lungs, but no anatomy."""
    image = Image.new("L", (224, 224), int(rng.integers(90, 255)))
    draw = ImageDraw.Draw(image)
    dark = int(rng.integers(0, 80))
    for centre in (72, 152):
        c = centre + int(rng.integers(-10, 10))
        w, h = int(rng.integers(18, 42)), int(rng.integers(40, 90))
        draw.ellipse((c - w, 112 - h, c + w, 112 + h), fill=dark)
    blurred = ndimage.gaussian_filter(np.asarray(image, dtype=np.float32), rng.uniform(0, 6))
    return blurred.astype(np.uint8)


GENERATORS = {"text_pages": page, "screens": screen, "patterns": texture, "ellipses": two_ellipses}
