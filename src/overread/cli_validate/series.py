"""A folder of DICOM series as a data set, and an analyser of volumes on it.

Truth may be a `labels.csv` with a column `series` (SeriesInstanceUID, or the folder that its files lie in) and DICOM
SEG objects that refer to a series. Both may be missing: then what was measured is told, and nothing is judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from overread.cli_validate.dataset import LABELS, Dataset, Row, labels_of
from overread.cli_validate.labels import LabelMapping
from overread.cli_validate.overlap import Mask, Overlap, compare
from overread.cli_validate.reading import answer_of, context, on_grid
from overread.cli_validate.score import Problem, Scores, empty, keep
from overread.dicom.read import PydicomParser
from overread.dicom.seg_read import key_of, read_segmentation
from overread.dicom.series import volumes_of
from overread.domain import catalogue
from overread.domain.errors import InferenceError, InvalidRequest, NotFound, OverreadError
from overread.domain.image import ImageHeader
from overread.domain.modality import NON_IMAGE, Modality, modality_of
from overread.domain.segment import Segment
from overread.domain.study import InstanceRecord
from overread.domain.volume import Volume
from overread.pipeline.analysers.contract import VolumeAnalyser, VolumeReading
from overread.services.study_inputs import header_of

_FILES_AT_MOST = 100_000


@dataclass(frozen=True, kw_only=True)
class Series:
    """The files of one series."""

    uid: str
    #: The folder that holds them, below the data set's; "." for the data set's own.
    folder: str
    files: tuple[Path, ...]
    #: Of its first file.
    header: ImageHeader
    patient: str
    sex: str
    #: SEG objects that outline something on it.
    truth: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """As the figures call it."""
        return self.folder if self.folder != "." else self.uid


@dataclass(frozen=True, kw_only=True)
class SeriesSet:
    """A data set whose rows are series."""

    dataset: Dataset
    #: By the row's `image`.
    series: Mapping[str, Series]


def find(folder: Path, modality: Modality | None) -> tuple[list[Series], int]:
    """The series of a modality (None: of any that has images) under `folder`, and how many files are no DICOM."""
    parser = PydicomParser()
    images: dict[str, list[tuple[Path, InstanceRecord]]] = defaultdict(list)
    outlines: dict[str, list[Path]] = defaultdict(list)
    other = 0
    for number, path in enumerate(p for p in sorted(folder.rglob("*")) if p.is_file()):
        if number >= _FILES_AT_MOST:
            raise InvalidRequest(f"{folder} holds more than {_FILES_AT_MOST:,} files.", remedy="Name a smaller folder.")
        try:
            data = path.read_bytes()
            record = parser.index(data, name=path.name)
            if record.modality == "SEG":
                outlines[read_segmentation(data, name=path.name).referenced_series].append(path)
            elif record.modality not in NON_IMAGE and _is(record.modality, modality):
                images[record.series_instance_uid].append((path, record))
        except (OSError, OverreadError):
            other += 1
    found = []
    for uid, members in images.items():
        first, record = members[0]
        found.append(
            Series(
                uid=uid,
                folder=first.parent.relative_to(folder).as_posix(),
                files=tuple(path for path, _ in members),
                header=header_of(record),
                patient=record.patient_id,
                sex=record.patient_sex,
                truth=tuple(outlines.get(uid, ())),
            )
        )
    names = [series.folder for series in found]
    return [s if names.count(s.folder) == 1 else replace(s, folder=".") for s in found], other


def _is(dicom_modality: str | None, modality: Modality | None) -> bool:
    """An image without Modality (0008,0060) may be of any."""
    return modality is None or not dicom_modality or modality_of(dicom_modality) is modality


def load(folder: Path, modality: Modality, mapping: LabelMapping) -> SeriesSet:
    """The series of `folder` and what labels.csv says of them. Raises `InvalidRequest` if there is none."""
    found, other = find(folder, modality)
    if not found:
        raise InvalidRequest(
            f"{folder} holds no {modality.value} series in DICOM ({other} other files).",
            remedy="The model reads whole series: give a folder with the DICOM files of one or more.",
        )
    file = folder / LABELS
    labelled: dict[str, Row] = {}
    outlined = any(series.truth for series in found)
    read = labels_of(file, mapping, named="series", alone=not outlined) if file.exists() else None
    for row in read.rows if read else ():
        mine = next((s for s in found if row.image in (s.uid, s.folder, Path(s.folder).name)), None)
        if mine is None:
            raise InvalidRequest(f"{file} names a series that is not there: {row.image}.")
        labelled[mine.name] = row
    rows = []
    for series in found:
        row = labelled.get(series.name, Row(image=series.name, truth={}))
        rows.append(replace(row, image=series.name, patient=row.patient or series.patient, sex=row.sex or series.sex))
    dataset = Dataset(
        folder=folder,
        rows=tuple(rows),
        words=read.words if read else {},
        unused_words=read.unused({row.image for row in read.rows}) if read else {},
        boxes=None,
        boxes_elsewhere=0,
        labels_sha256=read.sha256 if read else "",
        without_label=len(found) - len(labelled),
        measures=read.measures if read else (),
    )
    return SeriesSet(dataset=dataset, series={series.name: series for series in found})


def score(data: SeriesSet, analyser: VolumeAnalyser, *, on_image: Callable[[], None] = lambda: None) -> Scores:
    """Read each series. What cannot be read is noted in `problems`, and the rest goes on."""
    identity = analyser.identity
    scores = empty(identity, identity.name, {}, gated=True)
    for row in data.dataset.rows:
        series = data.series[row.image]
        try:
            _score_one(scores, data.dataset, row, series, analyser)
        except OSError as error:
            problem = f"{row.image} cannot be read: {error.strerror}."
            scores.problems.append(Problem(image=row.image, code=NotFound.code, message=problem))
        except OverreadError as error:
            if isinstance(error, InferenceError) and error.transient:
                raise
            scores.problems.append(Problem(image=row.image, code=error.code, message=str(error)))
        on_image()
    scores.settle()
    return scores


def _score_one(scores: Scores, dataset: Dataset, row: Row, series: Series, analyser: VolumeAnalyser) -> None:
    made = volumes_of([(path.name, path.read_bytes) for path in series.files])
    volume = made.main()
    reading = analyser.read(volume, series.header, context())
    keep(scores, dataset, row, answer_of(replace(reading, segments=()), volume.affine, volume.shape))
    if reading.refused or not series.truth:
        return
    truth = [part for path in series.truth for part in read_segmentation(path.read_bytes(), name=path.name).parts]
    scores.overlaps[row.image] = overlaps(truth, reading, volume)


def overlaps(truth: list[Segment], reading: VolumeReading, volume: Volume) -> dict[str, Overlap]:
    """How each thing that the truth outlines was outlined, in 3-D, HD95 in mm and in voxels.

    A label of the truth is the analyser's own if it is the key or the name of one of its segments, or the key or the
    name of a finding. What the analyser does not look for is left out.
    """
    by_key: dict[str, list[Segment]] = defaultdict(list)
    for part in truth:
        key = _ours(part, reading)
        if key is not None:
            by_key[key].append(part)
    found = {}
    for key, parts in by_key.items():
        there: Mask = on_grid(parts, volume.affine, volume.shape)
        mine = [s for s in reading.segments if s.key == key]
        ours: Mask = on_grid(mine, volume.affine, volume.shape) if mine else np.zeros(volume.shape, bool)
        found[key] = compare(there, ours, volume.spacing_mm)
    return found


def _ours(part: Segment, reading: VolumeReading) -> str | None:
    names = {key_of(s.name): s.key for s in reading.segments} | {s.key: s.key for s in reading.segments}
    names |= {key: key for key in reading.assessed}
    names |= {key_of(catalogue.entry(key).name): key for key in reading.assessed if catalogue.is_known(key)}
    return names.get(part.key)
