"""The loop: balanced over classes and sources, every image varied afresh, one cycle of the learning rate."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from overread.pipeline.preprocess import prepare
from training.radiograph_view.classes import FRONTAL, LATERAL, NOT, OTHER, Grey8, Item
from training.radiograph_view.degrade import turn, vary
from training.radiograph_view.network import INPUT, ViewNet

#: How often each class is drawn; the rest is shared evenly among the sources of a class (by square root of their size).
CLASS_SHARE = {FRONTAL: 0.38, LATERAL: 0.18, OTHER: 0.18, NOT: 0.26}
BATCH = 48
SEED = 7


def tensor_of(pixels: Grey8) -> np.ndarray:
    """float32 (1, rows, columns): exactly what the product makes of these pixels."""
    return prepare(pixels.astype(np.float32) / 255.0, INPUT).tensor[0]


def weights(items: Sequence[Item]) -> np.ndarray:
    """Probability of drawing each item."""
    sizes: dict[tuple[int, str], int] = {}
    for item in items:
        sizes[item.label, item.source] = sizes.get((item.label, item.source), 0) + 1
    roots: dict[int, float] = {}
    for (label, _), size in sizes.items():
        roots[label] = roots.get(label, 0.0) + size**0.5
    share = [CLASS_SHARE[i.label] / roots[i.label] / sizes[i.label, i.source] ** 0.5 for i in items]
    return np.asarray(share) / np.sum(share)


def fit(items: Sequence[Item], steps: int, threads: int = 1) -> ViewNet:
    """The trained network, in evaluation mode. The same seed, items and thread count give the same weights."""
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    rng = np.random.default_rng(SEED)
    chance = weights(items)
    net = ViewNet().to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(
        [
            {"params": [*net.stem.parameters(), *net.blocks.parameters()], "lr": 6e-4},
            {"params": net.head.parameters(), "lr": 3e-3},
        ],
        weight_decay=1e-2,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [6e-4, 3e-3], total_steps=steps, pct_start=0.15)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.02)
    begun, running = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        drawn = []
        for index in rng.choice(len(items), BATCH, p=chance):
            pixels, label = turn(items[index].pixels, items[index].label, rng)
            drawn.append((tensor_of(vary(pixels, rng)), label))
        images = torch.from_numpy(np.stack([d[0] for d in drawn])).contiguous(memory_format=torch.channels_last)
        loss = loss_of(net(images), torch.tensor([d[1] for d in drawn]))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        running = 0.95 * running + 0.05 * float(loss) if step > 1 else float(loss)
        if step % 20 == 0 or step == steps:
            print(f"step {step}/{steps}  loss {running:.3f}  {time.monotonic() - begun:.0f} s", flush=True)
    return net.eval()
