"""Findings in one frontal chest radiograph, by the installed model for the task "chest_xray"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from overread.domain import catalogue
from overread.domain.analysis import Finding
from overread.domain.evidence import EvidenceBar, Interval, ModelIdentity, OutputEvidence
from overread.domain.image import BoundingBox, ImageInstance
from overread.domain.modality import Modality
from overread.pipeline.detect import confidences, locate
from overread.pipeline.ports import Model
from overread.pipeline.preprocess import prepare
from overread.pipeline.triage import TriageTable

MODALITY = Modality.XRAY
BODY_PART = "CHEST"


@dataclass(frozen=True, kw_only=True)
class ChestReading:
    """What the model says of one image."""

    #: Shown findings, the most pressing first.
    findings: tuple[Finding, ...]
    #: Calibrated confidence of every output, 0..1, by finding type.
    scores: Mapping[str, float]


def read(
    instance: ImageInstance, model: Model, *, bar: EvidenceBar, table: TriageTable, new_id: Callable[[], UUID]
) -> ChestReading:
    """Run `model` on one image. A finding is shown from its `threshold_show` on.

    Raises what `Model.predict` raises.
    """
    prepared = prepare(instance.image.pixels, model.input)
    prediction = model.predict(prepared.tensor)
    scores = confidences(model.outputs, prediction)
    findings = []
    for number, output in enumerate(model.outputs):
        if scores[output.finding] >= output.threshold_show:
            box = None if prediction.maps is None else locate(prediction.maps[number], prepared.frame)
            findings.append(_finding(instance, model.identity, output, scores[output.finding], box, bar, table, new_id))
    findings.sort(key=lambda f: (-f.severity.rank, -f.confidence))
    return ChestReading(findings=tuple(findings), scores=scores)


def _finding(
    instance: ImageInstance,
    model: ModelIdentity,
    output: OutputEvidence,
    confidence: float,
    box: BoundingBox | None,
    bar: EvidenceBar,
    table: TriageTable,
    new_id: Callable[[], UUID],
) -> Finding:
    exploratory = not output.may_raise(bar)
    return Finding(
        id=new_id(),
        finding_type=output.finding,
        severity=table.severity(output.finding),
        confidence=confidence,
        sop_instance_uid=instance.header.sop_instance_uid,
        bounding_box=box,
        description=_describe(output, confidence, model, exploratory=exploratory),
        model=model,
        exploratory=exploratory,
        above_raise_threshold=confidence >= output.threshold_raise,
        sensitivity=output.sensitivity,
        specificity=output.specificity,
    )


def _describe(output: OutputEvidence, confidence: float, model: ModelIdentity, *, exploratory: bool) -> str:
    """One or two plain sentences; measured figures beside the claim."""
    name = catalogue.entry(output.finding).name if catalogue.is_known(output.finding) else output.finding
    figures = (
        f"measured on {output.patients} unseen patients: sensitivity {_figure(output.sensitivity)}, "
        f"specificity {_figure(output.specificity)}"
    )
    power = "Exploratory, changes no order; " if exploratory else "May raise urgency; "
    return f"{name}, confidence {min(confidence, 0.99):.2f} ({model}). {power}{figures}."


def _figure(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}–{interval.high:.2f}]"
