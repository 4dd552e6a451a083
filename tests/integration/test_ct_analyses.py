"""A CT series from received bytes to findings, outlines, SEG and SR on the real store; the analyser is a fake."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from pydicom import dcmread

from overread.dicom.create import CtAttributes, ImageIdentity, create_ct, encode, stable_uid
from overread.domain.analysis import AnalysisStatus, Finding, Measurement
from overread.domain.catalogue import Code, entry
from overread.domain.evidence import ModelIdentity
from overread.domain.image import ImageHeader
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.segment import cut_out
from overread.domain.volume import Volume
from overread.pipeline.analysers.contract import ReadingContext, VolumeReading
from tests.integration.records import SENDER
from tests.integration.test_analyses import Bench, bench, now  # noqa: F401

SLICES, SIDE = 12, 48


def ct_files(*, intercept: bool = True) -> list[bytes]:
    """A cube of 40 HU in air, in slices 4 to 7."""
    files = []
    for number in range(SLICES):
        hu = np.full((SIDE, SIDE), -900, np.int16)
        if 4 <= number <= 7:
            hu[10:20, 20:34] = 40
        identity = ImageIdentity(
            study_uid=stable_uid("ct", "study"),
            series_uid=stable_uid("ct", "series"),
            sop_uid=stable_uid("ct", str(number)),
            patient_id="P1",
            patient_name="CT^Phantom",
            acquired=now(),
            instance_number=number + 1,
        )
        place = CtAttributes(
            position=(0.0, 0.0, 2.0 * number), pixel_mm=0.8, slice_mm=2.0, frame_uid=stable_uid("ct", "frame")
        )
        dataset = create_ct(hu, identity, place)
        if not intercept:
            del dataset.RescaleIntercept
        files.append(encode(dataset))
    return files


class Dense:
    """Outlines what is denser than water."""

    identity = ModelIdentity(name="dense_ct", version="1.0.0")
    modality = Modality.CT

    def read(self, volume: Volume, header: ImageHeader, context: ReadingContext) -> VolumeReading:
        finding = Finding(
            id=context.new_id(),
            finding_type="lung_nodule",
            severity=Level.ROUTINE,
            confidence=0.7,
            sop_instance_uid=volume.sop_instance_uids[5],
            slice_number=6,
            model=self.identity,
            method="threshold",
        )
        segment = cut_out(
            np.asarray(volume.hu > 0),
            volume,
            key="lung_nodule",
            name="Nodule 1",
            code=entry("lung_nodule").code,
            finding_id=finding.id,
        )
        body = cut_out(
            np.asarray(volume.hu < 0),
            volume,
            key="body",
            name="Air",
            code=Code(value="air", scheme="99X", meaning="Air"),
        )
        assert segment is not None
        assert body is not None
        size = Measurement(
            id=context.new_id(),
            measurement_type="volume",
            value=segment.volume_ml,
            unit="mL",
            method="voxels",
            finding_id=finding.id,
            metadata={"slices": 4},
        )
        return VolumeReading(
            body_part="CHEST",
            findings=(finding,),
            measurements=(size,),
            segments=(body, segment),
            assessed=("lung_nodule",),
        )


def receive(bench: Bench, files: list[bytes]):  # noqa: F811
    filed = [bench.overread.receive.receive(bench.tenant, data, SENDER, name="ct") for data in files]
    study = filed[0].study_id
    assert study is not None
    # A CT waits for the rest of its study; the sweep would do this after the quiet period.
    with bench.overread.database.unit(bench.tenant) as unit:
        bench.overread.assemble.close_revision(unit, study, now())
    return bench.latest(study)


def test_a_ct_series_comes_out_outlined(bench: Bench) -> None:  # noqa: F811
    ct = replace(bench, analysers=(Dense(),))
    row = receive(ct, ct_files())
    ct.service.run(ct.tenant, row.id)
    done = ct.latest(row.study.id)
    assert done.status is AnalysisStatus.COMPLETED, done.error_message
    assert done.outcome is not None
    assert done.modality is Modality.CT
    (finding,) = done.outcome.findings
    (size,) = done.outcome.measurements
    assert size.finding_id == finding.id
    assert size.metadata == {"slices": 4}
    with ct.overread.database.unit(ct.tenant) as unit:
        shown = unit.outlines.for_instance(row.id, finding.sop_instance_uid, 1)
        summary = unit.outlines.summary(row.id)
        above = unit.outlines.for_instance(row.id, stable_uid("ct", "9"), 1)
    assert [(s.key, s.slice_count) for s in summary] == [("body", SLICES), ("lung_nodule", 4)]
    assert summary[1].finding_id == finding.id
    assert [o.key for o in shown] == ["body", "lung_nodule"]
    assert [o.key for o in above] == ["body"]
    (ring,) = shown[1].rings
    xs, ys = [x for x, _ in ring], [y for _, y in ring]
    assert (min(xs), max(xs)) == (19.5, 33.5)
    assert (min(ys), max(ys)) == (9.5, 19.5)

    assert done.seg_object_key is not None
    seg = dcmread(io.BytesIO(ct.overread.objects.get(ct.tenant, done.seg_object_key)))
    assert seg.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["Air", "Nodule 1"]
    assert seg.StudyInstanceUID == stable_uid("ct", "study")


def test_a_second_run_leaves_one_set_of_outlines(bench: Bench) -> None:  # noqa: F811
    """As after a worker that died between the SEG and the commit."""
    ct = replace(bench, analysers=(Dense(),))
    row = receive(ct, ct_files())
    with ct.overread.database.unit(ct.tenant) as unit:
        assert unit.analyses.claim(row.id, now()) is not None
    ct.service.run(ct.tenant, row.id)
    ct.service.run(ct.tenant, row.id)
    with ct.overread.database.unit(ct.tenant) as unit:
        assert [s.slice_count for s in unit.outlines.summary(row.id)] == [SLICES, 4]


def test_a_ct_without_rescale_is_refused_with_its_reason(bench: Bench) -> None:  # noqa: F811
    ct = replace(bench, analysers=(Dense(),))
    row = receive(ct, ct_files(intercept=False))
    ct.service.run(ct.tenant, row.id)
    done = ct.latest(row.study.id)
    assert done.outcome is not None
    assert not done.outcome.findings
    assert "MISSING_RESCALE" in [p.code for p in done.outcome.problems]
    assert not done.outcome.assessed
