"""What an image shows, by its pixels and its tags, and whether an analyser applies to it.

Tags are often missing or wrong, so a radiograph is only read if its pixels show a frontal chest *and* no tag says
otherwise. Without tags the pixels decide; where both contradict each other, the image is not assessed and the reason
names both. MR and ultrasound are told by their Modality (0008,0060): no analyser reads them yet. CT series are not
asked in here: `pipeline.series` reads them as volumes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from overread.domain.image import ImageHeader, ImageInstance
from overread.domain.modality import Modality, modality_of
from overread.pipeline.detect import confidences
from overread.pipeline.ports import Model
from overread.pipeline.preprocess import prepare

#: Outputs of the model for the task "radiograph_view".
VIEW_TASK = "radiograph_view"
CHEST_FRONTAL = "chest_frontal"
CHEST_LATERAL = "chest_lateral"
OTHER_RADIOGRAPH = "other_radiograph"
NOT_RADIOGRAPH = "not_radiograph"

CHEST_XRAY_TASK = "chest_xray"
CHEST = "CHEST"

#: Modality (0008,0060) of a radiograph that may show a chest. OT and none say nothing: the pixels decide.
_RADIOGRAPHS = frozenset({"CR", "DX", "RG"})
_SILENT = frozenset({"", "OT", "SC"})
#: What BodyPartExamined (0018,0015) calls a chest, also in free text and other languages; and what makes it more.
_CHEST_WORDS = ("CHEST", "THORAX", "TORAX", "TORACE", "LUNG", "POUMON")
_MORE_THAN_CHEST = ("ABD", "PELV", "SPINE", "NECK")
#: Words of ViewPosition (0018,5101). Others (ERECT, PORTABLE, UNKNOWN) say nothing of the view.
_FRONTAL_WORDS = frozenset({"PA", "AP", "FRONTAL", "POSTEROANTERIOR", "ANTEROPOSTERIOR", "DV", "VD"})
_LATERAL_WORDS = frozenset({"LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "LATL", "LATR"})
_OTHER_WORDS = frozenset(
    {"LPO", "RPO", "LAO", "RAO", "LLO", "RLO", "OBL", "OBLIQUE", "LLD", "RLD", "DECUBITUS", "DECUB", "LORDOTIC"}
)
#: Fewer pixels than this on a side show too little.
_MIN_SIDE = 64

_LATERAL = "a lateral view, and only frontal chest radiographs are read"
_SINGLE_CT = "fewer than three CT slices, and CT is measured in a series of slices"
_WORDS = {Modality.MRI: "MRI", Modality.ULTRASOUND: "ultrasound", Modality.XRAY: "radiographs"}


class _Tagged(Enum):
    """What the tags say of the view."""

    FRONTAL = "frontal"
    LATERAL = "lateral"
    #: Oblique, decubitus, lordotic: a chest, but not as the models know it.
    OTHER = "other"
    SILENT = "silent"


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """What an image was taken for."""

    modality: Modality | None
    body_part: str | None
    #: Class of the view model, by pixels alone; None if it was not asked.
    view: str | None = None
    #: Probability of that class, 0..1.
    view_confidence: float | None = None
    #: Task of the analyser that applies ("chest_xray"); None if none does, and `reason` says why.
    task: str | None = None
    reason: str = ""
    #: The reason holds for the whole kind of study, not just for this image.
    whole_study: bool = False


def recognise(instance: ImageInstance, view_model: Model | None) -> Recognition:
    """Decide on one image. Without a view model only complete tags are believed.

    Raises what `Model.predict` raises.
    """
    header = instance.header
    refused = _by_header(header) or _by_look(instance)
    if refused is not None:
        return refused
    if view_model is None:
        return _by_tags_alone(header)
    chances = view_chances(instance, view_model)
    view = max(chances, key=lambda name: chances[name])
    return _judge(header, view, chances[view], _frontal_threshold(view_model), chances.get(CHEST_FRONTAL, 0.0))


def view_chances(instance: ImageInstance, model: Model) -> Mapping[str, float]:
    """Probability of each class of the view model, 0..1."""
    return confidences(model.outputs, model.predict(prepare(instance.image.pixels, model.input).tensor))


def _frontal_threshold(model: Model) -> float:
    """From which probability on an image counts as a frontal chest radiograph, as the card says."""
    return next((o.threshold_show for o in model.outputs if o.finding == CHEST_FRONTAL), 0.5)


def _by_header(header: ImageHeader) -> Recognition | None:
    """What the tags alone refuse."""
    tag = (header.modality or "").strip().upper()
    if tag in _RADIOGRAPHS or tag in _SILENT:
        return None
    modality = modality_of(tag)
    if modality is Modality.CT:
        return Recognition(modality=modality, body_part=header.body_part, reason=_SINGLE_CT, whole_study=True)
    if tag == "MG":
        words = "mammography"
    elif modality is not None:
        words = _WORDS[modality]
    else:
        words = f"modality {tag}"
    return Recognition(
        modality=modality,
        body_part=header.body_part,
        reason=f"no analyser is installed for {words} yet",
        whole_study=True,
    )


def _by_look(instance: ImageInstance) -> Recognition | None:
    """What is no single grey radiograph of a usable size."""
    header, image = instance.header, instance.image
    reason = ""
    if image.was_colour:
        reason = "a colour image, and a radiograph is grey"
    elif header.number_of_frames > 1:
        reason = f"{header.number_of_frames} frames, and only single radiographs are read"
    elif min(image.rows, image.columns) < _MIN_SIDE:
        reason = f"only {image.columns} x {image.rows} pixels, and at least {_MIN_SIDE} x {_MIN_SIDE} are needed"
    return _refuse(header, reason) if reason else None


def _by_tags_alone(header: ImageHeader) -> Recognition:
    if _is_chest(_part(header)) and _tagged_view(header) is _Tagged.FRONTAL and header.modality in _RADIOGRAPHS:
        return Recognition(modality=Modality.XRAY, body_part=CHEST, task=CHEST_XRAY_TASK)
    return _refuse(
        header,
        "its tags do not say that it is a frontal chest radiograph, and no model is installed that tells by the pixels",
    )


def _judge(header: ImageHeader, view: str, chance: float, threshold: float, frontal: float) -> Recognition:
    """Pixels and tags together. `chance` is that of `view`, `frontal` that of a frontal chest."""
    part, tagged = _part(header), _tagged_view(header)
    other_part = bool(part) and not _is_chest(part)
    if view == CHEST_FRONTAL and frontal >= threshold:
        if other_part:
            return _contradiction(header, view, chance, "show a frontal chest radiograph")
        if tagged not in (_Tagged.FRONTAL, _Tagged.SILENT):
            return _contradiction(header, view, chance, "show a frontal view")
        return Recognition(
            modality=Modality.XRAY, body_part=CHEST, view=view, view_confidence=chance, task=CHEST_XRAY_TASK
        )
    if view == CHEST_FRONTAL:
        reason = f"it is not certain enough that it shows a frontal chest radiograph ({frontal:.2f} of {threshold:.2f})"
    elif view == CHEST_LATERAL:
        if tagged is _Tagged.FRONTAL or other_part:
            return _contradiction(header, view, chance, "show a lateral chest radiograph")
        reason = _LATERAL
    elif other_part:
        reason = f"a radiograph of {part}, and no analyser is installed for it yet"
    elif view == NOT_RADIOGRAPH:
        if part or tagged is not _Tagged.SILENT or header.modality in _RADIOGRAPHS:
            return _contradiction(header, view, chance, "do not look like a radiograph")
        reason = "it does not look like a radiograph"
    elif tagged is _Tagged.LATERAL:
        reason = _LATERAL
    elif part or tagged is not _Tagged.SILENT:
        return _contradiction(
            header, view, chance, "do not show an upright frontal chest (turned, inverted, cut off, another part)"
        )
    else:
        reason = "a radiograph of another body part, or a chest that is turned, inverted or cropped"
    return _refuse(header, reason, view, chance)


def _contradiction(header: ImageHeader, view: str, chance: float, pixels: str) -> Recognition:
    return _refuse(header, f"its tags say {_tags_say(header)}, but its pixels {pixels}", view, chance)


def _refuse(header: ImageHeader, reason: str, view: str | None = None, chance: float | None = None) -> Recognition:
    modality = modality_of(header.modality)
    part = header.body_part
    if view in (CHEST_FRONTAL, CHEST_LATERAL):
        modality, part = modality or Modality.XRAY, part or CHEST
    elif view == OTHER_RADIOGRAPH:
        modality = modality or Modality.XRAY
    return Recognition(modality=modality, body_part=part, view=view, view_confidence=chance, reason=reason)


def _part(header: ImageHeader) -> str:
    return (header.body_part or "").strip().upper()


def _is_chest(part: str) -> bool:
    return any(word in part for word in _CHEST_WORDS) and not any(word in part for word in _MORE_THAN_CHEST)


def _tagged_view(header: ImageHeader) -> _Tagged:
    """What ViewPosition says, or, where that says nothing, SeriesDescription (0008,103E)."""
    for text in (header.view_position, header.series_description):
        words = set(re.findall(r"[A-Z]+", (text or "").upper()))
        said = [
            tagged
            for tagged, known in (
                (_Tagged.FRONTAL, _FRONTAL_WORDS),
                (_Tagged.LATERAL, _LATERAL_WORDS),
                (_Tagged.OTHER, _OTHER_WORDS),
            )
            if words & known
        ]
        if said:
            # "PA and LAT" is a pair of images and says nothing of this one.
            return said[0] if len(said) == 1 else _Tagged.SILENT
    return _Tagged.SILENT


def _tags_say(header: ImageHeader) -> str:
    said = [
        f"{name} {value}"
        for name, value in (
            ("modality", header.modality),
            ("body part", _part(header)),
            ("view", (header.view_position or "").strip().upper()),
            ("series", header.series_description if not header.view_position else None),
        )
        if value
    ]
    return ", ".join(said)
