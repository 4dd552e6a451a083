"""A real series with disease: what is found outside of it, and nodules of known size put into its healthy lung."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.accuracy import summary
from benchmarks.accuracy.matching import match
from benchmarks.accuracy.phantoms import candidates_of, noted, read
from benchmarks.accuracy.records import Record
from overread.cli_validate.reading import on_grid
from overread.dicom.series import volumes_of
from overread.domain.segment import Mask
from overread.domain.volume import Volume
from overread.phantom.insert import insert_nodule, propose_places
from overread.phantom.nodules import Density, Nodule
from overread.pipeline.analysers.contract import VolumeReading

Json = dict[str, Any]
#: Of proof; development used others.
SEED, ROUNDS = 1000, 4
#: (lowest, highest) longest diameter of the nodules of one copy, mm.
SIZES = ((6.0, 7.0), (6.0, 8.0), (8.0, 10.0), (10.0, 14.0), (14.0, 18.0))
#: Findings whose outline is disease, and how far around it a candidate still belongs to it, mm.
DISEASE, MARGIN_MM = ("consolidation",), 5.0
#: Where the mean over 5 mm is above this, HU, the lung is no aerated lung: ground glass, consolidation, large vessels.
DENSE_HU, DENSE_ML = -650.0, 1.0


def measure(series: Path | None) -> tuple[list[Record], str]:
    """Figures and how they came about; none where the series is not there."""
    if series is None or not series.is_dir():
        return [], "The real series is not on this machine."
    volume = load(series)
    reading = read(volume)
    if reading.refused:
        return [], f"{series.name} was refused: {reading.refused}."
    lungs, disease = regions(volume, reading)
    candidates = candidates_of(reading)
    outside = [c for c in candidates if not _inside(volume, disease, c["centre_mm"])]
    share = int(np.count_nonzero(disease & lungs)) / max(1, int(np.count_nonzero(lungs)))
    text = (
        f"{series.name}: {volume.shape[0]} slices, COVID-19 pneumonia; {share:.0%} of the lungs are disease: the "
        f"outlined consolidation and where the mean over 5 mm is above {DENSE_HU:g} HU in pieces of at least "
        f"{DENSE_ML:g} mL, with {MARGIN_MM:g} mm around. Nobody has said which of the candidates are nodules, so they "
        "are counted, not judged."
    )
    added = [r for number in range(ROUNDS) for r in with_nodules(volume, lungs, disease, number)]
    text += (
        f" Then {len(added)} nodules of {SIZES[0][0]:g} to {SIZES[-1][1]:g} mm were put into lung outside disease, in "
        f"{ROUNDS} copies, with the noise of the scan."
    )
    figures = [
        *summary.found_and_sized("inserted", "put in", added),
        _told("inserted.candidates", f"{series.name}: candidates", len(candidates)),
        _told("inserted.candidates_outside", f"{series.name}: candidates outside disease", len(outside), goal=2.0),
    ]
    return figures, text


def with_nodules(volume: Volume, lungs: Mask, disease: Mask, number: int) -> list[Json]:
    """The nodules of one copy, each with what was found of it, as `phantoms.measure` notes them."""
    rng = np.random.default_rng([SEED, number])
    sizes = [float(rng.uniform(low, high)) for low, high in SIZES]
    places = propose_places(volume, lungs, max(sizes), rng, count=len(sizes), avoid=disease)
    made, truths = volume, []
    for turn, (size, place) in enumerate(zip(sizes, places, strict=False)):
        density = Density.PART_SOLID if (turn + number) % 3 == 2 else Density.SOLID
        nodule = Nodule(diameter_mm=size, density=density, shape_seed=int(rng.integers(1 << 30)), lobulation=0.1)
        done = insert_nodule(made, place, nodule, rng)
        made = done.volume
        truths.append(done.truth)
    candidates = candidates_of(read(made))
    hits = match([(t.centre_mm, t.diameter_mm or 0.0) for t in truths], [c["centre_mm"] for c in candidates]).hits
    return [noted(t, None if hit is None else candidates[hit]) for t, hit in zip(truths, hits, strict=True)]


def load(folder: Path) -> Volume:
    """The series of a folder. Raises what `volumes_of` found wrong."""
    return volumes_of([(p.name, p.read_bytes) for p in sorted(folder.iterdir()) if p.is_file()]).main()


def regions(volume: Volume, reading: VolumeReading) -> tuple[Mask, Mask]:
    """Lungs, and disease with its margin; both of the volume's shape."""
    lungs = on_grid([s for s in reading.segments if "lung_" in s.key and not s.finding_id], volume.affine, volume.shape)
    disease = on_grid([s for s in reading.segments if s.key in DISEASE], volume.affine, volume.shape)
    size = tuple(max(1, round(5.0 / mm)) for mm in volume.spacing_mm)
    mean = ndimage.uniform_filter(volume.hu.astype(np.float32), size)
    dense = lungs & (mean > DENSE_HU)
    labels, count = ndimage.label(dense)
    voxels = np.bincount(labels.ravel(), minlength=count + 1)
    large = np.flatnonzero(voxels * volume.voxel_ml >= DENSE_ML)
    disease |= np.isin(labels, large[large > 0])
    reach = ndimage.distance_transform_edt(~disease, sampling=volume.spacing_mm) if disease.any() else None
    return lungs, disease if reach is None else np.asarray(reach <= MARGIN_MM, bool)


def _inside(volume: Volume, mask: Mask, centre_mm: list[float]) -> bool:
    index = np.clip(np.rint(volume.to_index(centre_mm)), 0, np.array(volume.shape) - 1).astype(int)
    return bool(mask[tuple(index.tolist())])


def _told(key: str, name: str, count: int, *, goal: float | None = None) -> Record:
    return Record(
        key=key, name=name, value=float(count), low=float(count), high=float(count), n=1, better="told", goal=goal,
        goal_is_most=True,
    )  # fmt: skip
