"""The labels of both NIH folders in one table.

Source: Wang et al. 2017, ChestX-ray8, CVPR (labels text-mined from reports, so some are wrong).
"""

from __future__ import annotations

import pandas as pd

from training.chest_xray.paths import DATA, FOLDERS

NIH = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
    "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
#: "Pneumonia / lung opacity": text-mined reports use these words for the same shadow.
OPACITY_OF = ("Pneumonia", "Infiltration", "Consolidation")
#: What the network is trained on, in the order of its outputs.
TARGETS = (*NIH, "Opacity", "No Finding")


def load() -> pd.DataFrame:
    """One row an image: folder, image, patient (int), age, sex, view and a 0/1 column for each of `TARGETS`."""
    parts = []
    for folder in FOLDERS:
        table = pd.read_csv(DATA / folder / "labels.csv", dtype=str)
        table["folder"] = folder
        parts.append(table)
    table = pd.concat(parts, ignore_index=True)
    table["patient"] = table["patient"].astype(int)
    table["age"] = pd.to_numeric(table["age"], errors="coerce")
    found = table["findings"].fillna("").str.split("|")
    for name in (*NIH, "No Finding"):
        table[name] = found.apply(lambda names, name=name: name in names).astype(int)
    table["Opacity"] = table[list(OPACITY_OF)].max(axis=1)
    return table


def boxes() -> pd.DataFrame:
    """Radiologists' boxes of `chest_xray`: image, finding, x, y, width, height in the 512 x 512 frame."""
    table = pd.read_csv(DATA / "chest_xray" / "boxes.csv")
    table["finding"] = table["finding"].replace({"Infiltrate": "Infiltration"})
    return table
