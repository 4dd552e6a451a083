"""From the trained network to model.onnx."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch

from training.radiograph_view.network import INPUT, LogOdds, ViewNet
from training.radiograph_view.report import OnnxModel


def write_onnx(net: ViewNet, path: Path) -> None:
    """float32 image (1, 1, 112, 112) to float32 logits (1, 4); ArithmeticError if ONNX Runtime disagrees with torch."""
    model = LogOdds(net).eval()
    example = torch.randn(1, INPUT.channels, INPUT.rows, INPUT.columns, generator=torch.Generator().manual_seed(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model, (example,), str(path), input_names=[INPUT.name], output_names=["logits"], opset_version=17, dynamo=False
    )
    onnx.checker.check_model(str(path))
    with torch.no_grad():
        expected = model(example).numpy()
    found = OnnxModel(path).logits(example.numpy())
    if not np.allclose(expected, found, atol=1e-3):
        raise ArithmeticError(f"ONNX says {found}, torch says {expected}")
