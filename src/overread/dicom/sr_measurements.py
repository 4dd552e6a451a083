"""Measurements in our reports (TID 1419, PS3.16): name, UCUM unit, method, finding site; groups of those of organs.

A measurement of a finding stands in the finding's group. The others (a lung's volume, the share of emphysema) stand in
one group for each finding site: a volumetric region (TID 1411) where the SEG outlines the organ, else TID 1501.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from uuid import NAMESPACE_OID, uuid5

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentSequence,
    FindingSite,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    TextContentItem,
    TrackingIdentifier,
    UIDRefContentItem,
)
from highdicom.sr.value_types import ContentItem
from pydicom.sr.codedict import codes

from overread import __version__
from overread.dicom.seg_content import OWN_SCHEME, SEGMENTATION_STORAGE
from overread.dicom.sr_source import Source
from overread.domain.analysis import AnalysisOutcome, Measurement
from overread.domain.evidence import ModelIdentity
from overread.domain.ids import uid_from_uuid
from overread.services.values import SegReference

CONTAINS = RelationshipTypeValues.CONTAINS
HAS_CONCEPT_MOD = RelationshipTypeValues.HAS_CONCEPT_MOD

METHOD = CodedConcept("370129005", "SCT", "Measurement Method")
COMMENT = CodedConcept("121106", "DCM", "Comment")
REFERENCED_SEGMENT = CodedConcept("121191", "DCM", "Referenced Segment")
SOURCE_SERIES = CodedConcept("121232", "DCM", "Source series for segmentation")

#: UCUM codes and what they are called.
_UNITS = {
    "mm": "millimeter",
    "cm": "centimeter",
    "mm2": "square millimeter",
    "cm2": "square centimeter",
    "mm3": "cubic millimeter",
    "cm3": "cubic centimeter",
    "mL": "milliliter",
    "L": "liter",
    "%": "Percent",
    "1": "no units",
    "[hnsf'U]": "Hounsfield unit",
    "g": "gram",
    "mg": "milligram",
    "mg/mL": "milligram per milliliter",
    "{counts}": "counts",
}
_VOLUME = CodedConcept("118565006", "SCT", "Volume")
#: Measurement types without their side, and the concept.
_NAMES = {
    "nodule_longest_diameter": CodedConcept("103339001", "SCT", "Long axis"),
    "nodule_perpendicular_diameter": CodedConcept("103340004", "SCT", "Short axis"),
    "lung_volume": _VOLUME,
    "lung_density": CodedConcept("112181", "DCM", "Mean Attenuation Coefficient"),
    "laa_950": CodedConcept("laa_950", OWN_SCHEME, "Share of lung below -950 HU"),
    "haa": CodedConcept("haa", OWN_SCHEME, "Share of lung of high attenuation"),
    "perc_15": CodedConcept("perc_15", OWN_SCHEME, "15th percentile of lung attenuation"),
}
_LUNG = CodedConcept("39607008", "SCT", "Lung")
_PLEURA = CodedConcept("3120008", "SCT", "Pleura")
_RIGHT = CodedConcept("24028007", "SCT", "Right")
_LEFT = CodedConcept("7771000", "SCT", "Left")
_BOTH = CodedConcept("51440002", "SCT", "Right and left")
#: Words of `metadata["site"]` or of a measurement type, and the organ they speak of; the first that fits.
_ORGANS: tuple[tuple[frozenset[str], CodedConcept], ...] = (
    (frozenset({"pleura", "pleural", "pneumothorax", "effusion"}), _PLEURA),
    (frozenset({"lung", "lungs", "pulmonary", "emphysema", "consolidation", "laa", "laa950", "nodule"}), _LUNG),
)
_SIDES = {"right": _RIGHT, "left": _LEFT}
_SIDE = re.compile(r"_(right|left|total)(?=_|$)")
_ANYWHERE = ""


def number(measurement: Measurement) -> NumContentItem:
    """A measurement as TID 1419 has it, with its method."""
    item = NumContentItem(
        name=_name(measurement),
        value=round(measurement.value, 4),
        unit=CodedConcept(measurement.unit, "UCUM", _UNITS.get(measurement.unit, measurement.unit)),
        relationship_type=CONTAINS,
    )
    if measurement.method:
        item.ContentSequence = ContentSequence(
            [CodeContentItem(name=METHOD, value=_method(measurement.method), relationship_type=HAS_CONCEPT_MOD)]
        )
    return item


def _name(measurement: Measurement) -> CodedConcept:
    """The concept, without the side: the finding site says that. In our scheme where no standard one is known."""
    kind = _SIDE.sub("", measurement.measurement_type)
    if measurement.finding_id is not None and (kind == "volume" or kind.endswith("_volume")):
        return _VOLUME
    return _NAMES.get(kind) or CodedConcept(kind[:64], OWN_SCHEME, kind.replace("_", " ")[:64])


def _method(method: str) -> CodedConcept:
    """A method in our scheme: the text is its meaning; of a longer one the whole stands in a comment."""
    value = re.sub(r"[^a-z0-9]+", "_", method.lower()).strip("_")[:64] or "method"
    return CodedConcept(value, OWN_SCHEME, method[:64])


def site_words(measurements: Sequence[Measurement]) -> str:
    """Where measurements were taken: "lung right", "pleura", ...; "" if nothing says so."""
    for measurement in measurements:
        found = _site_of(measurement)
        if found:
            return found
    return _ANYWHERE


def _site_of(measurement: Measurement) -> str:
    """`metadata["site"]` ("lung_right", "pleura_left", "lungs"), else what the measurement's type speaks of."""
    text = str(measurement.metadata.get("site") or measurement.measurement_type)
    words = set(re.split(r"[^a-z0-9]+", text.lower()))
    organ = next((code.meaning for names, code in _ORGANS if names & words), "")
    sides = [side for side in _SIDES if side in words]
    return " ".join([organ.lower(), *sides]) if organ else _ANYWHERE


