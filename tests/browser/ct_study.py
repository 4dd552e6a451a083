"""A small chest CT as if it had been sent and read: two ellipses of lung, a nodule, an effusion, their outlines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from overread import bootstrap
from overread.dicom.create import CtAttributes, ImageIdentity, create_ct, encode, stable_uid
from overread.dicom.series import volumes_of
from overread.domain import catalogue
from overread.domain.analysis import AnalysisOutcome, Finding, Measurement, QualityAssessment, TriageDecision
from overread.domain.catalogue import Code
from overread.domain.evidence import ModelIdentity
from overread.domain.ids import uuid7
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.segment import Mask, Segment, box_on_slice, cut_out
from overread.domain.study import Sender, TenantId
from overread.domain.volume import Volume
from overread.render.outlines import outlines

SLICES, SIZE, PIXEL_MM, SLICE_MM = 30, 128, 2.5, 5.0
SENDER = Sender(channel="dicom", name="CT1", address="127.0.0.1")
MODEL = ModelIdentity(name="chest_ct", version="1.0.0", sha256="cd" * 32)
#: Slice of the nodule's centre, from 0 and from the feet; row and column of it.
NODULE = (21, 58, 34)


@dataclass(frozen=True, kw_only=True)
class CtStudy:
    """What was filed."""

    study_uid: str
    analysis: UUID
    #: From the feet.
    sop_uids: tuple[str, ...]
    #: HU (slices, rows, columns), feet first.
    hu: NDArray[np.int16]


def masks() -> dict[str, Mask]:
    """What lies where, bool (slices, rows, columns)."""
    z, y, x = np.mgrid[:SLICES, :SIZE, :SIZE].astype(np.float32)

    def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Mask:
        parts = zip((z, y, x), centre, radii, strict=True)
        return np.asarray(sum(((axis - c) / r) ** 2 for axis, c, r in parts) < 1)

    right, left = ellipsoid((14, 62, 38), (14, 28, 19)), ellipsoid((14, 62, 90), (14, 27, 17))
    nodule = ellipsoid(NODULE, (1.4, 2.6, 2.2)) & right
    effusion = left & (y > 80) & (z < 12)
    trachea = ellipsoid((26, 52, 64), (8, 3.2, 3.2))
    return {
        "body": np.asarray(((y - 64) / 44) ** 2 + ((x - 64) / 58) ** 2 < 1),
        "lung_right": np.asarray(right),
        "lung_left": np.asarray(left & ~effusion),
        "airways": np.asarray(trachea),
        "lung_nodule": np.asarray(nodule),
        "pleural_effusion": np.asarray(effusion),
    }


def make_hu(parts: dict[str, Mask]) -> NDArray[np.int16]:
    """Hounsfield units with noise, int16 (slices, rows, columns)."""
    hu = np.full((SLICES, SIZE, SIZE), -1000.0, np.float32)
    hu[parts["body"]] = 40
    hu[parts["lung_right"] | parts["lung_left"]] = -820
    hu[parts["airways"]] = -980
    hu[parts["lung_nodule"]] = 30
    hu[parts["pleural_effusion"]] = 8
    hu += np.random.default_rng(0).normal(0, 12, hu.shape)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def send_ct(
    overread: bootstrap.Overread, tenant: TenantId, *, name: str = "PHANTOM^CT", second_series: bool = True
) -> CtStudy:
    """File the slices, in an order and with instance numbers that say nothing of where they lie; not yet read."""
    hu = make_hu(masks())
    study_uid = stable_uid("browser", tenant.slug, name)
    order = np.random.default_rng(1).permutation(SLICES)
    uids = [stable_uid(study_uid, "1", str(i)) for i in range(SLICES)]
    filed = None
    for number, i in enumerate(order, start=1):
        filed = overread.receive.receive(tenant, _file(hu[i], study_uid, name, int(i), number), SENDER, name="x.dcm")
    if second_series:
        for i in range(0, SLICES, 3):
            thick = np.asarray(hu[i : i + 3].mean(axis=0)).astype(np.int16)
            data = _file(thick, study_uid, name, i + 1, i + 1, series=2)
            filed = overread.receive.receive(tenant, data, SENDER, name="x.dcm")
    assert filed is not None and filed.study_id is not None
    with overread.database.unit(tenant) as unit:
        study = unit.studies.assemble(filed.study_id)
        made = unit.analyses.create(
            study, requested_by="arrival", queue_priority=Level.ROUTINE, now=bootstrap.now(), analysis_id=uuid7()
        )
    return CtStudy(study_uid=study_uid, analysis=made.analysis_id, sop_uids=tuple(uids), hu=hu)


def _file(hu: NDArray[np.int16], study_uid: str, name: str, index: int, number: int, series: int = 1) -> bytes:
    identity = ImageIdentity(
        study_uid=study_uid,
        series_uid=stable_uid(study_uid, "series", str(series)),
        sop_uid=stable_uid(study_uid, str(series), str(index)),
        patient_id="PHANTOM-CT",
        patient_name=name,
        acquired=datetime(2026, 1, 15, 2, 0, tzinfo=UTC),
        series_number=series,
        instance_number=number,
        series_description="Chest 5.0" if series == 1 else "Chest soft tissue 15.0",
    )
    half = PIXEL_MM * (SIZE - 1) / 2
    place = CtAttributes(
        position=(-half, -half, -120 + SLICE_MM * index),
        pixel_mm=PIXEL_MM,
        slice_mm=SLICE_MM * (1 if series == 1 else 3),
        frame_uid=stable_uid(study_uid, "frame"),
    )
    return encode(create_ct(hu, identity, place))


def read_ct(
    overread: bootstrap.Overread,
    tenant: TenantId,
    ct: CtStudy,
    quality: QualityAssessment | None = None,
    level: Level = Level.ROUTINE,
) -> AnalysisOutcome:
    """The result of the study as an analyser would give it, with outlines, saved as the worker saves it."""
    volume = _volume(ct)
    parts = masks()
    findings, measurements, segments = [], [], []
    for key, size in (("lung_nodule", (13.2, 11.0)), ("pleural_effusion", None)):
        mask = parts[key]
        finding = _finding(key, mask, volume)
        findings.append(finding)
        segments.append(_segment(mask, volume, key, catalogue.entry(key).name, finding.id))
        if size is not None:
            for kind, mm in zip(("nodule_longest_diameter", "nodule_perpendicular_diameter"), size, strict=True):
                measurements.append(_measure(kind, mm, "mm", finding.id))
        measurements.append(_measure("volume", segments[-1].volume_ml, "mL", finding.id))
    for key, title in (("lung_right", "Right lung"), ("lung_left", "Left lung"), ("airways", "Airways")):
        segments.append(_segment(parts[key], volume, key, title, None))
    right, left = segments[2].volume_ml, segments[3].volume_ml
    measurements += [
        _measure("lung_volume_right", right, "mL"),
        _measure("lung_volume_left", left, "mL"),
        _measure("lung_volume_total", right + left, "mL"),
        _measure("laa_950_total", 2.44, "%", method="Voxels of the lungs below -950 HU."),
    ]
    outcome = AnalysisOutcome(
        modality=Modality.CT,
        body_part="CHEST",
        findings=tuple(findings),
        not_assessed=(),
        assessed=("lung_nodule", "pleural_effusion", "pneumothorax", "consolidation"),
        quality=quality or QualityAssessment(level=None, score=None, recommendations="Image quality was not assessed."),
        triage=TriageDecision(urgency=level, reason="Routine: exploratory findings change no order."),
        models=(MODEL,),
        measurements=tuple(measurements),
    )
    with overread.database.unit(tenant) as unit:
        row = unit.analyses.claim(ct.analysis, bootstrap.now())
        assert row is not None and row.claim is not None
        assert unit.analyses.complete(ct.analysis, row.claim, outcome, bootstrap.now(), 8200)
        unit.outlines.save(ct.analysis, outlines(segments, volume))
        unit.analyses.attach_sr(ct.analysis, "sr/x.dcm")
        unit.analyses.attach_seg(ct.analysis, "seg/x.dcm", 1)
        unit.events.publish("analysis", {"analysis": str(ct.analysis), "study": str(row.study.id)})
    return outcome


def _volume(ct: CtStudy) -> Volume:
    files = [(f"{i}", _file(ct.hu[i], ct.study_uid, "X", i, i + 1)) for i in range(SLICES)]
    (volume,) = volumes_of(files).volumes
    assert volume.sop_instance_uids == ct.sop_uids
    return volume


def _segment(mask: Mask, volume: Volume, key: str, name: str, finding: UUID | None) -> Segment:
    code = Code(value=key, scheme="99OVERREAD", meaning=name)
    made = cut_out(mask, volume, key=key, name=name, code=code, finding_id=finding)
    assert made is not None
    return made


def _finding(key: str, mask: Mask, volume: Volume) -> Finding:
    largest = int(np.argmax(mask.sum(axis=(1, 2))))
    rows, columns = np.nonzero(mask[largest])
    points = np.array([volume.to_mm([largest, r, c]) for r, c in zip(rows, columns, strict=True)])
    entry = catalogue.entry(key)
    return Finding(
        id=uuid7(),
        finding_type=key,
        severity=entry.severity,
        confidence=0.74,
        sop_instance_uid=volume.sop_instance_uids[largest],
        bounding_box=box_on_slice(points, volume),
        slice_number=largest + 1,
        model=MODEL,
        method="Hounsfield units and shape",
    )


def _measure(
    kind: str, value: float, unit: str, finding: UUID | None = None, method: str = "Voxels inside the outline."
) -> Measurement:
    return Measurement(id=uuid7(), measurement_type=kind, value=value, unit=unit, method=method, finding_id=finding)
