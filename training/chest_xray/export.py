"""From trained networks to one `model.onnx`: their mean, on the image and on its mirror image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from training.chest_xray.network import EvidenceNet

#: Smaller tensors stay float32: they hold biases and scalars.
SMALL = 1024


class Served(nn.Module):
    """(1, 1, rows, columns) -> logits (1, F), maps (1, F, h, w); mean over networks and left-right mirroring."""

    def __init__(self, nets: Sequence[EvidenceNet], outputs: Sequence[int]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.register_buffer("outputs", torch.tensor(list(outputs)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([image, image.flip(3)])
        all_logits, all_maps = [], []
        for net in self.nets:
            logits, maps = net(both)
            all_logits.append((logits[:1] + logits[1:]) / 2)
            all_maps.append((maps[:1] + maps[1:].flip(3)) / 2)
        logits, maps = torch.stack(all_logits).mean(0), torch.stack(all_maps).mean(0)
        return logits.index_select(1, self.outputs), maps.index_select(1, self.outputs)


def write_onnx(nets: Sequence[EvidenceNet], outputs: Sequence[int], size: int, path: Path) -> None:
    """Write the model; its weights are stored as float16 and computed with as float32."""
    served = Served([net.eval().float() for net in nets], outputs).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        served,
        (torch.zeros(1, 1, size, size),),
        str(path),
        input_names=["image"],
        output_names=["logits", "maps"],
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(path))
    _halve(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _halve(model: onnx.ModelProto) -> None:
    """Large float32 weights as float16, each with a Cast that the runtime folds away when it loads the model."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < SMALL:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
