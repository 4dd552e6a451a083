"""Where the images come from, and which part each belongs to.

Chest radiographs follow the patient split of `training/chest_xray` (committed before any training). The other sets are
divided by patient where the patient is known (head_ct_slices), else by image: brain_mri and breast_ultrasound hold near
twins, so their figures are optimistic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from training.chest_xray import split as chest_split
from training.chest_xray.paths import DATA
from training.radiograph_view import synthetic
from training.radiograph_view.classes import CLASSES, FRONTAL, LATERAL, NOT, OTHER, Grey8, Item
from training.radiograph_view.drr import body_volume, draw_angle, project, read_ct

#: Images of the NIH folders that are no upright frontal chest radiograph although their labels say PA or AP. Found
#: among the 91 of 8,269 to which a first training gave less than 0.955 for `chest_frontal`; all 91 were looked at, and
#: 25 are laterals, turned films or an abdomen. They are the only real laterals here: none is trained on, all are test.
RELABELLED = Path(__file__).with_name("relabelled.csv")
SIDE = 256
SEED = 20261124
#: Projections of the CT to train with, by kind; a quarter more is drawn with another seed for the test.
PROJECTIONS = {"frontal": 90, "lateral": 300, "oblique": 90}
CT_WINDOWS = ((-600.0, 1500.0), (40.0, 400.0), (300.0, 1800.0))
PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png",
    "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
#: These photographs are never trained on.
TEST_PHOTOGRAPHS = frozenset({"chelsea.png", "moon.png", "rocket.jpg", "coins.png", "page.png", "flower.jpg"})


def part_of(key: str) -> str:
    """70% train, 10% val, 20% test, by a hash of the group."""
    point = int(hashlib.sha256(f"{SEED}:{key}".encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return "train" if point < 0.7 else "val" if point < 0.8 else "test"


def read_grey(path: Path, side: int = SIDE) -> Grey8:
    """An image file as grey, at most `side` pixels a side."""
    with Image.open(path) as image:
        grey = image.convert("L")
    grey.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(grey)


def chest_radiographs() -> Iterator[Item]:
    """Both NIH folders; what is in `relabelled.csv` under sources of its own, in the test part."""
    parts = chest_split.load()
    other = {(row.folder, row.image): row.shows for row in pd.read_csv(RELABELLED).itertuples()}
    for folder in ("chest_xray", "chest_xray_128"):
        table = pd.read_csv(DATA / folder / "labels.csv")
        for row in table.itertuples():
            part = {"train": "train", "validation": "val", "test": "test"}[parts[row.patient]]
            pixels = read_grey(DATA / folder / "images" / row.image)
            if (folder, row.image) in other:
                label = CLASSES.index(other[folder, row.image])
                source = "nih_real_lateral" if label == LATERAL else "nih_turned_or_abdomen"
                yield Item(pixels=pixels, label=label, source=source, group=str(row.patient), part="test")
                continue
            yield Item(
                pixels=pixels,
                label=FRONTAL,
                source=folder,
                group=str(row.patient),
                part=part,
                view=str(row.view),
                age=int(row.age),
                sex=str(row.sex),
            )


def folders() -> Iterator[Item]:
    """Limb radiographs, sections and ultrasound."""
    labels = {
        "fracture_xray": OTHER,
        "head_ct": NOT,
        "head_ct_slices": NOT,
        "brain_mri": NOT,
        "breast_ultrasound": NOT,
        "fetal_ultrasound": NOT,
    }
    for source, label in labels.items():
        for path in sorted((DATA / source / "images").glob("*.jpg")):
            group = path.stem.split("_")[0] if source in ("head_ct_slices", "fetal_ultrasound") else path.stem
            yield Item(
                pixels=read_grey(path),
                label=label,
                source=source,
                group=f"{source}/{group}",
                part=part_of(f"{source}/{group}"),
            )


def chest_ct() -> Iterator[Item]:
    """Sections of the one CT in three planes and three windows, and its projections.

    It is one patient: test sections are blocks of 24 mm apart from the trained ones, and no figure on it is a figure on
    unseen patients.
    """
    hu, spacing = read_ct(DATA / "chest_ct" / "covid001")
    volume = body_volume(hu, spacing)
    planes = {
        "axial": hu[::2],
        "coronal": np.swapaxes(volume.hu, 0, 1)[10:-10:3],
        "sagittal": np.moveaxis(volume.hu, 2, 0)[8:-8:3],
    }
    for plane, sections in planes.items():
        for index, section in enumerate(sections):
            part = ("train", "train", "train", "val", "test")[index // 6 % 5]
            for centre, width in CT_WINDOWS:
                shown = np.clip((section - centre) / width + 0.5, 0, 1) * 255
                image = Image.fromarray(shown.astype(np.uint8))
                image.thumbnail((SIDE, SIDE))
                yield Item(
                    pixels=np.asarray(image),
                    label=NOT,
                    source=f"chest_ct_{plane}",
                    group=f"{plane}{index // 6}",
                    part=part,
                )
    label_of = {"frontal": FRONTAL, "lateral": LATERAL, "oblique": OTHER}
    for part, share, seed in (("train", 1.0, 1), ("val", 0.1, 2), ("test", 0.25, 3)):
        rng = np.random.default_rng([SEED, seed])
        for kind, count in PROJECTIONS.items():
            for index in range(int(count * share)):
                image = project(volume, draw_angle(kind, rng), rng)
                yield Item(
                    pixels=(image * 255).astype(np.uint8),
                    label=label_of[kind],
                    source=f"ct_projection_{kind}",
                    group=f"{part}{index}",
                    part=part,
                )


def photographs() -> Iterator[Item]:
    """Crops of the photographs that scikit-image and scikit-learn ship, and the faces of scikit-image."""
    rng = np.random.default_rng([SEED, 4])
    paths = [_package("skimage") / "data" / name for name in PHOTOGRAPHS]
    paths += [_package("sklearn") / "datasets" / "images" / name for name in ("china.jpg", "flower.jpg")]
    for path in paths:
        whole = read_grey(path, 600)
        part = "test" if path.name in TEST_PHOTOGRAPHS else "train"
        for _ in range(12):
            h, w = (int(s * rng.uniform(0.3, 1.0)) for s in whole.shape)
            y, x = int(rng.integers(0, whole.shape[0] - h + 1)), int(rng.integers(0, whole.shape[1] - w + 1))
            crop = Image.fromarray(whole[y : y + h, x : x + w])
            crop.thumbnail((SIDE, SIDE))
            yield Item(pixels=np.asarray(crop), label=NOT, source="photographs", group=path.name, part=part)
    faces = np.load(_package("skimage") / "data" / "lfw_subset.npy")[:100]
    for index, face in enumerate(faces):
        part = "test" if index % 5 == 0 else "train"
        yield Item(pixels=(face * 255).astype(np.uint8), label=NOT, source="faces", group=f"face{index}", part=part)


def drawn() -> Iterator[Item]:
    """Pages, screens, patterns."""
    for part, count, seed in (("train", 120, 5), ("val", 20, 6), ("test", 60, 7)):
        rng = np.random.default_rng([SEED, seed])
        for source, draw in synthetic.GENERATORS.items():
            for index in range(count):
                yield Item(pixels=draw(rng), label=NOT, source=source, group=f"{part}{index}", part=part)


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{name}: install the `training` extra")
    return Path(spec.origin).parent


def load_all() -> list[Item]:
    """Every image of every part, in a fixed order. Takes about two minutes on one core."""
    return [*chest_radiographs(), *folders(), *chest_ct(), *photographs(), *drawn()]
