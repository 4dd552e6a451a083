"""The shipped model `radiograph_view`, run as the product runs it: on phantoms, changed phantoms, and no films at all.

The phantom was never trained on, so these are unseen anatomies. Rates on real films are in
training/radiograph_view/report.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import data as pydicom_data

from overread.dicom import read
from overread.domain.image import FloatImage, GreyImage, ImageHeader, ImageInstance
from overread.inference.package import Package, open_package
from overread.inference.registry import shipped_folder
from overread.inference.runtime_onnx import OnnxModel
from overread.phantom.anatomy import Arms
from overread.phantom.presentation import Exposure, expose, present
from overread.phantom.radiograph import Geometry, View, project
from overread.phantom.thorax import make_thorax
from overread.pipeline.recognise import (
    CHEST_FRONTAL,
    CHEST_LATERAL,
    NOT_RADIOGRAPH,
    OTHER_RADIOGRAPH,
    VIEW_TASK,
    recognise,
    view_chances,
)

FOLDER = shipped_folder() / "radiograph_view" / "1.0.0"
CLASSES = (CHEST_FRONTAL, CHEST_LATERAL, OTHER_RADIOGRAPH, NOT_RADIOGRAPH)
ARMS = {View.PA: Arms.OUT, View.AP: Arms.DOWN, View.LATERAL: Arms.UP}


@pytest.fixture(scope="module")
def package() -> Package:
    return open_package(FOLDER)


@pytest.fixture(scope="module")
def model(package: Package) -> Iterator[OnnxModel]:
    running = OnnxModel(package, threads=1)
    yield running
    running.close()


@pytest.fixture(scope="module")
def films() -> dict[View, FloatImage]:
    """One phantom radiograph a view, float32 (256, 256), 0..1."""
    made = {}
    for view, arms in ARMS.items():
        rng = np.random.default_rng(4711)
        geometry = Geometry(view=view, size=256, detail_mm=2.0, plane_mm=6.0)
        exposure = Exposure(bits=12)
        attenuation = project(make_thorax(rng, arms=arms), geometry).attenuation
        stored = present(expose(attenuation, geometry.pixel_mm, exposure, rng), geometry.pixel_mm, exposure)
        made[view] = (stored / np.float32(4095)).astype(np.float32)
    return made


def as_instance(pixels: FloatImage) -> ImageInstance:
    """Pixels without a single tag."""
    contiguous = np.ascontiguousarray(pixels, dtype=np.float32)
    return ImageInstance(header=ImageHeader(sop_instance_uid="1.2.3"), image=GreyImage(pixels=contiguous))


def test_package_is_whole_and_small(package: Package) -> None:
    assert package.card.task == VIEW_TASK
    assert tuple(o.evidence.finding for o in package.card.outputs) == CLASSES
    assert len(package.read_model()) < 6_000_000


def test_card_tells_what_was_measured(package: Package) -> None:
    by_name = {o.evidence.finding: o for o in package.card.outputs}
    frontal = by_name[CHEST_FRONTAL].evidence
    assert frontal.sensitivity.low > 0.97
    assert frontal.specificity.low > 0.99
    assert {s.by for s in by_name[CHEST_FRONTAL].subgroups} >= {"age", "sex", "view", "folder"}


@pytest.mark.parametrize("view", [View.PA, View.AP])
def test_frontal_phantom_is_read_without_tags(model: OnnxModel, films: dict[View, FloatImage], view: View) -> None:
    seen = recognise(as_instance(films[view]), model)
    assert (seen.view, seen.task) == (CHEST_FRONTAL, "chest_xray")


def test_lateral_phantom_is_told(model: OnnxModel, films: dict[View, FloatImage]) -> None:
    seen = recognise(as_instance(films[View.LATERAL]), model)
    assert (seen.view, seen.task) == (CHEST_LATERAL, None)


@pytest.mark.parametrize("view", [View.PA, View.AP])
@pytest.mark.parametrize("change", ["turned 90", "turned 180", "turned 270", "inverted", "twice"])
def test_changed_frontal_is_not_read(model: OnnxModel, films: dict[View, FloatImage], view: View, change: str) -> None:
    film = films[view]
    if change.startswith("turned"):
        pixels = np.rot90(film, int(change.split()[1]) // 90)
    elif change == "inverted":
        pixels = 1 - film
    else:
        pixels = np.concatenate([film, film], axis=1)
    seen = recognise(as_instance(pixels), model)
    assert seen.task is None
    assert seen.view == OTHER_RADIOGRAPH


@pytest.mark.parametrize("size", [96, 180, 1024])
@pytest.mark.parametrize("border", [0.0, 0.15])
def test_size_and_border_do_not_matter(
    model: OnnxModel, films: dict[View, FloatImage], size: int, border: float
) -> None:
    film = np.pad(films[View.PA], round(256 * border))
    pixels = np.asarray(Image.fromarray(film).resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    assert recognise(as_instance(np.clip(pixels, 0, 1)), model).task == "chest_xray"


def nothing_medical() -> dict[str, FloatImage]:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:200, 0:200].astype(np.float32) / 200
    return {
        "black": np.zeros((128, 128), dtype=np.float32),
        "white": np.ones((128, 128), dtype=np.float32),
        "noise": rng.random((200, 200), dtype=np.float32),
        "gradient": y,
        "vignette": 1 - np.hypot(x - 0.5, y - 0.5),
        "checks": ((np.floor(x * 8) + np.floor(y * 8)) % 2).astype(np.float32),
    }


@pytest.mark.parametrize("name", sorted(nothing_medical()))
def test_nothing_medical_is_not_read(model: OnnxModel, name: str) -> None:
    assert recognise(as_instance(nothing_medical()[name]), model).task is None


def pydicom_files() -> list[Path]:
    folder = Path(str(pydicom_data.__file__)).parent / "test_files"
    names = ("CT_small", "MR_small", "examples_overlay", "examples_rgb_color", "JPEG2000", "liver_1frame", "image_dfl")
    return [path for name in names if (path := folder / f"{name}.dcm").exists()]


@pytest.mark.parametrize("path", pydicom_files(), ids=lambda path: path.stem)
def test_other_makers_files_are_no_frontal_chest(model: OnnxModel, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        instance = read.image(path.read_bytes(), name=path.name)
    chances = view_chances(instance, model)
    assert chances[CHEST_FRONTAL] < 0.2


def test_chances_sum_to_one(model: OnnxModel, films: dict[View, FloatImage]) -> None:
    """The outputs are a softmax's log-odds, so sigmoid of each is a probability of one whole."""
    assert sum(view_chances(as_instance(films[View.PA]), model).values()) == pytest.approx(1.0, abs=1e-4)
