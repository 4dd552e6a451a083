"""`card.toml`: what a model package says of itself. Read without loading weights; refused if it lacks anything.

What a card must say is the list in DESIGN.md, section 5. Figures are measured on patients that training never saw. A
card of `kind` "classes" tells what an image shows (task "radiograph_view") and finds nothing: its outputs need no
clinical code, no severity and no figures by age, sex and view.
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from dataclasses import dataclass
from typing import Any

from overread.domain import catalogue
from overread.domain.errors import InvalidPackage
from overread.domain.evidence import InputSpec, Interval, ModelIdentity, OutputEvidence
from overread.domain.priority import Level

#: Where in the card each required item stands, and how a refusal calls it.
REQUIRED: tuple[tuple[str, str], ...] = (
    ("name", "its name"),
    ("version", "its version"),
    ("task", "the task that it does"),
    ("modality", "the modality"),
    ("body_part", "the body part"),
    ("views", "the views that it takes"),
    ("licence", "its licence"),
    ("sha256", "the sha256 of model.onnx"),
    ("trained_on", "the date of training"),
    ("must_not_be_used_for", "what it must not be used for"),
    ("input.name", "the name of the input"),
    ("input.rows", "the rows of the input"),
    ("input.columns", "the columns of the input"),
    ("input.channels", "the channels of the input"),
    ("input.channel_order", "the order of the channels"),
    ("input.spacing", "which pixel spacing the input has"),
    ("input.pixel_rule", "which rule turns stored pixels into the input"),
    ("input.percentiles", "the window or percentiles of the input"),
    ("input.mean", "the mean of the input"),
    ("input.std", "the standard deviation of the input"),
    ("training.data", "the training data"),
    ("training.split", "how the data were split"),
    ("output", "its outputs"),
)
REQUIRED_OF_DATA = (("name", "a name"), ("terms", "terms of use"), ("patients", "the number of patients"),
                    ("images", "the number of images"))  # fmt: skip
REQUIRED_OF_SPLIT = (("by", "by what"), ("train", "the size of the training part"),
                     ("test", "the size of the test part"), ("sha256", "the sha256"))  # fmt: skip
REQUIRED_OF_OUTPUT: tuple[tuple[str, str], ...] = (
    ("finding", "the finding's key"),
    ("code", "a SNOMED CT or RadLex code"),
    ("severity", "the severity"),
    ("threshold_show", "the threshold from which it is shown"),
    ("threshold_raise", "the threshold from which it may raise urgency"),
    ("threshold_rule", "how the thresholds were chosen"),
    ("slope", "the slope of the calibration"),
    ("intercept", "the intercept of the calibration"),
    ("sensitivity", "the sensitivity"),
    ("specificity", "the specificity"),
    ("auc", "the AUC"),
    ("cues_auc", "the AUC that trivial cues reach"),
    ("patients", "the number of test patients"),
    ("images", "the number of test images"),
    ("positives", "the number of positive test images"),
    ("subgroup", "figures by subgroup"),
)
FINDINGS, CLASSES = "findings", "classes"
#: What the outputs of a card of kind "classes" need not have.
_NOT_OF_CLASSES = frozenset({"code", "severity", "subgroup"})
#: Each output must be measured in groups of each of these.
SUBGROUPS = ("age", "sex", "view")
_SEMANTIC = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """Figures of one output in one group of the test patients."""

    #: "age", "sex", "view", "folder".
    by: str
    #: For example "PA", "F", "40-59".
    group: str
    images: int
    positives: int
    #: None where there are too few images to say.
    auc: Interval | None = None
    sensitivity: Interval | None = None
    specificity: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Output:
    """One finding that the model looks for."""

    evidence: OutputEvidence
    #: CodeValue (0008,0100) and CodingSchemeDesignator (0008,0102); None for a class.
    code: tuple[str, str] | None
    #: None for a class.
    severity: Level | None
    threshold_rule: str
    subgroups: tuple[Subgroup, ...]


@dataclass(frozen=True, kw_only=True)
class Card:
    """A whole card."""

    identity: ModelIdentity
    task: str
    modality: str
    body_part: str
    views: tuple[str, ...]
    licence: str
    trained_on: dt.date
    must_not_be_used_for: tuple[str, ...]
    input: InputSpec
    outputs: tuple[Output, ...]
    #: Names of the ONNX outputs: logits (1, F), and maps (1, F, h, w) or "".
    logits_name: str
    maps_name: str
    statement: str
    #: The card as it stands in the file, for a page that shows all of it.
    raw: dict[str, Any]

    @property
    def sort_key(self) -> tuple[int, ...]:
        """Orders versions: greater is newer."""
        return tuple(int(part) for part in self.identity.version.split("."))


def parse(text: str) -> Card:
    """The card in `text`, TOML.

    Raises `InvalidPackage` with a sentence that names what is missing or wrong.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise InvalidPackage(f"card.toml is not TOML: {e}.") from e
    for path, what in REQUIRED:
        if _is_empty(_at(raw, path)):
            raise InvalidPackage(f"The model's card does not say {what} (`{path}`).")
    try:
        return _card(raw)
    except (TypeError, ValueError, KeyError, AttributeError) as e:
        raise InvalidPackage(f"The model's card cannot be read: {e}.") from e


