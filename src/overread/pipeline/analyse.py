"""The whole pipeline, top to bottom: recognise -> quality -> detect -> triage -> measure -> compare -> triage again.

One image that fails does not stop the others: it becomes a problem with its code, and the rest of the study is read.
Radiographs are read image by image in here, series that make volumes in `pipeline.series`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from overread.domain import catalogue
from overread.domain.analysis import (
    AnalysisOutcome,
    Finding,
    InstanceProblem,
    NotAssessed,
    QualityAssessment,
    TriageDecision,
)
from overread.domain.errors import InferenceError, InvalidDicom, OverreadError
from overread.domain.evidence import EvidenceBar, ModelIdentity
from overread.domain.features import ALL_ON, QUALITY_OFF, Feature, Features, flagging_off
from overread.domain.image import ImageInstance
from overread.domain.modality import Modality, modality_of
from overread.domain.priority import Level
from overread.domain.series import SeriesToRead
from overread.pipeline import quality
from overread.pipeline.analysers import chest_xray
from overread.pipeline.analysers.contract import ReadingContext, VolumeAnalyser
from overread.pipeline.ports import Model, ModelShelf
from overread.pipeline.recognise import CHEST_XRAY_TASK, VIEW_TASK, Recognition, recognise
from overread.pipeline.series import SeriesResult, VolumeRead, read_all
from overread.pipeline.triage import TriageTable, decide

_NO_MODEL = "no model is installed for chest radiographs"
_NOT_LOOKED_FOR = "no installed model looks for it"
_MODEL_FAILED = "the model failed on the image"
_NO_FRONTAL = "the study has no frontal chest radiograph that could be read"


@dataclass(frozen=True, kw_only=True)
class ImageReading:
    """What became of one image, for whoever wants to know more than the findings."""

    sop_instance_uid: str
    view: str | None
    view_confidence: float | None
    #: Why it was not assessed, "" if it was.
    not_assessed: str
    #: Calibrated confidence of every output of the model, also below the threshold to show.
    scores: Mapping[str, float]


@dataclass
class _Study:
    """What is known so far; only `analyse` holds one."""

    findings: list[Finding] = field(default_factory=list)
    recognised: list[tuple[str, Recognition]] = field(default_factory=list)
    #: Whether a radiograph was read.
    read: bool = False
    qualities: list[quality.ImageQuality] = field(default_factory=list)
    problems: list[InstanceProblem] = field(default_factory=list)
    models: list[ModelIdentity] = field(default_factory=list)
    error: OverreadError | None = None
    #: Why there is no model for chest radiographs, if there is none.
    no_model: str = _NO_MODEL
    #: Of findings that may move nothing, and why: priority flagging is off for their modality.
    held: dict[UUID, str] = field(default_factory=dict)
    #: Whether something was not judged because quality assessment is off for it.
    quality_off: bool = False


def analyse(
    images: Sequence[ImageInstance],
    problems: Iterable[InstanceProblem],
    shelf: ModelShelf,
    *,
    bar: EvidenceBar,
    triage_table: TriageTable,
    new_id: Callable[[], UUID],
    features: Features = ALL_ON,
    no_model: str = "",
    series: Sequence[SeriesToRead] = (),
    analysers: Sequence[VolumeAnalyser] = (),
    on_triage: Callable[[TriageDecision], None] | None = None,
    on_image: Callable[[ImageReading], None] | None = None,
    on_volume: Callable[[VolumeRead], None] | None = None,
) -> AnalysisOutcome:
    """Read one study revision.

    `images` are read one by one, `series` as volumes by `analysers`. `problems` are instances that could not be
    decoded. `on_triage` hears of a critical first triage as soon as it is known, `on_image` of each image, `on_volume`
    of each volume that was read. `no_model` says why the shelf has none, where it is more than that. `features` says
    what runs, by the modality of each image; what is off is named among what was not assessed.

    Raises `InvalidDicom` (or the subclass of the first problem's code) if no image could be decoded, an
    `InferenceError` if the models failed on every image, and any transient error at once, so that the caller tries
    again.
    """
    study = _Study(problems=list(problems), no_model=no_model or _NO_MODEL)
    if not images and not series and study.problems:
        raise _nothing_readable(study.problems)
    view_model, chest_model = shelf.find(VIEW_TASK), shelf.find(CHEST_XRAY_TASK)

    first: TriageDecision | None = None
    for image in images:
        reading = _read(
            image, view_model, chest_model, study, bar=bar, table=triage_table, new_id=new_id, features=features
        )
        if on_image is not None:
            on_image(reading)
        if first is None:
            first = _first_critical(_raising(study), triage_table, bar, on_triage)
    context = ReadingContext(bar=bar, table=triage_table, new_id=new_id)
    volumes = read_all(series, analysers, context, on_volume, features=features)
    _add(study, volumes, features)
    if study.error is not None and not study.recognised and not volumes.assessed:
        raise study.error

    # No prior is compared yet: that will add findings before the second triage.
    not_assessed = (*_not_assessed(study, chest_model), *volumes.not_assessed)
    looked_for = [o.finding for o in chest_model.outputs] if chest_model is not None and study.read else []
    assessed = tuple(dict.fromkeys((*looked_for, *volumes.assessed)))
    triage = decide(
        _raising(study),
        table=triage_table,
        bar=bar,
        before=first,
        nothing_assessed=None if assessed else _why_nothing(not_assessed, measured=bool(volumes.measurements)),
    )
    if study.held and triage.urgency is Level.ROUTINE:
        triage = flagging_off(next(iter(study.held.values())))
    modality, body_part = _kind(images, study, volumes if series else None)
    return AnalysisOutcome(
        modality=modality,
        body_part=body_part,
        findings=tuple(study.findings),
        not_assessed=not_assessed,
        assessed=assessed,
        quality=_quality(study),
        triage=triage,
        models=tuple(study.models),
        measurements=tuple(volumes.measurements),
        problems=tuple(study.problems),
    )


def _read(
    image: ImageInstance,
    view_model: Model | None,
    chest_model: Model | None,
    study: _Study,
    *,
    bar: EvidenceBar,
    table: TriageTable,
    new_id: Callable[[], UUID],
    features: Features,
) -> ImageReading:
    """Recognise one image and look for findings in it. What fails becomes a problem of the study."""
    uid = image.header.sop_instance_uid
    try:
        tagged = modality_of(image.header.modality)
        off = features.why_off(Feature.ABNORMALITY_DETECTION, tagged)
        if not off:
            known = recognise(image, view_model)
            modality = known.modality or tagged
            off = features.why_off(Feature.ABNORMALITY_DETECTION, modality)
        if off:
            known = Recognition(modality=tagged, body_part=None, reason=off)
            study.recognised.append((uid, known))
            return _reading(uid, known, {})
        if features.on(Feature.QUALITY_ASSESSMENT, modality):
            chest = known.task == CHEST_XRAY_TASK
            study.qualities.append(quality.assess_image(image, known.modality, frontal_chest=chest))
        else:
            study.quality_off = True
        if known.view is not None and view_model is not None:
            _used(study, view_model)
        if known.task is not None and chest_model is None:
            known = _without(known, study.no_model)
        if known.task is None or chest_model is None:
            study.recognised.append((uid, known))
            return _reading(uid, known, {})
        found = chest_xray.read(image, chest_model, bar=bar, table=table, new_id=new_id)
    except InferenceError as error:
        if error.transient:
            raise
        study.problems.append(InstanceProblem(instance=uid, code=error.code, message=str(error)))
        study.error = error
        return ImageReading(sop_instance_uid=uid, view=None, view_confidence=None, not_assessed=str(error), scores={})
    _used(study, chest_model)
    study.recognised.append((uid, known))
    study.read = True
    _keep(study, found.findings, features.why_off(Feature.PRIORITY_FLAGGING, modality))
    return _reading(uid, known, found.scores)


def _keep(study: _Study, findings: Sequence[Finding], held: str) -> None:
    study.findings.extend(findings)
    if held:
        study.held.update((finding.id, held) for finding in findings)


def _raising(study: _Study) -> list[Finding]:
    """The findings that priority flagging is on for."""
    return [finding for finding in study.findings if finding.id not in study.held]


def _quality(study: _Study) -> QualityAssessment:
    """Of the study. Where nothing was looked at because it is switched off, it says so."""
    if not study.qualities and study.quality_off:
        return QualityAssessment(level=None, score=None, recommendations=QUALITY_OFF)
    return quality.combine(study.qualities)


def _add(study: _Study, volumes: SeriesResult, features: Features) -> None:
    """What the series gave, to what the images gave."""
    _keep(study, volumes.findings, features.why_off(Feature.PRIORITY_FLAGGING, Modality.CT))
    study.problems.extend(volumes.problems)
    study.qualities.extend(volumes.qualities)
    study.quality_off = study.quality_off or volumes.quality_off
    study.models.extend(identity for identity in volumes.models if identity not in study.models)
    study.error = study.error or volumes.error


def _used(study: _Study, model: Model) -> None:
    if model.identity not in study.models:
        study.models.append(model.identity)


def _without(known: Recognition, reason: str) -> Recognition:
    return Recognition(
        modality=known.modality,
        body_part=known.body_part,
        view=known.view,
        view_confidence=known.view_confidence,
        reason=reason,
        whole_study=True,
    )


def _reading(uid: str, known: Recognition, scores: Mapping[str, float]) -> ImageReading:
    return ImageReading(
        sop_instance_uid=uid,
        view=known.view,
        view_confidence=known.view_confidence,
        not_assessed=known.reason,
        scores=scores,
    )


def _first_critical(
    findings: Sequence[Finding],
    table: TriageTable,
    bar: EvidenceBar,
    on_triage: Callable[[TriageDecision], None] | None,
) -> TriageDecision | None:
    """The first triage, once it is critical: somebody is told before the rest of the study is read."""
    decision = decide(findings, table=table, bar=bar)
    if decision.urgency is not Level.CRITICAL:
        return None
    if on_triage is not None:
        on_triage(decision)
    return decision


def _not_assessed(study: _Study, chest_model: Model | None) -> tuple[NotAssessed, ...]:
    """Images and studies that were not read, and each finding type of chest radiographs that no model looked for."""
    items: list[NotAssessed] = []
    for reason in dict.fromkeys(k.reason for _, k in study.recognised if k.whole_study):
        items.append(NotAssessed(finding_type="", name="Study", reason=reason))
    items.extend(
        NotAssessed(finding_type="", name="Image", reason=known.reason, sop_instance_uid=uid)
        for uid, known in study.recognised
        if known.reason and not known.whole_study
    )
    if study.read and chest_model is not None:
        covered, reason = {o.finding for o in chest_model.outputs}, _NOT_LOOKED_FOR
    elif study.error is not None:
        covered, reason = set(), _MODEL_FAILED
    elif any(_is_chest(known) for _, known in study.recognised):
        covered, reason = set(), study.no_model if chest_model is None else _NO_FRONTAL
    else:
        return tuple(items)
    items.extend(
        NotAssessed(finding_type=entry.key, name=entry.name, reason=reason)
        for entry in catalogue.findings_for(chest_xray.MODALITY, chest_xray.BODY_PART)
        if entry.key not in covered
    )
    return tuple(items)


def _is_chest(known: Recognition) -> bool:
    return known.modality is chest_xray.MODALITY and (known.body_part or "").upper() == chest_xray.BODY_PART


def _why_nothing(not_assessed: Sequence[NotAssessed], *, measured: bool) -> str:
    if measured:
        return "measured only: nothing was looked for"
    return next((item.reason for item in not_assessed), "there is no image in the study")


def _kind(
    images: Sequence[ImageInstance], study: _Study, volumes: SeriesResult | None
) -> tuple[Modality | None, str | None]:
    """Modality and body part of the study: of the volumes or images that were read, else of most."""
    if volumes is not None and not study.read:
        return Modality.CT, volumes.body_part
    known = [k for _, k in study.recognised if k.task is not None] or [k for _, k in study.recognised]
    modalities = Counter(k.modality for k in known if k.modality is not None)
    parts = Counter(k.body_part for k in known if k.body_part)
    tagged = (m for i in images if (m := modality_of(i.header.modality)) is not None)
    return (
        modalities.most_common(1)[0][0] if modalities else next(tagged, None),
        parts.most_common(1)[0][0] if parts else None,
    )


def _nothing_readable(problems: Sequence[InstanceProblem]) -> InvalidDicom:
    """The error of a study without a single readable image, of the first problem's kind."""
    kinds: list[type[InvalidDicom]] = [InvalidDicom, *InvalidDicom.__subclasses__()]
    first = problems[0]
    if len(problems) == 1:
        message = f"The only image of the study could not be read: {first.message}"
    else:
        message = f"None of the {len(problems)} images of the study could be read. The first: {first.message}"
    return next((kind for kind in kinds if kind.code == first.code), InvalidDicom)(message)
