"""Images as the network sees them before augmentation: at working size, through the product's own preprocessing."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GroupKFold, cross_val_predict

from overread.domain.evidence import InputSpec
from overread.pipeline.preprocess import standardise
from training.chest_xray import labels, split
from training.chest_xray.paths import CACHE, CONFOUNDED, DATA, FOLDERS

WORKING = 128
#: JPEG qualities that the sharper folder is saved with, so that the compression does not give it away.
JPEG_QUALITIES = (60, 75, 88)


def input_spec(size: int) -> InputSpec:
    """How the shipped package prepares an image; `size` is rows and columns of the network's input."""
    return InputSpec(
        name="image",
        rows=size,
        columns=size,
        channels=1,
        mean=(0.5,),
        std=(0.5,),
        percentiles=(1.0, 99.0),
        fit="stretch",
        extra=(("crop_dark_borders", 1.0), ("working_columns", float(WORKING)), ("working_rows", float(WORKING))),
    )


@dataclass(frozen=True, kw_only=True)
class Images:
    """All images of both folders, with their table (see `labels.load`) and part."""

    table: pd.DataFrame
    #: uint8 (images, variants, 128, 128); variant 0 is what serving gives, the others are for training.
    working: NDArray[np.uint8]

    def rows(self, part: str) -> NDArray[np.intp]:
        return np.flatnonzero((self.table["part"] == part).to_numpy())


def read_grey(folder: str, image: str) -> NDArray[np.float32]:
    """float32 (rows, columns), 0..1."""
    with Image.open(DATA / folder / "images" / image) as file:
        return np.asarray(file.convert("L"), dtype=np.float32) / 255.0


def load() -> Images:
    """From the cache, or made and cached."""
    table = labels.load()
    table["part"] = table["patient"].map(split.load())
    cached = CACHE / "working.npy"
    if cached.exists():
        return Images(table=table, working=np.load(cached))
    working = np.stack([_variants(f, i) for f, i in zip(table["folder"], table["image"], strict=True)])
    CACHE.mkdir(parents=True, exist_ok=True)
    np.save(cached, working)
    return Images(table=table, working=working)


def _variants(folder: str, image: str) -> NDArray[np.uint8]:
    small, _ = standardise(read_grey(folder, image), input_spec(WORKING))
    plain = np.round(small * 255).astype(np.uint8)
    out = [plain]
    for quality in JPEG_QUALITIES:
        if folder != CONFOUNDED:
            out.append(plain)
            continue
        file = io.BytesIO()
        Image.fromarray(plain).save(file, "JPEG", quality=quality)
        out.append(np.asarray(Image.open(file)))
    return np.stack(out)


def priors(table: pd.DataFrame) -> dict[str, torch.Tensor]:
    """Log odds of each label in each folder.

    They are added to the logits in the loss only (logit adjustment, Menon et al. 2021), so the network gains nothing by
    knowing the folder: what it learns is how much the *image* speaks for a label.
    """
    out = {}
    for folder in FOLDERS:
        here = table[table["folder"] == folder]
        rate = (here[list(labels.TARGETS)].sum() + 1.0) / (len(here) + 2.0)
        out[folder] = torch.tensor(np.log(rate / (1 - rate)).to_numpy(), dtype=torch.float32)
    return out


def cue_weights(table: pd.DataFrame, working: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Weights (mean 1) that balance the confounded folder's classes over view, age, sex, follow-up and brightness.

    Overlap weights (Li, Morgan, Zaslavsky 2018): an image counts by the chance that its cues would have put it into the
    other class, so the cues no longer tell the label. All other images count 1.
    """
    weights = np.ones(len(table), dtype=np.float32)
    here = np.flatnonzero((table["folder"] == CONFOUNDED).to_numpy())
    part = table.iloc[here]
    pixels = working[here, 0].reshape(len(here), -1).astype(np.float32)
    cues = np.column_stack(
        [
            part["view"].eq("AP"), part["sex"].eq("M"), part["age"].fillna(45.0), part["follow_up"].astype(float),
            part["pixel_spacing_mm_at_512"].astype(float).fillna(0.8), pixels.mean(1), pixels.std(1),
            *np.percentile(pixels, [5, 25, 50, 75, 95], axis=1),
        ]
    )  # fmt: skip
    y = part["Pneumonia"].to_numpy()
    forest = RandomForestClassifier(300, min_samples_leaf=8, random_state=0, n_jobs=2)
    p = cross_val_predict(forest, cues, y, groups=part["patient"], cv=GroupKFold(5), method="predict_proba")[:, 1]
    w = np.clip(np.where(y == 1, 1.0 - p, p), 0.03, 1.0)
    for value in (0, 1):
        w[y == value] /= w[y == value].mean()
    weights[here] = np.clip(w, 0.1, 4.0)
    return weights
