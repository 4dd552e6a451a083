"""Every finding that the product has a word for, with its code and default severity.

A finding is listed whether or not an installed model looks for it: what no model covers is reported as *not assessed*,
by name. Codes are SNOMED CT where we are sure of the concept, else our own scheme 99OVERREAD (PS3.16 section 8).
The severity is a default: `pipeline.triage` turns it into an urgency by a table that a tenant may edit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from overread.domain.modality import Modality
from overread.domain.priority import Level

#: A nodule is at most so long, mm; a longer one is a mass (Fleischner Society glossary, Radiology 2008;246:697).
MASS_MM = 30.0


@dataclass(frozen=True, kw_only=True)
class Code:
    """A coded concept: CodeValue (0008,0100), CodingSchemeDesignator (0008,0102), CodeMeaning (0008,0104)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """One finding type."""

    #: Stable key, the wire's `findingType`.
    key: str
    #: What a radiologist would write.
    name: str
    code: Code
    modality: Modality
    #: BodyPartExamined term that the finding belongs to.
    body_part: str
    severity: Level


def _sct(value: str, meaning: str) -> Code:
    return Code(value=value, scheme="SCT", meaning=meaning)


def _own(value: str, meaning: str) -> Code:
    return Code(value=value, scheme="99OVERREAD", meaning=meaning)


def _chest_xray(key: str, name: str, severity: Level, code: Code) -> CatalogueEntry:
    return CatalogueEntry(key=key, name=name, code=code, modality=Modality.XRAY, body_part="CHEST", severity=severity)


CHEST_XRAY: tuple[CatalogueEntry, ...] = (
    _chest_xray("pneumothorax", "Pneumothorax", Level.CRITICAL, _sct("36118008", "Pneumothorax")),
    _chest_xray("pleural_effusion", "Pleural effusion", Level.URGENT, _sct("60046008", "Pleural effusion")),
    _chest_xray("pneumonia", "Pneumonia / lung opacity", Level.URGENT, _sct("233604007", "Pneumonia")),
    _chest_xray("consolidation", "Consolidation", Level.URGENT, _sct("95436008", "Lung consolidation")),
    _chest_xray("pulmonary_edema", "Pulmonary edema", Level.URGENT, _sct("19242006", "Pulmonary edema")),
    _chest_xray("atelectasis", "Atelectasis", Level.ROUTINE, _sct("46621007", "Atelectasis")),
    _chest_xray("cardiomegaly", "Cardiomegaly", Level.ROUTINE, _sct("8186001", "Cardiomegaly")),
    _chest_xray("emphysema", "Emphysema", Level.ROUTINE, _sct("87433001", "Pulmonary emphysema")),
    _chest_xray("pulmonary_fibrosis", "Pulmonary fibrosis", Level.ROUTINE, _sct("51615001", "Fibrosis of lung")),
    _chest_xray("hiatal_hernia", "Hiatal hernia", Level.ROUTINE, _sct("84089009", "Hiatal hernia")),
    _chest_xray("lung_mass", "Lung mass", Level.URGENT, _sct("309529002", "Lung mass")),
    _chest_xray("lung_nodule", "Lung nodule", Level.ROUTINE, _sct("786838002", "Pulmonary nodule")),
    _chest_xray(
        "pleural_thickening", "Pleural thickening", Level.ROUTINE, _own("pleural_thickening", "Pleural thickening")
    ),
    _chest_xray(
        "tension_pneumothorax", "Tension pneumothorax", Level.CRITICAL, _own("tension_ptx", "Tension pneumothorax")
    ),
    _chest_xray(
        "pneumoperitoneum",
        "Free air under the diaphragm",
        Level.CRITICAL,
        _own("pneumoperitoneum", "Free air under the diaphragm"),
    ),
    _chest_xray("pneumomediastinum", "Pneumomediastinum", Level.URGENT, _sct("16838000", "Pneumomediastinum")),
    _chest_xray(
        "widened_mediastinum",
        "Widened mediastinum",
        Level.CRITICAL,
        _own("widened_mediastinum", "Widened mediastinum"),
    ),
    _chest_xray("rib_fracture", "Rib fracture", Level.URGENT, _sct("33737001", "Fracture of rib")),
    _chest_xray(
        "malpositioned_device",
        "Malpositioned tube or line",
        Level.CRITICAL,
        _own("malpositioned_device", "Malpositioned tube or line"),
    ),
    _chest_xray(
        "hilar_enlargement", "Hilar enlargement", Level.ROUTINE, _own("hilar_enlargement", "Hilar enlargement")
    ),
)


def _chest_ct(key: str, name: str, severity: Level, code: Code) -> CatalogueEntry:
    return CatalogueEntry(key=key, name=name, code=code, modality=Modality.CT, body_part="CHEST", severity=severity)


#: Finding types of chest radiographs that a CT shows as well, under the same key.
_ALSO_ON_CT = (
    "pneumothorax",
    "pleural_effusion",
    "consolidation",
    "emphysema",
    "lung_nodule",
    "lung_mass",
    "pulmonary_fibrosis",
    "atelectasis",
    "cardiomegaly",
    "rib_fracture",
    "pneumomediastinum",
)
CHEST_CT: tuple[CatalogueEntry, ...] = (
    *(replace(e, modality=Modality.CT) for key in _ALSO_ON_CT for e in CHEST_XRAY if e.key == key),
    _chest_ct("pulmonary_embolism", "Pulmonary embolism", Level.CRITICAL, _sct("59282003", "Pulmonary embolism")),
    _chest_ct("aortic_dissection", "Aortic dissection", Level.CRITICAL, _sct("308546005", "Dissection of aorta")),
    _chest_ct(
        "aortic_calcification", "Calcification of the aorta", Level.ROUTINE, _own("aortic_ca", "Calcified aorta")
    ),
    _chest_ct(
        "coronary_calcification",
        "Calcification of the coronary arteries",
        Level.ROUTINE,
        _own("coronary_ca", "Calcified coronary arteries"),
    ),
    _chest_ct("lymphadenopathy", "Enlarged lymph node", Level.ROUTINE, _own("lymphadenopathy", "Enlarged lymph node")),
)

ALL: tuple[CatalogueEntry, ...] = CHEST_XRAY + CHEST_CT

#: The same key stands for the same finding in each modality; its name and code are those of the first.
_BY_KEY = {entry.key: entry for entry in reversed(ALL)}


def entry(key: str) -> CatalogueEntry:
    """The entry of a finding type; KeyError for an unknown key."""
    return _BY_KEY[key]


def is_known(key: str) -> bool:
    """Whether the catalogue has this finding type."""
    return key in _BY_KEY


def findings_for(modality: Modality, body_part: str) -> tuple[CatalogueEntry, ...]:
    """All finding types of a modality and body part, in the order in which they are listed."""
    return tuple(e for e in ALL if e.modality is modality and e.body_part == body_part)
