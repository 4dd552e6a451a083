"""Packages are untrusted: sha256, external data, custom operators, ZIP tricks; they run in a process of their own."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.unit import onnx_builder as onnx
from tests.unit.card_text import card

from overread.domain.errors import InferenceError, InvalidPackage, ModelOutOfMemory, ModelTimeout
from overread.inference import onnx_check
from overread.inference.package import install, open_package
from overread.inference.registry import Registry, shipped_folder
from overread.inference.runtime_onnx import OnnxModel

IMAGE = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(1, 1, 32, 32)


def package(folder: Path, model: bytes | None = None, *, text: str | None = None, version: str = "1.2.3") -> Path:
    model = onnx.pooled() if model is None else model
    text = card(hashlib.sha256(model).hexdigest()) if text is None else text
    at = folder / "toy" / version
    at.mkdir(parents=True)
    (at / "model.onnx").write_bytes(model)
    (at / "card.toml").write_text(text.replace("1.2.3", version))
    return at


@pytest.fixture
def model(tmp_path: Path) -> Iterator[OnnxModel]:
    running = OnnxModel(open_package(package(tmp_path)), threads=1)
    yield running
    running.close()


def test_model_runs(model: OnnxModel) -> None:
    said = model.predict(IMAGE)
    assert said.logits == pytest.approx([IMAGE.mean(), -IMAGE.mean()], abs=1e-6)
    assert said.maps is not None and said.maps.shape == (2, 8, 8)
    assert said.maps[0, 0, 0] == pytest.approx(IMAGE[0, 0, :4, :4].mean())
    assert model.pid not in (None, os.getpid())


def test_killed_host_is_started_again(model: OnnxModel) -> None:
    model.warm_up()
    first = model.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    time.sleep(0.2)
    assert model.predict(IMAGE).logits.shape == (2,) and model.pid != first


def test_host_that_dies_at_work_is_an_error_once(tmp_path: Path) -> None:
    text = card(hashlib.sha256(onnx.pooled(spin=True)).hexdigest())
    model = OnnxModel(open_package(package(tmp_path, onnx.pooled(spin=True), text=text)), threads=1, timeout_s=20)
    threading.Timer(2.0, lambda: os.kill(model.pid or 0, signal.SIGTERM)).start()
    with pytest.raises(InferenceError, match="ended with status"):
        model.predict(IMAGE)
    assert model.pid is None


def test_endless_model_is_timed_out(tmp_path: Path) -> None:
    text = card(hashlib.sha256(onnx.pooled(spin=True)).hexdigest())
    model = OnnxModel(open_package(package(tmp_path, onnx.pooled(spin=True), text=text)), threads=1, timeout_s=0.5)
    with pytest.raises(ModelTimeout):
        model.predict(IMAGE)
    assert model.pid is None


def test_greedy_model_is_stopped(tmp_path: Path) -> None:
    data = onnx.hungry()
    text = card(hashlib.sha256(data).hexdigest(), findings=("pneumothorax",))
    text = text.replace('maps = "maps"', "").replace("rows = 32\ncolumns = 32", "rows = 1\ncolumns = 1")
    model = OnnxModel(open_package(package(tmp_path, data, text=text)), threads=1)
    with pytest.raises(ModelOutOfMemory):
        model.predict(np.ones((1, 1, 1, 1), dtype=np.float32))
    model.close()


@pytest.mark.parametrize(
    "tensor", [IMAGE[0], IMAGE.astype(np.float64), np.full((1, 1, 32, 32), np.nan, dtype=np.float32)]
)
def test_wrong_input_is_an_error(model: OnnxModel, tensor: np.ndarray) -> None:
    with pytest.raises(InferenceError):
        model.predict(tensor)
    assert model.predict(IMAGE).logits.shape == (2,)


def test_host_gets_no_settings(model: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERREAD_SECRET_KEY", "very secret")
    model.warm_up()
    assert b"very secret" not in Path(f"/proc/{model.pid}/environ").read_bytes()


def test_other_model_than_the_card_says(tmp_path: Path) -> None:
    at = package(tmp_path, text=card("b" * 64))
    with pytest.raises(InvalidPackage, match="sha256"):
        open_package(at).read_model()


def test_external_data_is_refused() -> None:
    onnx_check.check(onnx.pooled())
    for extra in (onnx.number(14, 1), onnx.message(13, onnx.message(1, "location") + onnx.message(2, "/etc/passwd"))):
        with pytest.raises(InvalidPackage, match="external data"):
            onnx_check.check(onnx.pooled(extra_tensor=extra))


def test_custom_operator_is_refused() -> None:
    with pytest.raises(InvalidPackage, match=r"custom operators.*evil"):
        onnx_check.check(onnx.pooled(domain="evil"))


@pytest.mark.parametrize("junk", [b"", b"not a model", b"\x3a\xff\xff\xff\xff\x0f", onnx.pooled()[:-20]])
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(InvalidPackage):
        onnx_check.check(junk)


def test_install_from_zip(tmp_path: Path) -> None:
    at = package(tmp_path / "source")
    archive = tmp_path / "toy.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("card.toml", "model.onnx"):
            file.write(at / name, f"toy/{name}")
        file.writestr("../../evil", "x")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(InvalidPackage, match="sha256"):
        install(archive, tmp_path / "models", sha256="0" * 64)
    installed = install(archive, tmp_path / "models", sha256=digest)
    assert installed.path == tmp_path / "models" / "toy" / "1.2.3"
    assert sorted(p.name for p in installed.path.iterdir()) == ["card.toml", "model.onnx"]
    assert not (tmp_path / "evil").exists()
    assert install(archive, tmp_path / "models").card.identity == installed.card.identity  # again: no error


def test_same_version_with_another_model_is_refused(tmp_path: Path) -> None:
    install(package(tmp_path / "a"), tmp_path / "models")
    other = onnx.pooled(extra_tensor=onnx.message(12, "a note"))
    with pytest.raises(InvalidPackage, match="already"):
        install(package(tmp_path / "b", other), tmp_path / "models")


@pytest.mark.parametrize("broken", ["missing", "empty.zip"])
def test_unreadable_package(tmp_path: Path, broken: str) -> None:
    (tmp_path / "empty.zip").write_bytes(b"PK")
    with pytest.raises(InvalidPackage):
        open_package(tmp_path / broken)


def test_registry_takes_the_newest_and_says_what_it_refused(tmp_path: Path) -> None:
    package(tmp_path, version="1.9.0")
    package(tmp_path, version="1.10.0")
    package(tmp_path, text="name = 'x'", version="2.0.0")
    registry = Registry([tmp_path, tmp_path / "none"], threads=1)
    model = registry.find("chest_xray")
    assert model is not None and model.identity.version == "1.10.0" and registry.find("chest_xray") is model
    assert registry.find("brain_ct") is None
    assert len(registry.packages) == 2 and [c.identity.version for c in registry.cards()] == ["1.10.0"]
    assert "does not say its version" in registry.refused[0].reason
    package(tmp_path, version="1.11.0")
    registry.reload()
    newer = registry.find("chest_xray")
    assert newer is not None and newer.identity.version == "1.11.0"
    registry.close()


def test_shipped_packages_are_whole() -> None:
    registry = Registry([shipped_folder()])
    assert registry.refused == ()
    for found in registry.packages:
        found.read_model()
