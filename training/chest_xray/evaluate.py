"""Calibration, thresholds and choice of outputs on validation patients; figures on test patients.

The test part chooses nothing, but can take an output back (`contradicted`). Validation and test are mainly
`chest_xray_128`; `chest_xray` is reported beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from overread.domain.image import BoundingBox
from overread.pipeline.detect import locate
from training import stats
from training.chest_xray import cues, labels
from training.chest_xray.paths import CONFOUNDED
from training.chest_xray.score import Scored
from training.stats import Figure

MAIN = "chest_xray_128"
#: Thresholds are the lowest confidence at which this part of the validation images without the finding stays below.
SHOW_SPECIFICITY, RAISE_SPECIFICITY = 0.90, 0.95
#: A label becomes an output if, on validation patients, it has at least so many positive images, the lower end of its
#: AUC is above this, and the AUC is above what cues reach.
FEWEST_POSITIVES, LOWEST_AUC = 9, 0.50
BOX_IOU = 0.2
LEVELS = tuple(round(v, 2) for v in np.arange(0.2, 0.86, 0.05))
AGES = ((0, 39), (40, 59), (60, 150))
#: With fewer positive or negative images no figure of a subgroup is given.
FEWEST_OF_GROUP = 5


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """What a label was set to on validation patients."""

    slope: float
    intercept: float
    show: float
    up: float
    positives: int
    auc: Figure
    cues: cues.Cues
    is_output: bool
    why_not: str

    def confidence(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        return 1.0 / (1.0 + np.exp(-(self.slope * logits.astype(np.float64) + self.intercept)))


@dataclass(frozen=True, kw_only=True)
class Group:
    """Figures on one group of test images; sensitivity and specificity at the threshold to raise."""

    by: str
    group: str
    patients: int
    images: int
    positives: int
    auc: Figure | None
    sensitivity: Figure | None
    specificity: Figure | None
    sensitivity_show: Figure | None
    specificity_show: Figure | None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything about one label."""

    label: str
    point: OperatingPoint
    whole: Group
    groups: tuple[Group, ...]
    cues: cues.Cues
    calibration_error: float


def choose(scored: Scored, label: str) -> OperatingPoint:
    """On validation patients of `MAIN`."""
    keep = (scored.table["folder"] == MAIN).to_numpy()
    table, z = scored.table[keep], scored.logits[keep, labels.TARGETS.index(label)]
    y = table[label].to_numpy()
    platt = LogisticRegression(C=10.0).fit(z[:, None], y)
    slope, intercept = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    p = 1.0 / (1.0 + np.exp(-(slope * z.astype(np.float64) + intercept)))
    auc = stats.auc_figure(y, z.astype(np.float64), table["patient"].to_numpy())
    if auc is None:
        raise ValueError(f"no {label} among the validation images")
    found = cues.check(MAIN, table, label, z)
    why_not = _why_not(int(y.sum()), auc, found, slope)
    return OperatingPoint(
        slope=slope,
        intercept=intercept,
        show=_threshold(p[y == 0], SHOW_SPECIFICITY),
        up=_threshold(p[y == 0], RAISE_SPECIFICITY),
        positives=int(y.sum()),
        auc=auc,
        cues=found,
        is_output=not why_not,
        why_not=why_not,
    )


def _threshold(negative: NDArray[np.float64], specificity: float) -> float:
    """Rounded up to four digits, within 0.0001..0.9999."""
    value = float(np.quantile(negative, specificity, method="higher"))
    return float(np.clip(np.ceil(value * 1e4 + 1e-9) / 1e4, 1e-4, 0.9999))


def _why_not(positives: int, auc: Figure, found: cues.Cues, slope: float) -> str:
    if positives < FEWEST_POSITIVES:
        return f"only {positives} positive validation images"
    if auc.low <= LOWEST_AUC:
        return f"validation AUC {auc}: its lower end is not above {LOWEST_AUC}"
    if auc.value <= found.cues.value:
        return f"validation AUC {auc.value:.3f} is not above what cues reach, {found.cues.value:.3f}"
    return "" if slope > 0 else "its logit does not rise with the finding"


def measure(scored: Scored, label: str, point: OperatingPoint) -> Measured:
    """On test patients."""
    table = scored.table
    p = point.confidence(scored.logits[:, labels.TARGETS.index(label)])
    main = (table["folder"] == MAIN).to_numpy()
    age = table["age"]
    masks = [("folder", MAIN, main), ("folder", CONFOUNDED, ~main)]
    masks += [("view", v, main & (table["view"] == v).to_numpy()) for v in ("PA", "AP")]
    masks += [("sex", s, main & (table["sex"] == s).to_numpy()) for s in ("F", "M")]
    masks += [("age", f"{a}-{b}", main & ((age >= a) & (age <= b)).to_numpy()) for a, b in AGES]
    y = table[label].to_numpy()
    groups = tuple(_group(by, name, table[mask], y[mask], p[mask], point) for by, name, mask in masks)
    one = Measured(
        label=label,
        point=point,
        whole=groups[0],
        groups=groups[1:],
        cues=cues.check(MAIN, table[main], label, p[main]),
        calibration_error=stats.calibration_error(y[main], p[main]),
    )
    why_not = contradicted(one)
    return replace(one, point=replace(point, is_output=False, why_not=why_not)) if why_not else one


