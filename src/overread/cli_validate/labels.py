"""Which words of a data set mean which finding.

A finding has *words*. A word counts if it stands in the column of words (`findings` or `label`, split at "|"), or if it
is the name of a column of 0 and 1. The words come from, in this order: the user's mapping file; the model's card
(`label_words` of an output); the words of ChestX-ray14 for a chest radiograph; else the finding's own key, its name in
the catalogue and the label that the card says it was trained on.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from overread.domain import catalogue
from overread.domain.errors import InvalidRequest
from overread.domain.modality import Modality
from overread.inference.card import Card
from overread.pipeline.recognise import CHEST_XRAY_TASK

#: Words of NIH ChestX-ray14 (Wang et al. 2017) by finding. "Pneumonia / lung opacity" is any of three words, because
#: text-mined reports use them for the same shadow (training/chest_xray/labels.py); "Infiltrate" stands in its boxes.
NIH: Mapping[str, tuple[str, ...]] = {
    "pneumothorax": ("Pneumothorax",),
    "pleural_effusion": ("Effusion",),
    "pneumonia": ("Pneumonia", "Infiltration", "Infiltrate", "Consolidation"),
    "consolidation": ("Consolidation",),
    "pulmonary_edema": ("Edema",),
    "atelectasis": ("Atelectasis",),
    "cardiomegaly": ("Cardiomegaly",),
    "emphysema": ("Emphysema",),
    "pulmonary_fibrosis": ("Fibrosis",),
    "hiatal_hernia": ("Hernia",),
    "lung_mass": ("Mass",),
    "lung_nodule": ("Nodule",),
    "pleural_thickening": ("Pleural_Thickening",),
}
#: Columns of words, the first that is there.
WORD_COLUMNS = ("findings", "label")
SEPARATOR = "|"


@dataclass(frozen=True, kw_only=True)
class LabelMapping:
    """How labels.csv is read."""

    #: Finding key -> its words.
    words: Mapping[str, tuple[str, ...]]
    #: The column of words; None: the first of `WORD_COLUMNS`.
    column: str | None = None
    separator: str = SEPARATOR


def for_card(card: Card, file: Path | None) -> LabelMapping:
    """The mapping for a model's outputs. Raises `InvalidRequest` if `file` cannot be used."""
    keys = [output.evidence.finding for output in card.outputs]
    if file is not None:
        return _from_file(file, keys)
    raw = {str(output["finding"]): output for output in card.raw["output"]}
    return LabelMapping(words={key: _words(key, card.task, raw[key]) for key in keys})


def for_analyser(modality: Modality, file: Path | None) -> LabelMapping:
    """The mapping for an analyser, which may find whatever the catalogue has of its modality.

    Words are a finding's key, its name, and that of ChestX-ray14. Raises `InvalidRequest` if `file` cannot be used.
    """
    entries = {entry.key: entry for entry in catalogue.ALL if entry.modality is modality}
    if file is not None:
        return _from_file(file, list(entries))
    return LabelMapping(
        words={key: tuple(dict.fromkeys((key, e.name, *NIH.get(key, ())))) for key, e in entries.items()}
    )


def _words(key: str, task: str, raw: Mapping[str, object]) -> tuple[str, ...]:
    said = raw.get("label_words")
    if isinstance(said, list) and said:
        return tuple(str(word) for word in said)
    if task == CHEST_XRAY_TASK and key in NIH:
        return NIH[key]
    name = (catalogue.entry(key).name,) if catalogue.is_known(key) else ()
    trained_on = raw.get("trained_on_label")
    return tuple(dict.fromkeys((key, *name, *((str(trained_on),) if trained_on else ()))))


def _from_file(file: Path, keys: list[str]) -> LabelMapping:
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest(f"The mapping {file} cannot be read: {error}.") from error
    table = raw.get("findings")
    if not isinstance(table, dict) or not table:
        raise InvalidRequest(
            f"The mapping {file} has no table [findings].",
            remedy='It has lines such as pneumothorax = ["Pneumothorax"].',
        )
    words: dict[str, tuple[str, ...]] = {}
    for key, said in table.items():
        if key not in keys:
            raise InvalidRequest(
                f"The mapping {file} names {key!r}, which the model does not look for.",
                remedy=f"It looks for: {', '.join(keys)}.",
            )
        if not isinstance(said, list) or not said or not all(isinstance(word, str) and word for word in said):
            raise InvalidRequest(f"The mapping {file} must give {key!r} a list of words.")
        words[key] = tuple(said)
    column, separator = raw.get("column"), raw.get("separator", SEPARATOR)
    if not isinstance(separator, str) or not separator or not isinstance(column, str | None):
        raise InvalidRequest(f"`column` and `separator` in the mapping {file} must be text.")
    return LabelMapping(words=words, column=column, separator=separator)
