"""From a label of NIH to a finding of the catalogue."""

from __future__ import annotations

from overread.domain import catalogue
from training.chest_xray.labels import TARGETS

#: Label -> key of `overread.domain.catalogue`. Pneumonia and Infiltration are part of Opacity.
FINDING = {
    "Pneumothorax": "pneumothorax",
    "Effusion": "pleural_effusion",
    "Opacity": "pneumonia",
    "Consolidation": "consolidation",
    "Edema": "pulmonary_edema",
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Emphysema": "emphysema",
    "Fibrosis": "pulmonary_fibrosis",
    "Hernia": "hiatal_hernia",
    "Mass": "lung_mass",
    "Nodule": "lung_nodule",
    "Pleural_Thickening": "pleural_thickening",
}
#: What the issue set out to reach, AUC on unseen patients of chest_xray_128; then what frozen features and a quick
#: fine-tune reach.
AIMS = {
    "Pneumothorax": (0.80, 0.64, 0.72),
    "Effusion": (0.87, 0.75, 0.83),
    "Cardiomegaly": (0.87, 0.65, 0.82),
    "Edema": (0.90, 0.85, 0.88),
    "Emphysema": (0.83, 0.70, 0.81),
}

assert all(label in TARGETS for label in FINDING)
assert all(catalogue.is_known(key) for key in FINDING.values())