def finding_sites(site: str) -> list[CodeContentItem]:
    """The finding site (363698007, SCT) with its laterality, of what `site_words` said."""
    if not site:
        return []
    organ, *sides = site.split()
    code = next(code for _, code in _ORGANS if code.meaning.lower() == organ)
    return [FindingSite(anatomic_location=code, laterality=_SIDES[sides[0]] if len(sides) == 1 else _BOTH)]


def methods_in_full(measurements: Sequence[Measurement]) -> Iterator[ContentItem]:
    """Comments for methods that are longer than a CodeMeaning may be."""
    for method in dict.fromkeys(m.method for m in measurements if len(m.method) > 64):
        yield TextContentItem(name=COMMENT, value=f"Method: {method}", relationship_type=CONTAINS)


def referenced_segment(segmentation: SegReference, number: int) -> list[ContentItem]:
    """The segment (TID 1411 row 7) and the series that it was made of."""
    return [
        ImageContentItem(
            name=REFERENCED_SEGMENT,
            referenced_sop_class_uid=SEGMENTATION_STORAGE,
            referenced_sop_instance_uid=segmentation.sop_instance_uid,
            referenced_segment_numbers=number,
            relationship_type=CONTAINS,
        ),
        UIDRefContentItem(name=SOURCE_SERIES, value=segmentation.source_series_uid, relationship_type=CONTAINS),
    ]


def organ_groups(
    outcome: AnalysisOutcome, source: Source, segmentation: SegReference | None
) -> Iterator[ContainerContentItem]:
    """A group for each finding site, of the measurements that belong to no finding of the outcome."""
    findings = {finding.id for finding in outcome.findings}
    by_site: dict[str, list[Measurement]] = {}
    for measurement in outcome.measurements:
        if measurement.finding_id not in findings:
            by_site.setdefault(_site_of(measurement), []).append(measurement)
    for site, measurements in by_site.items():
        organ, *sides = site.split() or [""]
        key = "_".join([organ, *sides])
        segment = segmentation.organs.get(key) if segmentation else None
        yield _organ_group(site, measurements, outcome.models, source, segmentation if segment else None, segment)


def _organ_group(
    site: str,
    measurements: Sequence[Measurement],
    models: Sequence[ModelIdentity],
    source: Source,
    segmentation: SegReference | None,
    segment: int | None,
) -> ContainerContentItem:
    group = ContainerContentItem(
        name=codes.DCM.MeasurementGroup, relationship_type=CONTAINS, template_id="1411" if segment else "1501"
    )
    content = ContentSequence()
    # The same organ of the same study keeps its tracking UID over re-analyses.
    uid = uid_from_uuid(uuid5(NAMESPACE_OID, f"{source.header.StudyInstanceUID} {site}"))
    content.extend(TrackingIdentifier(uid=uid, identifier=f"Overread {site or 'measurements'}"))
    content.extend(finding_sites(site))
    if len(models) == 1:
        content.extend(algorithm(models[0]))
    if segmentation is not None and segment is not None:
        content.extend(referenced_segment(segmentation, segment))
    content.extend(number(measurement) for measurement in measurements)
    content.extend(methods_in_full(measurements))
    group.ContentSequence = content
    return group


def algorithm(model: ModelIdentity | None, method: str = "") -> AlgorithmIdentification:
    """TID 4019."""
    if model is None:
        return AlgorithmIdentification(name=method, version=__version__, manufacturer="Overread")
    return AlgorithmIdentification(
        name=model.name, version=model.version, parameters=[f"sha256:{model.sha256}"] if model.sha256 else None
    )
