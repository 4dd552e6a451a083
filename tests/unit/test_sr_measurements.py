"""Measurements in our structured reports: groups of organs, units, sites, methods, segments, and who writes it."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from uuid import UUID

import pytest
from highdicom.sr import srread
from pydicom import Dataset, dcmread
from tests.app_on_fakes import ALPHA, World, make_world
from tests.segmented import NODULE_ID, WHEN, boxes, lung, nodule, outcome, series

from overread.dicom.sr import HighdicomSrWriter
from overread.dicom.sr_measurements import number
from overread.domain.analysis import AnalysisOutcome, Measurement
from overread.domain.errors import OverreadError
from overread.domain.study import Sender
from overread.render.outlines import outlines
from overread.services.segmentation import seg_series_uid, seg_uid
from overread.services.structured_report import StructuredReportService
from overread.services.values import SegReference, SrRequest

REFERENCE = SegReference(
    sop_instance_uid="2.25.10",
    series_instance_uid="2.25.11",
    source_series_uid="1.2.3",
    findings={NODULE_ID: 2},
    organs={"lung_right": 1},
)
STORED, FILES = series()
UID = STORED.sop_instance_uids[4]
FILE = next(data for _, data in FILES if dcmread(BytesIO(data)).SOPInstanceUID == UID)


def write(what: AnalysisOutcome, segmentation: SegReference | None = REFERENCE) -> bytes:
    return HighdicomSrWriter().write(
        SrRequest(
            analysis_id=UUID(int=9),
            outcome=what,
            evidence=[FILE],
            sop_instance_uid="2.25.100",
            series_instance_uid="2.25.101",
            completed_at=WHEN,
            tracking_uids={NODULE_ID: "2.25.99"},
            segmentation=segmentation,
        )
    )


def groups(data: bytes) -> list[Dataset]:
    """Items of the Imaging Measurements container."""
    ds = dcmread(BytesIO(data))
    (container,) = [i for i in ds.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"]
    return list(container.ContentSequence)


def values(group: Dataset) -> dict[str, tuple[float, str]]:
    """Numbers of a group by their name: (value, unit)."""
    return {
        i.ConceptNameCodeSequence[0].CodeMeaning: (
            float(i.MeasuredValueSequence[0].NumericValue),
            i.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for i in group.ContentSequence
        if i.ValueType == "NUM"
    }


def text_of(group: Dataset, code: str) -> list[str]:
    """Values of a group's texts and codes with this concept name."""
    return [
        i.TextValue if i.ValueType == "TEXT" else i.ConceptCodeSequence[0].CodeMeaning
        for i in group.ContentSequence
        if i.ConceptNameCodeSequence[0].CodeValue == code
    ]


def test_every_measurement_of_the_analysis_stands_in_the_report():
    lesion, right, both = groups(write(outcome(UID)))
    assert values(lesion) == {"Certainty of Finding": (80.0, "%"), "Long axis": (8.25, "mm")}
    assert values(right) == {"Volume": (2890.125, "mL"), "Share of lung below -950 HU": (1.5, "%")}
    assert values(both) == {"Volume": (5500.5, "mL")}
    assert text_of(right, "112039") == ["Overread lung right"]


def test_a_measurement_of_a_finding_that_is_not_there_is_not_lost():
    alone = replace(outcome(UID), findings=())
    assert sum(len(values(group)) for group in groups(write(alone))) == 4


def test_groups_say_where_and_how():
    lesion, right, both = groups(write(outcome(UID)))
    for group, side in ((lesion, "Right"), (right, "Right"), (both, "Right and left")):
        (site,) = [i for i in group.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "363698007"]
        assert site.ConceptCodeSequence[0].CodeMeaning == "Lung"
        assert site.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning == side
    (volume, _) = [i for i in right.ContentSequence if i.ValueType == "NUM"]
    (method,) = [i for i in volume.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "370129005"]
    assert method.ConceptCodeSequence[0].CodeMeaning == "voxel count"
    assert text_of(right, "111001") == ["chest_ct"], "the algorithm's name"


def test_a_segment_is_referred_to_where_there_is_one():
    report = srread(BytesIO(write(outcome(UID)))).content
    volumetric = report.get_volumetric_roi_measurement_groups()
    assert volumetric[0].tracking_uid == "2.25.99"
    referred = [g.referenced_segment for g in volumetric]
    assert [(r.referenced_sop_instance_uid, list(r.referenced_segment_numbers)) for r in referred] == [
        ("2.25.10", [2]),
        ("2.25.10", [1]),
    ]
    assert report.get_planar_roi_measurement_groups() == []
    assert len(report.get_image_measurement_groups()) == 1, "both lungs together are no segment"
    listed = dcmread(BytesIO(write(outcome(UID)))).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert {i.ReferencedSOPInstanceUID for s in listed for i in s.ReferencedSOPSequence} == {UID, "2.25.10"}


