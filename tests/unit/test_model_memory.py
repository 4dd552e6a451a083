"""A model that runs into its memory cap: real processes, real memory, and the model that ships."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from tests.unit import onnx_builder as onnx
from tests.unit.card_text import card

from overread.domain.errors import ModelOutOfMemory, ModelStartTimeout
from overread.inference import runtime_onnx
from overread.inference.package import Package, open_package
from overread.inference.registry import shipped_folder
from overread.inference.runtime_onnx import OnnxModel

MIB = 1 << 20


@pytest.fixture(scope="module")
def package() -> Package:
    return open_package(next(shipped_folder().glob("chest_xray/*/card.toml")).parent)


def image(model: OnnxModel) -> np.ndarray:
    spec = model.input
    return np.random.default_rng(0).normal(size=(1, spec.channels, spec.rows, spec.columns)).astype(np.float32)


def test_less_memory_is_tried_before_a_study_fails(tmp_path: Path) -> None:
    """Under some cap a tensor of 300 MiB fits, and what the arena keeps besides does not; the answer is the same."""
    data = onnx.hungry(mebibytes=300)
    text = card(hashlib.sha256(data).hexdigest(), findings=("pneumothorax",))
    text = text.replace('maps = "maps"', "").replace("rows = 32\ncolumns = 32", "rows = 1\ncolumns = 1")
    (tmp_path / "model.onnx").write_bytes(data)
    (tmp_path / "card.toml").write_text(text)
    found = open_package(tmp_path)
    image = np.full((1, 1, 1, 1), 3.0, dtype=np.float32)
    roomy = OnnxModel(found, threads=1)
    expected = roomy.predict(image).logits
    assert not roomy.lean
    roomy.close()
    for cap in (530, 510, 550, 490, 570):
        tight = OnnxModel(found, threads=1, memory_bytes=cap * MIB)
        try:
            if tight.predict(image).logits == pytest.approx(expected) and tight.lean:
                return
        except ModelOutOfMemory:
            continue
        finally:
            tight.close()
    pytest.fail("no cap under which only the lean way fits")


def test_what_does_not_fit_fails_with_its_code_and_leaves_nothing_behind(package: Package) -> None:
    tiny = OnnxModel(package, threads=1, memory_bytes=180 * MIB)
    for _ in range(2):
        with pytest.raises(ModelOutOfMemory) as caught:
            tiny.predict(image(tiny))
        assert caught.value.code == "MODEL_OUT_OF_MEMORY" and caught.value.transient
        assert tiny.pid is None, "the next study gets a fresh process"
    tiny.close()


def test_a_start_that_takes_too_long_has_its_own_code(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_onnx, "START_TIMEOUT_S", 0.001)
    slow = OnnxModel(package, threads=1)
    with pytest.raises(ModelStartTimeout) as caught:
        slow.predict(image(slow))
    assert caught.value.code == "MODEL_TIMEOUT" and slow.pid is None