def contradicted(one: Measured) -> str:
    """Why an output that validation patients spoke for is taken back, or "". Its figures are reported all the same.

    This is the one use of the test part other than reporting, and it can only take an output away.
    """
    auc, known = one.whole.auc, one.cues.cues.value
    if not one.point.is_output:
        return ""
    if auc is None or auc.low <= LOWEST_AUC:
        return f"taken back: test AUC {auc}, its lower end is not above {LOWEST_AUC}"
    if auc.value <= known:
        return f"taken back: test AUC {auc.value:.3f} is not above what cues reach there, {known:.3f}"
    return ""


def _group(
    by: str, name: str, table: pd.DataFrame, y: NDArray[np.int_], p: NDArray[np.float64], point: OperatingPoint
) -> Group:
    patients = table["patient"].to_numpy()
    auc, at = None, (None, None, None, None)
    if min(y.sum(), (1 - y).sum()) >= FEWEST_OF_GROUP:
        auc = stats.auc_figure(y, p, patients)
        at = (
            stats.share(p >= point.up, y == 1, patients), stats.share(p < point.up, y == 0, patients),
            stats.share(p >= point.show, y == 1, patients), stats.share(p < point.show, y == 0, patients),
        )  # fmt: skip
    return Group(
        by=by, group=name, patients=len(np.unique(patients)), images=len(y), positives=int(y.sum()), auc=auc,
        sensitivity=at[0], specificity=at[1], sensitivity_show=at[2], specificity_show=at[3],
    )  # fmt: skip


def pneumonia_in_512(scored: Scored) -> cues.Cues:
    """The opacity output against the label Pneumonia of the confounded folder, also on cue-matched pairs."""
    here = (scored.table["folder"] == CONFOUNDED).to_numpy()
    z = scored.logits[here, labels.TARGETS.index("Opacity")]
    return cues.check(CONFOUNDED, scored.table[here], "Pneumonia", z)


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """How often a box meets a radiologist's."""

    level: float
    hit_rate: Figure | None
    images: int
    patients: int
    largest: float
    mean_iou: float


#: Which output shows where a radiologist's box says this.
BOXED = {"Pneumonia": "Opacity", "Infiltration": "Opacity", "Effusion": "Effusion", "Mass": "Mass",
         "Pneumothorax": "Pneumothorax"}  # fmt: skip


def boxes(scored: Scored, level: float) -> Boxes:
    """For each image with a radiologist's box of a finding: does ours reach an IoU of `BOX_IOU` with one of them?"""
    known = labels.boxes()
    by_image = dict(iter(known.assign(shown=known["finding"].map(BOXED)).groupby("image")))
    patient = dict(zip(scored.table["image"], scored.table["patient"], strict=True))
    best, whose, part = [], [], []
    for (_, image), (maps, frame) in scored.maps.items():
        for label, rows in by_image[image].groupby("shown"):
            box = locate(maps[labels.TARGETS.index(label)], frame, level=level)
            truth = [BoundingBox(x=round(r.x), y=round(r.y), width=round(r.width), height=round(r.height))
                     for r in rows.itertuples()]  # fmt: skip
            best.append(max(box.iou(t) for t in truth) if box else 0.0)
            part.append(box.area / (frame.image_rows * frame.image_columns) if box else 0.0)
            whose.append(patient[image])
    iou, patients = np.array(best), np.array(whose)
    rate = stats.share(iou >= BOX_IOU, np.ones(len(iou), dtype=bool), patients) if len(iou) else None
    return Boxes(
        level=level, hit_rate=rate, images=len(iou), patients=len(set(whose)),
        largest=max(part, default=0.0), mean_iou=float(iou.mean()) if len(iou) else 0.0,
    )  # fmt: skip


def joined(one: Scored, other: Scored) -> Scored:
    """Both together."""
    return Scored(
        table=pd.concat([one.table, other.table], ignore_index=True),
        logits=np.concatenate([one.logits, other.logits]),
        maps=one.maps | other.maps,
    )


def best_level(scored: Scored) -> float:
    """The level of `locate` with most hits, on training and validation patients (boxes are never trained on)."""
    tried = [(boxes(scored, level), level) for level in LEVELS]
    return max(tried, key=lambda t: (t[0].hit_rate.value if t[0].hit_rate else 0.0, t[0].mean_iou))[1]
