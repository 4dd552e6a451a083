"""Which patient is in which part: `python -m training.chest_xray.split` writes split.csv and its sha256, once.

One list of patients covers both folders, since patients occur in both. The rarest label first, each patient goes to
the part that lacks most images of it (iterative stratification, Sechidis 2011, greedy by patient). Patients with a
radiologist's box go mostly to the test part: boxes are never trained on, and few would be left to report on.

train: weights. validation: when to stop, calibration, thresholds, which findings are outputs. test: reported only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from training.chest_xray import labels
from training.chest_xray.paths import SPLIT, SPLIT_SHA256

PARTS = ("train", "validation", "test")
FRACTIONS = (0.67, 0.13, 0.20)
BOXED_FRACTIONS = (0.30, 0.10, 0.60)
SEED = 20261124
STRATA = {"chest_xray_128": (*labels.NIH, "No Finding"), "chest_xray": ("Pneumonia", "No Finding", "Edema", "Effusion")}


def assign(counts: pd.DataFrame, fractions: Mapping[str, tuple[float, ...]], seed: int) -> pd.Series:
    """Part of each patient. `counts`: images (rows: patients, columns: strata); the order of parts is `PARTS`."""
    rng = np.random.default_rng(seed)
    rarity = counts.sum().sort_values()
    wanted = {s: np.array(fractions.get(s, FRACTIONS)) * rarity[s] for s in counts.columns}
    part = pd.Series(index=counts.index, dtype=object)
    for stratum in rarity.index:
        waiting = counts.index[(counts[stratum] > 0) & part.isna()].to_numpy()
        for patient in rng.permutation(list(waiting)):
            lack = wanted[stratum]
            best = int(rng.choice(np.flatnonzero(lack == lack.max())))
            part[patient] = PARTS[best]
            for s in counts.columns:
                wanted[s][best] -= counts.at[patient, s]
    return part


def make() -> pd.DataFrame:
    """The split: patient, part."""
    table = labels.load()
    boxed = set(labels.boxes()["image"])
    strata = pd.DataFrame(index=table.index)
    for folder, names in STRATA.items():
        for name in names:
            strata[f"{folder} {name}"] = (table["folder"] == folder).astype(int) * table[name]
    strata["boxed"] = table["image"].isin(boxed).astype(int)
    counts = strata.groupby(table["patient"]).sum()
    part = assign(counts, {"boxed": BOXED_FRACTIONS}, SEED)
    return pd.DataFrame({"patient": part.index, "part": part.to_numpy()}).sort_values("patient")


def load() -> pd.Series:
    """Part by patient, as committed; ValueError if the file is not the one that was hashed before training."""
    digest = hashlib.sha256(SPLIT.read_bytes()).hexdigest()
    if digest != SPLIT_SHA256.read_text().split()[0]:
        raise ValueError(f"{SPLIT} is not the split that was committed before training (sha256 {digest})")
    return pd.read_csv(SPLIT).set_index("patient")["part"]


def main() -> None:
    if SPLIT.exists():
        raise SystemExit(f"{SPLIT} exists; it is made once, before the first training")
    made = make()
    SPLIT.write_text(made.to_csv(index=False, lineterminator="\n"))
    SPLIT_SHA256.write_text(f"{hashlib.sha256(SPLIT.read_bytes()).hexdigest()}  split.csv\n")
    table = labels.load()
    table["part"] = table["patient"].map(load())
    print(table.groupby(["folder", "part"])[list(labels.TARGETS)].sum().T)
    print(table.groupby(["folder", "part"]).agg(images=("image", "size"), patients=("patient", "nunique")))


if __name__ == "__main__":
    main()
