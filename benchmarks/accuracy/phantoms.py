"""Run the chest CT analyser on a phantom and note truth and answer side by side."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from benchmarks.accuracy.cases import Plan
from benchmarks.accuracy.matching import match
from overread.domain.analysis import Measurement
from overread.domain.evidence import EvidenceBar
from overread.domain.image import ImageHeader
from overread.domain.segment import Segment
from overread.domain.tissue import Tissue
from overread.domain.volume import Volume, affine_of
from overread.phantom.ct_case import CtCase
from overread.phantom.ct_truth import CtFinding, CtTruth
from overread.pipeline.analysers.contract import ReadingContext, VolumeReading
from overread.pipeline.triage import TriageTable

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
NODULES = ("lung_nodule", "lung_mass")
#: Code that decides what comes out: a result that was kept is made again when any of it changed.
_PHANTOM = ("src/overread/phantom",)
_ANALYSER = (*_PHANTOM, "src/overread/pipeline/analysers/chest_ct", "benchmarks/accuracy/phantoms.py")
#: Modules of `phantom` that no CT phantom is made of.
_OF_RADIOGRAPHS = frozenset({"insert.py", "marker.py", "presentation.py", "radiograph.py", "study.py", "thorax.py"})


@functools.cache
def digest(folders: tuple[str, ...]) -> str:
    """Of all Python files in these folders, as they were when this process first asked."""
    found = hashlib.sha256()
    for folder in folders:
        path = ROOT / folder
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if file.name in _OF_RADIOGRAPHS and folder in _PHANTOM:
                continue
            found.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]


def run(plan: Plan, cache: Path) -> Json:
    """The answer for one phantom, from `cache` if neither phantom nor analyser changed since."""
    name = hashlib.sha256(repr(plan).encode()).hexdigest()[:12]
    kept = cache / f"{plan.seed}-{name}-{digest(_ANALYSER)}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    case = plan.make()
    result = measure(case, rendered(plan, case, cache)) | {"code": digest(_ANALYSER)}
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = kept.with_suffix(".part")
    unfinished.write_text(json.dumps(result))
    unfinished.rename(kept)
    return result


def rendered(plan: Plan, case: CtCase, cache: Path) -> Volume:
    """The phantom's voxels, kept too: to render them takes longer than to read them."""
    file = cache / f"{plan.seed}-{hashlib.sha256(repr(plan).encode()).hexdigest()[:12]}-{digest(_PHANTOM)}.npy"
    if file.exists():
        hu = np.load(file)
        g = case.geometry
        empty = np.broadcast_to(np.int16(0), (g.slices, g.size, g.size))
        if hu.shape == empty.shape:
            return with_hu(case, hu)
    volume = case.volume()
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part.npy")
    np.save(unfinished, volume.hu)
    unfinished.rename(file)
    return volume


def with_hu(case: CtCase, hu: np.ndarray[Any, np.dtype[np.int16]]) -> Volume:
    """The volume of a case whose voxels are known."""
    g = case.geometry
    grid = g.grid(0, 1)
    _study, series, frame, slices = case.uids
    return Volume(
        hu=hu,
        affine=affine_of(
            (float(grid.cols[0]), float(grid.rows[0]), float(grid.depths[0])),
            (1, 0, 0, 0, 1, 0),
            (g.pixel_mm, g.pixel_mm),
            (0, 0, g.slice_mm),
        ),
        series_instance_uid=series,
        frame_of_reference_uid=frame,
        sop_instance_uids=slices,
        frame_numbers=(1,) * g.slices,
        slice_thickness_mm=g.slice_mm,
    )


def read(volume: Volume) -> VolumeReading:
    """What the analyser says, as the worker asks it."""
    from overread.pipeline.analysers.chest_ct.analyser import ChestCt

    numbers = itertools.count(1)
    context = ReadingContext(
        bar=EvidenceBar(), table=TriageTable.from_catalogue(), new_id=lambda: UUID(int=next(numbers))
    )
    header = ImageHeader(sop_instance_uid=volume.sop_instance_uids[0], modality="CT")
    reading: VolumeReading = ChestCt().read(volume, header, context)
    return reading


