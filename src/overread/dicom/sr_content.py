"""The content tree of our reports: TID 1500 Measurement Report (PS3.16), made of an analysis' outcome.

- *Image Library* (TID 1600): every image that was looked at.
- *Imaging Measurements*: one group for each finding: TID 1411 (a segment of our SEG) where it is outlined, TID 1410 (a
  closed rectangle in the image) where it has a box, else TID 1501; each with tracking identifier and UID, finding code,
  algorithm (name, version, sha256 of the model), certainty in percent (111012, DCM), its measurements, whether it is
  exploratory, and a sentence about it. Then one group for each organ that was measured: `sr_measurements`.
- *Qualitative Evaluations*: the conclusion where there is no finding, the urgency and why, what was assessed, what was
  not and why, and the disclaimer.

Concepts that no standard scheme has are coded in 99OVERREAD (PS3.16 section 8), which the document declares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from uuid import NAMESPACE_OID, UUID, uuid5

import numpy as np
from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    ScoordContentItem,
    TextContentItem,
    TrackingIdentifier,
)
from highdicom.sr.value_types import ContentItem
from pydicom.sr.codedict import codes

from overread.dicom.seg_content import OWN_SCHEME
from overread.dicom.sr_measurements import (
    COMMENT,
    algorithm,
    finding_sites,
    methods_in_full,
    number,
    organ_groups,
    referenced_segment,
    site_words,
)
from overread.dicom.sr_source import ImageReference, Source
from overread.domain import catalogue, texts
from overread.domain.analysis import AnalysisOutcome, Finding
from overread.domain.ids import uid_from_uuid
from overread.domain.modality import Modality
from overread.services.values import SegReference

CONTAINS = RelationshipTypeValues.CONTAINS
HAS_CONCEPT_MOD = RelationshipTypeValues.HAS_CONCEPT_MOD

QUALITATIVE_EVALUATIONS = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
CERTAINTY = CodedConcept("111012", "DCM", "Certainty of Finding")
CONCLUSION = CodedConcept("121077", "DCM", "Conclusion")
#: Entries of an image library need no name (TID 1601), but highdicom reads none without one.
SOURCE = CodedConcept("260753009", "SCT", "Source")
SOURCE_OF_MEASUREMENT = CodedConcept("121112", "DCM", "Source of Measurement")
FINDING = CodedConcept("121071", "DCM", "Finding")
ASSESSED = CodedConcept("assessed", OWN_SCHEME, "Finding type assessed")
NOT_ASSESSED = CodedConcept("not_assessed", OWN_SCHEME, "Not assessed")
URGENCY = CodedConcept("urgency", OWN_SCHEME, "Urgency and why")
DISCLAIMER = CodedConcept("disclaimer", OWN_SCHEME, "Disclaimer")
EVIDENCE = CodedConcept("evidence", OWN_SCHEME, "Evidence for the algorithm")
EXPLORATORY = CodedConcept("exploratory", OWN_SCHEME, "Exploratory: changes no order")
MEETS_BAR = CodedConcept("meets_bar", OWN_SCHEME, "Meets the bar for raising urgency")

#: One observer for all installations: which software, not which machine. Its version stands in the equipment module.
DEVICE_UID = uid_from_uuid(uuid5(NAMESPACE_OID, "overread:device"))

_PROCEDURES = {
    Modality.XRAY: CodedConcept("168537006", "SCT", "Plain radiography"),
    Modality.CT: CodedConcept("77477000", "SCT", "Computed tomography"),
    Modality.MRI: CodedConcept("113091000", "SCT", "Magnetic resonance imaging"),
    Modality.ULTRASOUND: CodedConcept("16310003", "SCT", "Ultrasonography"),
}
_CHEST_RADIOGRAPH = CodedConcept("399208008", "SCT", "Plain X-ray of chest")
_ANY_PROCEDURE = CodedConcept("363679005", "SCT", "Imaging procedure")


def report(
    outcome: AnalysisOutcome,
    source: Source,
    tracking_uids: Mapping[UUID, str],
    segmentation: SegReference | None = None,
) -> ContainerContentItem:
    """The document's root container. `tracking_uids` by finding id; a finding without one is given a derived one."""
    root = ContainerContentItem(name=codes.DCM.ImagingMeasurementReport, template_id="1500")
    content = ContentSequence()
    content.extend(LanguageOfContentItemAndDescendants(CodedConcept("en-US", "RFC5646", "English (United States)")))
    content.extend(_observed_by())
    content.append(_code(codes.DCM.ProcedureReported, _procedure(outcome), HAS_CONCEPT_MOD))
    content.append(_library(source.images))
    groups = [
        _group(n, f, outcome, source, tracking_uids, segmentation) for n, f in enumerate(outcome.findings, start=1)
    ]
    groups += organ_groups(outcome, source, segmentation)
    if groups:
        content.append(_container(codes.DCM.ImagingMeasurements, groups))
    content.append(_container(QUALITATIVE_EVALUATIONS, _evaluations(outcome, source)))
    root.ContentSequence = content
    return root


def _observed_by() -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=DEVICE_UID, name="Overread", manufacturer_name="Overread", model_name="Overread"
    )
    return ObservationContext(
        observer_device_context=ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    )


def _procedure(outcome: AnalysisOutcome) -> CodedConcept:
    if outcome.modality is Modality.XRAY and outcome.body_part == "CHEST":
        return _CHEST_RADIOGRAPH
    return _PROCEDURES.get(outcome.modality, _ANY_PROCEDURE) if outcome.modality else _ANY_PROCEDURE