def test_without_a_seg_the_box_says_where():
    report = srread(BytesIO(write(outcome(UID), None))).content
    assert report.get_volumetric_roi_measurement_groups() == []
    (lesion,) = report.get_planar_roi_measurement_groups()
    assert len(lesion.get_measurements()) == 2
    assert len(report.get_image_measurement_groups()) == 2


def test_organs_keep_their_tracking_uid_over_readings():
    again = replace(
        outcome(UID),
        measurements=tuple(replace(m, id=UUID(int=900 + n)) for n, m in enumerate(outcome(UID).measurements)),
    )
    uids = [[i.UID for g in groups(write(w)) for i in g.ContentSequence if "UID" in i and i.ValueType == "UIDREF"
             and i.ConceptNameCodeSequence[0].CodeValue == "112040"] for w in (outcome(UID), again)]  # fmt: skip
    assert uids[0] == uids[1]
    assert len(set(uids[0])) == 3


def test_a_long_method_stands_in_full_in_a_comment():
    method = "share of voxels below -950 HU of the lung without airways, after a median filter of 3 x 3 x 3 voxels"
    long = replace(outcome(UID), findings=(), measurements=(replace(outcome(UID).measurements[2], method=method),))
    (group,) = groups(write(long))
    assert text_of(group, "121106") == [f"Method: {method}"]


@pytest.mark.parametrize(
    ("kind", "unit", "name", "scheme", "unit_name"),
    [
        ("nodule_longest_diameter", "mm", "Long axis", "SCT", "millimeter"),
        ("nodule_perpendicular_diameter", "mm", "Short axis", "SCT", "millimeter"),
        ("lung_density_left", "[hnsf'U]", "Mean Attenuation Coefficient", "DCM", "Hounsfield unit"),
        ("emphysema_volume_left", "mL", "emphysema volume", "99OVERREAD", "milliliter"),
        ("something_new", "{widgets}", "something new", "99OVERREAD", "{widgets}"),
    ],
)
def test_names_and_units_are_coded(kind: str, unit: str, name: str, scheme: str, unit_name: str):
    item = number(Measurement(id=UUID(int=1), measurement_type=kind, value=1.23456, unit=unit, method=""))
    concept = item.ConceptNameCodeSequence[0]
    assert (concept.CodeMeaning, concept.CodingSchemeDesignator) == (name, scheme)
    measured = item.MeasuredValueSequence[0]
    assert (float(measured.NumericValue), measured.MeasurementUnitsCodeSequence[0].CodeMeaning) == (1.2346, unit_name)
    assert "ContentSequence" not in item


def completed(world: World, segment_count: int) -> UUID:
    """A CT in the store, analysed and outlined."""
    for name, data in FILES:
        filed = world.services.receive.receive(ALPHA, data, Sender(channel="dicom", name="CT", address="1"), name=name)
    analysis = world.services.requests.create(
        ALPHA, study=str(filed.study_id), modality=None, priority=None, requested_by="x"
    ).analysis_id
    world.complete(analysis, outcome(UID))
    one, other = boxes(STORED)
    with world.db.unit(ALPHA) as unit:
        unit.outlines.save(analysis, outlines([lung(STORED, one), nodule(STORED, other)], STORED))
        if segment_count:
            unit.analyses.attach_seg(analysis, "seg/x.dcm", segment_count)
    return analysis


@pytest.mark.parametrize("segment_count", [0, 1, 2])
def test_the_service_refers_to_what_is_in_the_seg_of_the_analysis(segment_count: int):
    world = make_world()
    analysis = completed(world, segment_count)
    StructuredReportService(
        database=world.db, objects=world.objects, writer=HighdicomSrWriter(), clock=world.clock
    ).run(ALPHA, analysis)
    with world.db.unit(ALPHA) as unit:
        row = unit.analyses.get(analysis)
    assert row is not None
    assert row.sr_object_key is not None
    data = world.objects.get(ALPHA, row.sr_object_key)
    report = srread(BytesIO(data)).content
    found = report.get_volumetric_roi_measurement_groups()
    assert len(found) == segment_count
    if segment_count == 2:
        referred = found[0].referenced_segment
        assert referred.referenced_sop_instance_uid == seg_uid(analysis)
        made_of = [
            [i.UID for i in group.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121232"]
            for group in groups(data)
        ]
        assert made_of == [[STORED.series_instance_uid], [STORED.series_instance_uid], []]
        listed = dcmread(BytesIO(data)).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        assert seg_series_uid(analysis) in {s.SeriesInstanceUID for s in listed}


def test_errors_are_ours():
    with pytest.raises(OverreadError):
        HighdicomSrWriter().write(
            SrRequest(
                analysis_id=UUID(int=9),
                outcome=outcome(UID),
                evidence=[b"not DICOM"],
                sop_instance_uid="2.25.100",
                series_instance_uid="2.25.101",
                completed_at=WHEN,
                tracking_uids={},
            )
        )
