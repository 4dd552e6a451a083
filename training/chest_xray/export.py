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
    """(1, 1, rows, columns) -> logits (1, F), maps (1, F, h, w); mean over networks and left-right mirroring.

    Raw maps are bright where they always are, at borders and in the air beside the patient. `usual` is the mean and the
    standard deviation (F, h, w) of raw maps of training images without finding: the maps that are served say how far
    the evidence at a place is above what is usual *there*, in standard deviations, less up to 3 towards the edges.
    """

    def __init__(
        self, nets: Sequence[EvidenceNet], outputs: Sequence[int], usual: tuple[Tensor, Tensor] | None
    ) -> None:
        super().__init__()
        self.has_usual = usual is not None
        if usual is not None:
            self.register_buffer("mean", usual[0][None, list(outputs)])
            self.register_buffer("deviation", usual[1][None, list(outputs)])
            self.register_buffer("far", _far(*usual[0].shape[1:]))
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
        logits, maps = logits.index_select(1, self.outputs), maps.index_select(1, self.outputs)
        if self.has_usual:
            maps = (maps - self.mean) / self.deviation - self.far
        return logits, maps


def _far(rows: int, columns: int) -> Tensor:
    """(rows, columns): 0 in the middle, rising to 3 at the edges, where no lung is."""
    y = ((torch.arange(rows) + 0.5) / rows * 2 - 1).abs()[:, None]
    x = ((torch.arange(columns) + 0.5) / columns * 2 - 1).abs()[None]
    return 10.0 * (torch.maximum(y, x) - 0.7).clamp(0.0, 0.3)


def write_onnx(
    nets: Sequence[EvidenceNet],
    outputs: Sequence[int],
    size: int,
    path: Path,
    *,
    usual: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Write the model; its weights are stored as float16 and computed with as float32."""
    served = Served([net.eval().float() for net in nets], outputs, usual).eval()
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
