"""A real series with disease: what is found outside of it, and nodules of known size put into its lungs.

`overread.phantom.insert` puts them in; without it only candidates are counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.accuracy.phantoms import candidates_of, read
from benchmarks.accuracy.records import Record
from overread.cli_validate.reading import on_grid
from overread.dicom.series import volumes_of
from overread.domain.segment import Mask
from overread.domain.volume import Volume
from overread.pipeline.analysers.contract import VolumeReading

Json = dict[str, Any]
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
    figures = [
        _told("inserted.candidates", f"{series.name}: candidates", len(candidates)),
        _told("inserted.candidates_outside", f"{series.name}: candidates outside disease", len(outside), goal=2.0),
    ]
    return figures, text


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
