"""card.toml of the measured model, in the format of `overread.inference.card`, kind = "classes"."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.chest_xray.paths import SPLIT_SHA256
from training.radiograph_view.classes import CLASSES, FRONTAL, Item
from training.radiograph_view.evaluate import MUST_PASS, THRESHOLD_RANGE, Rate
from training.radiograph_view.network import INPUT
from training.radiograph_view.report import ClassFigures, Figures

NAME, VERSION = "radiograph_view", "1.0.0"

#: Sources, name, terms, and how many patients where that is not the number of groups.
DATA: tuple[tuple[tuple[str, ...], str, str, int | None], ...] = (
    (
        ("chest_xray", "chest_xray_128", "nih_real_lateral", "nih_turned_or_abdomen"),
        "NIH Clinical Center ChestX-ray14 (Wang 2017)",
        "use allowed with attribution to the NIH Clinical Center",
        None,
    ),
    (("fracture_xray",), "FracAtlas (Abedeen 2023)", "CC BY 4.0; patients unknown, counted by image", None),
    (("head_ct_slices",), "PhysioNet CT-ICH (Hssayeni 2020)", "CC BY 4.0", None),
    (("head_ct",), "Head CT haemorrhage (Kitamura)", "public research set; patients unknown, counted by image", None),
    (
        ("brain_mri",),
        "Brain tumour MRI (Kaggle; Cheng, SARTAJ, Br35H)",
        "figshare part CC BY 4.0; patients unknown, counted by image",
        None,
    ),
    (("breast_ultrasound",), "BUSI (Al-Dhabyani 2020)", "public research set; patients unknown, by image", None),
    (("fetal_ultrasound",), "HC18 (van den Heuvel 2018)", "CC BY 4.0", None),
    (
        (*(f"chest_ct_{plane}" for plane in ("axial", "coronal", "sagittal")),
         *(f"ct_projection_{kind}" for kind in ("frontal", "lateral", "oblique"))),
        "One series of COVID-CT-MD (Afshar 2021): sections in three planes, and Beer-Lambert projections",
        "public research set (Scientific Data)",
        1,
    ),
    (
        ("photographs", "faces"),
        "Images that scikit-image and scikit-learn ship",
        "each free to use; counted by picture",
        None,
    ),
    (("text_pages", "screens", "patterns", "ellipses"), "Drawn by training/radiograph_view/synthetic.py", "ours", 0),
)  # fmt: skip

MUST_NOT = (
    "saying which side is which: a mirrored radiograph passes as frontal",
    "replacing a header that says another body part or view",
    "children's, abdominal, spinal, dental or mammographic radiographs: few or none were in the data",
    "any clinical statement about a patient",
)

STATEMENT = (
    "Says what an image shows when its DICOM tags are missing or wrong: an upright frontal chest radiograph, a lateral "
    "one, another radiograph (also a chest turned by 90 or 180 degrees, inverted, oblique, a detail, or two films in "
    "one), or no radiograph. Below the threshold of chest_frontal nothing is analysed. Laterals were learned from "
    "projections of one CT; the only real ones it was judged on are 11 that were found among the NIH frontals. "
    "Chest views that it never learned (decubitus, lordotic, slight obliques) may pass as frontal. All real frontals "
    "are from one hospital. Before the final training a first network was looked at on the test part (see report.md)."
)


def write(folder: Path, figures: Figures, items: Sequence[Item], trained_on: dt.date) -> None:
    """card.toml beside model.onnx in `folder`."""
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    parts = {part: len({i.group for i in items if i.part == part}) for part in ("train", "test")}
    lines = [
        *_pairs(
            name=NAME,
            version=VERSION,
            kind="classes",
            task="radiograph_view",
            modality="X-ray",
            body_part="ANY",
            views=["ANY"],
            licence="Apache-2.0",
            sha256=digest,
            trained_on=trained_on,
            must_not_be_used_for=list(MUST_NOT),
            statement=STATEMENT,
        ),
        "",
        "[input]",
        *_pairs(
            name=INPUT.name,
            rows=INPUT.rows,
            columns=INPUT.columns,
            channels=INPUT.channels,
            channel_order="grey, bright = dense",
            spacing="any: the whole image is brought to 112 x 112",
            pixel_rule="display values (modality LUT, VOI LUT, MONOCHROME1 inverted), padded to a square, "
            "percentiles to 0..1 (overread.pipeline.preprocess)",
            percentiles=list(INPUT.percentiles),
            fit=INPUT.fit,
            mean=list(INPUT.mean),
            std=list(INPUT.std),
        ),
        "",
        "[outputs]",
        *_pairs(logits="logits"),
        "",
        "[training]",
        *_pairs(
            command="python -m training.radiograph_view",
            weights_before="EfficientNet-lite0, first 11 blocks, ImageNet (Apache-2.0)",
        ),
        "",
        "[training.split]",
        *_pairs(
            by="patient where known (NIH, CT-ICH, HC18), else image; NIH as training/chest_xray/split.csv",
            train=parts["train"],
            test=parts["test"],
            sha256=SPLIT_SHA256.read_text().split()[0],
        ),
    ]
    for sources, name, terms, patients in DATA:
        chosen = [i for i in items if i.source in sources]
        count = len({i.group for i in chosen}) if patients is None else patients
        lines += ["", "[[training.data]]"]
        lines += _pairs(name=name, terms=terms, folders=list(sources), patients=count, images=len(chosen))
    for label, name in enumerate(CLASSES):
        lines += _output(label, name, figures)
    (folder / "card.toml").write_text("\n".join(lines) + "\n")


def _output(label: int, name: str, figures: Figures) -> list[str]:
    c: ClassFigures = figures.classes[name]
    threshold = figures.threshold if label == FRONTAL else 0.5
    rule = (
        f"greatest value within {THRESHOLD_RANGE[0]} to {THRESHOLD_RANGE[1]} that {MUST_PASS:.1%} of the validation "
        "patients' frontal radiographs reach, as stored and degraded together"
        if label == FRONTAL
        else "the likeliest of the four classes at least"
    )
    lines = [
        "",
        "[[output]]",
        *_pairs(
            finding=name,
            code={"value": name, "scheme": "99OVERREAD"},
            threshold_show=threshold,
            threshold_raise=threshold,
            threshold_rule=rule,
            slope=1.0,
            intercept=0.0,
            sensitivity=_three(c.sensitivity),
            specificity=_three(c.specificity),
            auc=[round(v, 4) for v in c.auc],
            cues_auc=[round(v, 4) for v in c.cues_auc],
            patients=c.sensitivity.groups + c.specificity.groups,
            images=c.sensitivity.images + c.specificity.images,
            positives=c.positives,
        ),
    ]
    figure = "sensitivity" if label == FRONTAL else "specificity"
    for (by, group), r in figures.subgroups[name].items():
        lines += ["", "[[output.subgroup]]"]
        lines += _pairs(
            by=by, group=group, images=r.images, positives=r.images if label == FRONTAL else 0, **{figure: _three(r)}
        )
    return lines


def _three(r: Rate) -> list[float]:
    value = round(r.value, 4)
    return [value, min(value, round(r.low, 4)), max(value, round(r.high, 4))]


def _pairs(**values: Any) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        whole = ", ".join(_toml(v) for v in value)
        if len(whole) > 100:
            return "[\n" + "".join(f"  {_toml(v)},\n" for v in value) + "]"
        return f"[{whole}]"
    return json.dumps(value, ensure_ascii=False)
