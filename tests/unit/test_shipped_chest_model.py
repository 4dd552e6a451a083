"""The chest model that ships: what holds whatever its weights are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from overread.domain import catalogue
from overread.domain.evidence import EvidenceBar
from overread.domain.image import FloatImage
from overread.inference.package import MODEL_FILE, open_package
from overread.inference.registry import shipped_folder
from overread.inference.runtime_onnx import OnnxModel
from overread.pipeline.detect import LARGEST_BOX, confidences, locate
from overread.pipeline.preprocess import prepare

PACKAGE = shipped_folder() / "chest_xray" / "1.0.0"


@pytest.fixture(scope="module")
def model() -> Iterator[OnnxModel]:
    running = OnnxModel(open_package(PACKAGE), threads=1)
    yield running
    running.close()


def chest(rows: int, columns: int) -> FloatImage:
    """Two dark lungs, a heart and a bright patch in one lung: enough for a network to have an opinion."""
    y, x = np.mgrid[:rows, :columns]
    y, x = (y + 0.5) / rows, (x + 0.5) / columns

    def blob(cy: float, cx: float, ry: float, rx: float) -> np.ndarray:
        return np.exp(-((((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2) ** 2))

    picture = 0.8 - 0.55 * blob(0.45, 0.3, 0.3, 0.15) - 0.55 * blob(0.45, 0.7, 0.3, 0.15)
    return np.clip(picture + 0.25 * blob(0.6, 0.55, 0.15, 0.13) + 0.3 * blob(0.6, 0.3, 0.1, 0.08), 0, 1).astype(
        np.float32
    )


def said(model: OnnxModel, pixels: FloatImage) -> np.ndarray:
    prediction = model.predict(prepare(pixels, model.input).tensor)
    return np.array(list(confidences(model.outputs, prediction).values()))


def test_package_is_small_and_covers_what_it_must(model: OnnxModel) -> None:
    assert (PACKAGE / MODEL_FILE).stat().st_size <= 25_000_000
    assert {"pneumothorax", "pleural_effusion", "pneumonia"} <= {o.finding for o in model.outputs}
    for output in open_package(PACKAGE).card.outputs:
        entry = catalogue.entry(output.evidence.finding)
        assert output.code == (entry.code.value, entry.code.scheme) and output.severity is entry.severity


def test_card_is_honest() -> None:
    card = open_package(PACKAGE).card
    assert "too few and too small for a clinical claim" in card.statement
    for output in card.outputs:
        meets = output.evidence.sensitivity.low >= 0.90 and output.evidence.specificity.low >= 0.85
        assert output.evidence.may_raise(EvidenceBar()) is meets
        assert output.evidence.auc.low > 0.5


@pytest.mark.parametrize(("rows", "columns"), [(2500, 2048), (512, 512), (1024, 1024)])
def test_size_does_not_matter(model: OnnxModel, rows: int, columns: int) -> None:
    assert np.abs(said(model, chest(rows, columns)) - said(model, chest(128, 128))).max() < 0.05


def test_bits_do_not_matter(model: OnnxModel) -> None:
    """With the grain of a film: on real radiographs 7 instead of 8 bits change a confidence by at most 0.011."""
    grain = np.random.default_rng(0).normal(0, 0.01, (512, 512))
    deep = np.clip(chest(512, 512) + grain, 0, 1).astype(np.float32)
    shallow = (np.round(deep * 255) / 255).astype(np.float32)
    assert np.abs(said(model, deep) - said(model, shallow)).max() < 0.02


def test_mirror_image_is_read_the_same(model: OnnxModel) -> None:
    picture = chest(256, 256)
    assert np.abs(said(model, picture) - said(model, np.ascontiguousarray(picture[:, ::-1]))).max() < 0.01


def test_collimation_matters_little(model: OnnxModel) -> None:
    picture = chest(400, 400)
    framed = np.zeros((480, 460), dtype=np.float32)
    framed[40:440, 30:430] = picture
    assert np.abs(said(model, picture) - said(model, framed)).max() < 0.12


@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_small_enough(model: OnnxModel, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = np.asarray(
        Image.fromarray(rng.random((9, 9), dtype=np.float32)).resize((600, 500), Image.Resampling.BICUBIC)
    )
    prepared = prepare(np.clip(noise, 0, 1), model.input)
    maps = model.predict(prepared.tensor).maps
    assert maps is not None and min(maps.shape[1:]) >= 10
    for each in maps:
        box = locate(each, prepared.frame)
        if box is not None:
            assert box.area <= LARGEST_BOX * 500 * 600
            assert box.x + box.width <= 600 and box.y + box.height <= 500
