"""One training run: from ImageNet weights to averaged weights, resumable after each epoch."""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from training.chest_xray import data, labels
from training.chest_xray.augment import augment, mix
from training.chest_xray.network import EvidenceNet
from training.chest_xray.paths import FOLDERS, RUNS

#: What the run is watched by, on validation patients of chest_xray_128.
WATCHED = ("Pneumothorax", "Effusion", "Cardiomegaly", "Edema", "Emphysema", "Opacity")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that decides the result."""

    name: str
    seed: int = 1
    #: Name of a run whose averaged weights this one starts from; "" starts from ImageNet.
    after: str = ""
    #: (epochs, input size in pixels): coarse first, which is faster and as good, then finer.
    stages: tuple[tuple[int, int], ...] = ((9, 160), (9, 192), (6, 224))
    batch: int = 32
    rate: float = 4e-4
    head_rate: float = 1.2e-3
    decay: float = 0.03
    average: float = 0.998
    #: Part of the images without finding that an epoch sees, drawn anew each time.
    no_finding: float = 0.6
    #: An epoch sees about n ** this of a patient's n images, drawn anew each time: they resemble each other.
    per_patient: float = 1.0
    mix_share: float = 0.5
    mix_alpha: float = 0.4
    drop_connect: float = 0.2
    dropout: float = 0.3
    #: From this epoch on, stem and so many first blocks stay as they are: they are general, and half of the work.
    freeze_from: int = 5
    frozen_blocks: int = 5
    #: Whether the pooling knows places (`EvidenceNet.place`).
    place: bool = False

    @property
    def epochs(self) -> int:
        return sum(n for n, _ in self.stages)

    def size(self, epoch: int) -> int:
        for n, size in self.stages:
            if epoch < n:
                return size
            epoch -= n
        return self.stages[-1][1]

    @property
    def folder(self) -> Path:
        return RUNS / self.name


def run(config: Run, images: data.Images, *, train_more: bool = True) -> EvidenceNet:
    """Train, or go on where a killed run stopped; the averaged network at the end.

    `train_more` False: the averaged network as the last checkpoint has it, also of a run that is not finished.
    """
    torch.manual_seed(config.seed)
    net = EvidenceNet(
        len(labels.TARGETS),
        pretrained=not config.after,
        drop_connect=config.drop_connect,
        dropout=config.dropout,
        place=config.place,
    )
    if config.after:
        before = torch.load(RUNS / config.after / "checkpoint.pt", weights_only=True)["averaged"]
        lacking = net.load_state_dict(before, strict=False)
        if lacking.unexpected_keys or set(lacking.missing_keys) - {"place"}:
            raise ValueError(f"run {config.after!r} has another network: {lacking}")
    net = net.to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(net)
    backbone = list(net.backbone.parameters())
    known = {id(p) for p in backbone}
    head = [p for p in net.parameters() if id(p) not in known]
    groups = [{"params": backbone, "lr": config.rate}, {"params": head, "lr": config.head_rate}]
    optimiser = torch.optim.AdamW(groups, weight_decay=config.decay)
    train = images.rows("train")
    chosen = [_epoch_rows(config, images, train, epoch) for epoch in range(config.epochs)]
    total = sum(math.ceil(len(c) / config.batch) for c in chosen)
    shape = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step / total))
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "run.json").write_text(json.dumps(asdict(config), indent=1))
    checkpoint = config.folder / "checkpoint.pt"
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        shape.load_state_dict(state["shape"])
        start = state["epoch"]
    elif not train_more:
        raise SystemExit(f"run {config.name!r} has no checkpoint yet: python -m training.chest_xray train")
    if not train_more or start == config.epochs:
        return averaged.eval()
    priors = data.priors(images.table.iloc[train])
    prior = torch.stack([priors[f] for f in images.table["folder"]])
    weight = torch.from_numpy(data.cue_weights(images.table, images.working))
    y = torch.from_numpy(images.table[list(labels.TARGETS)].to_numpy(np.float32))
    for epoch in range(start, config.epochs):
        begun = time.time()
        g = torch.Generator().manual_seed(config.seed * 1000 + epoch)
        torch.manual_seed(config.seed * 1000 + epoch)
        losses = []
        net.train()
        if epoch >= config.freeze_from:
            net.freeze(config.frozen_blocks)
        for batch in _batches(chosen[epoch], config.batch):
            variant = torch.randint(images.working.shape[1], (len(batch),), generator=g).numpy()
            x = torch.from_numpy(images.working[batch, variant]).float()[:, None] / 255.0
            x = augment(x, config.size(epoch), g)
            rest = (y[batch], prior[batch], weight[batch])
            if float(torch.rand(1, generator=g)) < config.mix_share:
                x, rest = mix(x, rest, g, alpha=config.mix_alpha)
            loss = _loss(net, x, *rest)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            shape.step()
            _average(averaged, net, min(config.average, (1 + shape.last_epoch) / (10 + shape.last_epoch)))
            losses.append(float(loss))
        state = {
            "net": net.state_dict(), "averaged": averaged.state_dict(), "optimiser": optimiser.state_dict(),
            "shape": shape.state_dict(), "epoch": epoch + 1,
        }  # fmt: skip
        torch.save(state, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").replace(checkpoint)
        trained = time.time() - begun
        line = {"epoch": epoch + 1, "size": config.size(epoch), "loss": round(float(np.mean(losses)), 4)}
        line |= watch(averaged, images, config.size(epoch)) | {
            "seconds": round(trained),
            "all": round(time.time() - begun),
        }
        print(json.dumps(line), flush=True)
        with (config.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
    return averaged.eval()


def _epoch_rows(config: Run, images: data.Images, train: NDArray[np.intp], epoch: int) -> NDArray[np.intp]:
    rng = np.random.default_rng([config.seed, epoch])
    table = images.table.iloc[train]
    dull = ((table["No Finding"] == 1) & (table["folder"] == FOLDERS[1])).to_numpy()
    several = table.groupby("patient")["image"].transform("size").to_numpy() ** (config.per_patient - 1.0)
    keep = rng.random(len(train)) < np.where(dull, config.no_finding, 1.0) * several
    return rng.permutation(train[keep])


def _batches(rows: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _rate(part: float) -> float:
    """Warm-up over the first twentieth, then half a cosine down to a fiftieth."""
    if part < 0.05:
        return 0.05 + 0.95 * part / 0.05
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (part - 0.05) / 0.95)))


def _loss(net: EvidenceNet, x: Tensor, y: Tensor, prior: Tensor, weight: Tensor) -> Tensor:
    x = ((x - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = net(x)
    each = functional.binary_cross_entropy_with_logits(
        logits.float() + prior, y * 0.98 + 0.01 * (y > 0), reduction="none"
    )
    return (each.mean(dim=1) * weight).mean()


@torch.no_grad()
def _average(averaged: nn.Module, net: nn.Module, keep: float) -> None:
    for a, b in zip(averaged.state_dict().values(), net.state_dict().values(), strict=True):
        if a.is_floating_point():
            a.lerp_(b, 1.0 - keep)
        else:
            a.copy_(b)


@torch.no_grad()
def scores(
    net: EvidenceNet, images: data.Images, rows: NDArray[np.intp], size: int, *, mirror: bool
) -> NDArray[np.float32]:
    """Logits (images, F); with `mirror` the mean over an image and its mirror image."""
    net.eval()
    out = []
    for batch in _batches(rows, 64):
        x = torch.from_numpy(images.working[batch, 0]).float()[:, None] / 255.0
        x = functional.interpolate(x, size=(size, size), mode="bilinear") * 2 - 1
        with torch.autocast("cpu", torch.bfloat16):
            views = (x, x.flip(3)) if mirror else (x,)
            each = [net(v.contiguous(memory_format=torch.channels_last))[0].float() for v in views]
        out.append(torch.stack(each).mean(0))
    return torch.cat(out).numpy()


def watch(net: EvidenceNet, images: data.Images, size: int) -> dict[str, float]:
    """AUC of the watched labels on validation patients: chest_xray_128, and Pneumonia in chest_xray."""
    rows = images.rows("validation")
    table, z = images.table.iloc[rows], scores(net, images, rows, size, mirror=False)
    in_128 = (table["folder"] == "chest_xray_128").to_numpy()
    out = {}
    for name in WATCHED:
        k = labels.TARGETS.index(name)
        out[name] = round(float(roc_auc_score(table[name][in_128], z[in_128, k])), 3)
    out["mean"] = round(float(np.mean(list(out.values()))), 4)
    others = [n for n in labels.NIH if n not in WATCHED and table[n][in_128].sum() >= 10]
    each = [roc_auc_score(table[n][in_128], z[in_128, labels.TARGETS.index(n)]) for n in others]
    out["others"] = round(float(np.mean(each)), 4)
    k = labels.TARGETS.index("Opacity")
    out["Opacity_512"] = round(float(roc_auc_score(table["Pneumonia"][~in_128], z[~in_128, k])), 3)
    return out
