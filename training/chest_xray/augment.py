"""Random changes that keep the labels: geometry, display, sharpness, noise, hidden patches, mixing."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def _uniform(n: int, low: float, high: float, g: torch.Generator) -> Tensor:
    return torch.rand(n, generator=g) * (high - low) + low


def _some(n: int, p: float, g: torch.Generator) -> Tensor:
    return (torch.rand(n, generator=g) < p).view(n, 1, 1, 1)


def augment(x: Tensor, size: int, g: torch.Generator) -> Tensor:
    """(N, 1, 128, 128), 0..1 -> (N, 1, size, size), 0..1, all randomly changed."""
    n = x.shape[0]
    x = torch.where(_some(n, 0.20, g), _coarser(x, g), x)
    x = _warp(x, size, g)
    blurred = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    # below 0 sharpens (edge-enhancing display), above 0 blurs
    amount = _uniform(n, -1.0, 1.0, g).view(n, 1, 1, 1) * _some(n, 0.4, g)
    x = x + amount * (blurred - x)
    return _hide(_display(x, g), g)


def _coarser(x: Tensor, g: torch.Generator) -> Tensor:
    size = int(_uniform(1, 56, 112, g))
    small = functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    return functional.interpolate(small, size=x.shape[-2:], mode="bilinear")


def _warp(x: Tensor, size: int, g: torch.Generator) -> Tensor:
    n = x.shape[0]
    angle = (torch.randn(n, generator=g) * 6.0).clamp(-15, 15) * math.pi / 180
    scale, aspect = torch.exp(_uniform(n, -0.18, 0.14, g)), torch.exp(_uniform(n, -0.10, 0.10, g))
    flip = torch.where(torch.rand(n, generator=g) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale * aspect * cos * flip, -scale * sin
    theta[:, 1, 0], theta[:, 1, 1] = scale * sin * flip, scale / aspect * cos
    theta[:, 0, 2], theta[:, 1, 2] = _uniform(n, -0.12, 0.12, g), _uniform(n, -0.12, 0.12, g)
    grid = functional.affine_grid(theta, [n, 1, size, size], align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _display(x: Tensor, g: torch.Generator) -> Tensor:
    n, size = x.shape[0], x.shape[-1]
    low, high = _uniform(n, -0.10, 0.12, g).view(n, 1, 1, 1), _uniform(n, 0.85, 1.15, g).view(n, 1, 1, 1)
    x = ((x - low) / (high - low)).clamp(0.0, 1.0)
    x = x.clamp(min=1e-4) ** torch.exp(_uniform(n, -0.45, 0.45, g)).view(n, 1, 1, 1)
    field = functional.interpolate(torch.randn(n, 1, 4, 4, generator=g), size=(size, size), mode="bicubic")
    x = x + field * _uniform(n, 0.0, 0.06, g).view(n, 1, 1, 1) * _some(n, 0.5, g)
    noise = torch.randn(x.shape, generator=g) * _uniform(n, 0.0, 0.04, g).view(n, 1, 1, 1)
    return (x + noise * _some(n, 0.4, g)).clamp(0.0, 1.0)


def _hide(x: Tensor, g: torch.Generator) -> Tensor:
    n, size = x.shape[0], x.shape[-1]
    at = torch.arange(size).float() / size
    half_h, half_w = _uniform(n, 0.04, 0.14, g), _uniform(n, 0.04, 0.14, g)
    cy, cx = _uniform(n, 0.0, 1.0, g), _uniform(n, 0.0, 1.0, g)
    rows = (at[None] - cy[:, None]).abs() < half_h[:, None]
    columns = (at[None] - cx[:, None]).abs() < half_w[:, None]
    patch = (rows[:, :, None] & columns[:, None, :])[:, None] & _some(n, 0.3, g)
    return torch.where(patch, _uniform(n, 0.0, 1.0, g).view(n, 1, 1, 1), x)


def mix(x: Tensor, rest: tuple[Tensor, ...], g: torch.Generator, *, alpha: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Mixup (Zhang et al. 2018) of images and of everything that belongs to them."""
    a = float(torch.distributions.Beta(alpha, alpha).sample())
    a = max(a, 1.0 - a)
    other = torch.randperm(x.shape[0], generator=g)
    return a * x + (1 - a) * x[other], tuple(a * r + (1 - a) * r[other] for r in rest)