def _library(images: Iterable[ImageReference]) -> ContainerContentItem:
    entries = [_image(SOURCE, image) for image in images]
    group = _container(codes.DCM.ImageLibraryGroup, entries)
    return _container(codes.DCM.ImageLibrary, [group])


def _group(
    place: int,
    finding: Finding,
    outcome: AnalysisOutcome,
    source: Source,
    tracking_uids: Mapping[UUID, str],
    segmentation: SegReference | None,
) -> ContainerContentItem:
    """TID 1411 with a segment, TID 1410 with a region, or TID 1501 without either."""
    image = source.image(finding.sop_instance_uid)
    box = finding.bounding_box if image is not None else None
    segment = segmentation.findings.get(finding.id) if segmentation else None
    measurements = [m for m in outcome.measurements if m.finding_id == finding.id]
    group = ContainerContentItem(
        name=codes.DCM.MeasurementGroup,
        relationship_type=CONTAINS,
        template_id="1411" if segment else "1410" if box else "1501",
    )
    content = ContentSequence()
    content.extend(
        TrackingIdentifier(
            uid=tracking_uids.get(finding.id) or uid_from_uuid(finding.id), identifier=f"Overread finding {place}"
        )
    )
    content.append(_code(FINDING, concept(finding.finding_type)))
    content.extend(finding_sites(site_words(measurements)))
    content.extend(algorithm(finding.model, finding.method))
    if segmentation is not None and segment is not None:
        content.extend(referenced_segment(segmentation, segment))
    elif image is not None and box is not None:
        content.append(_region(finding, image))
    elif image is not None:
        content.append(_image(SOURCE_OF_MEASUREMENT, image))
    content.append(_percent(CERTAINTY, finding.confidence))
    content.extend(number(measurement) for measurement in measurements)
    content.extend(methods_in_full(measurements))
    content.append(_code(EVIDENCE, EXPLORATORY if finding.exploratory else MEETS_BAR))
    if finding.description:
        content.append(_text(COMMENT, finding.description))
    group.ContentSequence = content
    return group


def _region(finding: Finding, image: ImageReference) -> ScoordContentItem:
    """The box as a closed polyline of (column, row) corners; (0, 0) is the outer corner of the first pixel."""
    box = finding.bounding_box
    assert box is not None  # noqa: S101
    left, top, right, bottom = float(box.x), float(box.y), float(box.x + box.width), float(box.y + box.height)
    if image.columns and image.rows:
        left, right = min(left, image.columns), min(right, image.columns)
        top, bottom = min(top, image.rows), min(bottom, image.rows)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    region = ScoordContentItem(
        name=codes.DCM.ImageRegion,
        graphic_type="POLYLINE",
        graphic_data=np.asarray(corners, dtype=np.float32),
        relationship_type=CONTAINS,
    )
    region.ContentSequence = ContentSequence([_image(SOURCE, image, RelationshipTypeValues.SELECTED_FROM)])
    return region


def _evaluations(outcome: AnalysisOutcome, source: Source) -> Iterator[ContentItem]:
    if not outcome.findings:
        yield _text(CONCLUSION, texts.NO_FINDING if outcome.assessed else "Not assessed: no image was read.")
    yield _text(URGENCY, outcome.triage.reason)
    for key in outcome.assessed:
        yield _code(ASSESSED, concept(key))
    for item in outcome.not_assessed:
        yield _text(NOT_ASSESSED, f"{item.name}: {item.reason}")
    for problem in outcome.problems:
        yield _text(NOT_ASSESSED, f"{problem.instance}: {problem.message}")
    if source.patient_conflict:
        yield _text(COMMENT, "The images name more than one patient: patient attributes were left empty.")
    yield _text(DISCLAIMER, texts.DISCLAIMER)


def concept(finding_type: str) -> CodedConcept:
    """The code of a finding type; a hospital's own type that the catalogue lacks is coded in our scheme."""
    if catalogue.is_known(finding_type):
        code = catalogue.entry(finding_type).code
        return CodedConcept(code.value, code.scheme, code.meaning[:64])
    return CodedConcept(finding_type, OWN_SCHEME, finding_type.replace("_", " ")[:64])


def _container(name: CodedConcept, items: Iterable[ContentItem]) -> ContainerContentItem:
    container = ContainerContentItem(name=name, relationship_type=CONTAINS)
    container.ContentSequence = ContentSequence(list(items))
    return container


def _code(name: CodedConcept, value: CodedConcept, relation: RelationshipTypeValues = CONTAINS) -> CodeContentItem:
    return CodeContentItem(name=name, value=value, relationship_type=relation)


def _text(name: CodedConcept, text: str) -> TextContentItem:
    return TextContentItem(name=name, value=text or "-", relationship_type=CONTAINS)


def _percent(name: CodedConcept, fraction: float) -> NumContentItem:
    return NumContentItem(
        name=name, value=round(100.0 * fraction, 1), unit=codes.UCUM.Percent, relationship_type=CONTAINS
    )


def _image(name: CodedConcept, image: ImageReference, relation: RelationshipTypeValues = CONTAINS) -> ImageContentItem:
    return ImageContentItem(
        name=name,
        referenced_sop_class_uid=image.sop_class_uid,
        referenced_sop_instance_uid=image.sop_instance_uid,
        relationship_type=relation,
    )