def measure(case: CtCase, volume: Volume) -> Json:
    """Truth and answer of one phantom."""
    began = time.process_time()
    reading = read(volume)
    seconds = time.process_time() - began
    truth = case.truth()
    candidates = candidates_of(reading)
    nodules = truth.nodules
    found = match([(n.centre_mm, n.diameter_mm or 0.0) for n in nodules], [c["centre_mm"] for c in candidates])
    return {
        "seed": case.seed,
        "shape": list(volume.shape),
        "spacing_mm": list(volume.spacing_mm),
        "kernel": str(case.kernel),
        "dose": case.dose,
        "cpu_seconds": seconds,
        "refused": reading.refused,
        "findings": sorted({f.finding_type for f in reading.findings}),
        "true_findings": sorted({f.key for f in truth.findings}),
        "assessed": list(reading.assessed),
        "nodules": [
            noted(n, None if hit is None else candidates[hit]) for n, hit in zip(nodules, found.hits, strict=True)
        ],
        "false": [candidates[i] | {"where": _where(case, volume, candidates[i]["centre_mm"])} for i in found.false],
        "amounts": {key: list(pair) for key, pair in amounts(truth, reading).items()},
    }  # fmt: skip


def noted(nodule: CtFinding, ours: Json | None) -> Json:
    """A true nodule and what was found of it."""
    return {
        "diameter_mm": nodule.diameter_mm,
        "perpendicular_mm": nodule.perpendicular_mm,
        "volume_ml": nodule.volume_ml,
        "density": str(nodule.density),
        "contact": str(nodule.contact),
        "centre_mm": list(nodule.centre_mm),
        "ours": ours,
    }


def candidates_of(reading: VolumeReading) -> list[Json]:
    """Nodules and masses of a reading: the middle of their outline, diameters and volume as measured."""
    made = []
    for finding in reading.findings:
        if finding.finding_type not in NODULES:
            continue
        own = [m for m in reading.measurements if m.finding_id == finding.id]
        segment = next((s for s in reading.segments if s.finding_id == finding.id), None)
        if segment is None:
            raise ValueError(f"the nodule on slice {finding.slice_number} has no outline")
        made.append({
            "centre_mm": list(middle(segment)),
            "confidence": finding.confidence,
            "diameter_mm": _value(own, "nodule_longest_diameter"),
            "perpendicular_mm": _value(own, "nodule_perpendicular_diameter"),
            "volume_ml": _value(own, "nodule_volume"),
        })  # fmt: skip
    return made


def middle(segment: Segment) -> tuple[float, float, float]:
    """Centre of mass of an outline, LPS+ mm."""
    index = np.argwhere(segment.mask).mean(axis=0)
    x, y, z = (segment.affine[:3, :3] @ index + segment.affine[:3, 3]).tolist()
    return x, y, z


def _value(measurements: list[Measurement], kind: str) -> float | None:
    return next((m.value for m in measurements if m.measurement_type == kind), None)


def amounts(truth: CtTruth, reading: VolumeReading) -> dict[str, tuple[float, float | None]]:
    """(truth, ours) of volumes, mL, and of emphysema, percent; ours None where it was not measured."""
    ours = {m.measurement_type: m.value for m in reading.measurements if m.finding_id is None}
    of_findings: dict[str, float] = {}
    for finding in reading.findings:
        own = [m for m in reading.measurements if m.finding_id == finding.id and m.unit == "mL"]
        if finding.finding_type not in NODULES and own:
            of_findings[finding.finding_type] = of_findings.get(finding.finding_type, 0.0) + own[0].value
    found: dict[str, tuple[float, float | None]] = {}
    for side, ml in truth.lung_ml.items():
        found[f"lung_{side.value}_ml"] = (ml, ours.get(f"lung_volume_{side.value}"))
    for key in ("pleural_effusion", "pneumothorax", "consolidation"):
        found[f"{key}_ml"] = (truth.ml(key), of_findings.get(key, 0.0))
    found["laa_percent"] = (truth.emphysema_percent, ours.get("laa_950_total"))
    return found


def _where(case: CtCase, volume: Volume, centre_mm: list[float]) -> str:
    """What of the phantom a false candidate lies in."""
    plane, row, column = (
        np.clip(np.rint(volume.to_index(centre_mm)), 0, np.array(volume.shape) - 1).astype(int).tolist()
    )
    slab = case.scene.slab(case.geometry.grid(plane - 1, plane + 2))
    lesion = int(slab.lesions[1, row, column])
    if lesion:
        return case.truth().findings[lesion - 1].key
    return Tissue(int(slab.labels[1, row, column])).name.lower()