def _card(raw: dict[str, Any]) -> Card:
    for name, pattern in (("name", _NAME), ("version", _SEMANTIC), ("sha256", _SHA256)):
        if not pattern.fullmatch(str(raw[name])):
            raise InvalidPackage(f"The model's card has no valid {name}: {raw[name]!r}.")
    for data in raw["training"]["data"]:
        _need(data, REQUIRED_OF_DATA, f"of the training data {data.get('name', '')!r}")
    _need(raw["training"]["split"], REQUIRED_OF_SPLIT, "of the split")
    names = raw.get("outputs", {})
    if not isinstance(raw["trained_on"], dt.date):
        raise InvalidPackage("The model's card has no valid date of training (`trained_on`, for example 2026-11-24).")
    kind = raw.get("kind", FINDINGS)
    if kind not in (FINDINGS, CLASSES):
        raise ValueError(f"kind is {kind!r}, neither {FINDINGS!r} nor {CLASSES!r}")
    outputs = tuple(_output(o, kind) for o in raw["output"])
    if len({o.evidence.finding for o in outputs}) != len(outputs):
        raise InvalidPackage("The model's card lists a finding twice.")
    return Card(
        identity=ModelIdentity(name=raw["name"], version=raw["version"], sha256=raw["sha256"]),
        task=str(raw["task"]),
        modality=str(raw["modality"]),
        body_part=str(raw["body_part"]),
        views=tuple(str(v) for v in raw["views"]),
        licence=str(raw["licence"]),
        trained_on=raw["trained_on"],
        must_not_be_used_for=tuple(str(v) for v in raw["must_not_be_used_for"]),
        input=_input(raw["input"]),
        outputs=outputs,
        logits_name=str(names.get("logits", "logits")),
        maps_name=str(names.get("maps", "")),
        statement=str(raw.get("statement", "")),
        raw=raw,
    )


def _input(raw: dict[str, Any]) -> InputSpec:
    fit = raw.get("fit", "pad")
    if fit not in ("pad", "stretch"):
        raise ValueError(f"input.fit is {fit!r}, neither 'pad' nor 'stretch'")
    rows, columns, channels = int(raw["rows"]), int(raw["columns"]), int(raw["channels"])
    mean, std = tuple(float(v) for v in raw["mean"]), tuple(float(v) for v in raw["std"])
    if not (0 < rows <= 4096 and 0 < columns <= 4096 and channels in (1, 3)):
        raise ValueError(f"input of {channels} x {rows} x {columns}: expected 1 or 3 channels, at most 4096 pixels")
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise ValueError("input.mean and input.std need one value a channel, std above 0")
    low, high = (float(v) for v in raw["percentiles"])
    if not 0 <= low < high <= 100:
        raise ValueError("input.percentiles must be two rising numbers within 0..100")
    extra = tuple(sorted((str(k), float(v)) for k, v in raw.get("extra", {}).items()))
    return InputSpec(
        name=str(raw["name"]), rows=rows, columns=columns, channels=channels, mean=mean, std=std,
        percentiles=(low, high), fit=fit, extra=extra,
    )  # fmt: skip


def _output(raw: dict[str, Any], kind: str) -> Output:
    finding = str(raw.get("finding", ""))
    needed = tuple(n for n in REQUIRED_OF_OUTPUT if kind == FINDINGS or n[0] not in _NOT_OF_CLASSES)
    _need(raw, needed, f"of the output {finding!r}")
    subgroups = tuple(_subgroup(s) for s in raw.get("subgroup", ()))
    if kind == FINDINGS:
        _check_finding(finding, raw["code"], subgroups)
    show, up = float(raw["threshold_show"]), float(raw["threshold_raise"])
    if not 0.0 < show <= up <= 1.0:
        raise ValueError(f"thresholds of {finding!r} must rise within 0..1, got {show} and {up}")
    slope = float(raw["slope"])
    if slope <= 0:
        raise ValueError(f"the calibration of {finding!r} must rise, got slope {slope}")
    evidence = OutputEvidence(
        finding=finding, threshold_show=show, threshold_raise=up, slope=slope, intercept=float(raw["intercept"]),
        sensitivity=_interval(raw["sensitivity"]), specificity=_interval(raw["specificity"]),
        auc=_interval(raw["auc"]), cues_auc=_interval(raw["cues_auc"]).value,
        patients=int(raw["patients"]), images=int(raw["images"]), positives=int(raw["positives"]),
    )  # fmt: skip
    return Output(
        evidence=evidence,
        code=(str(raw["code"]["value"]), str(raw["code"]["scheme"])) if "code" in raw else None,
        severity=Level(raw["severity"]) if "severity" in raw else None,
        threshold_rule=str(raw["threshold_rule"]),
        subgroups=subgroups,
    )


def _check_finding(finding: str, code: dict[str, Any], subgroups: tuple[Subgroup, ...]) -> None:
    if not catalogue.is_known(finding):
        raise InvalidPackage(f"The model's card names a finding that the catalogue does not have: {finding!r}.")
    if _is_empty(code.get("value")) or _is_empty(code.get("scheme")):
        raise InvalidPackage(f"The model's card does not say a SNOMED CT or RadLex code of the output {finding!r}.")
    for by in SUBGROUPS:
        if not any(s.by == by for s in subgroups):
            raise InvalidPackage(f"The model's card does not say figures by {by} of the output {finding!r}.")


def _subgroup(raw: dict[str, Any]) -> Subgroup:
    figures = {k: _interval(raw[k]) if k in raw else None for k in ("auc", "sensitivity", "specificity")}
    return Subgroup(
        by=str(raw["by"]), group=str(raw["group"]), images=int(raw["images"]), positives=int(raw["positives"]),
        **figures,
    )  # fmt: skip


def _interval(value: Any) -> Interval:
    """From [value, low, high]."""
    middle, low, high = (float(v) for v in value)
    return Interval(value=middle, low=low, high=high)


def _need(raw: dict[str, Any], items: tuple[tuple[str, str], ...], of: str) -> None:
    for key, what in items:
        if _is_empty(raw.get(key)):
            raise InvalidPackage(f"The model's card does not say {what} {of} (`{key}`).")


def _at(raw: dict[str, Any], path: str) -> Any:
    value: Any = raw
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)
