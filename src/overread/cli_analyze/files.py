"""From a path to studies: DICOM files, folders, ZIPs and pictures, grouped by study, decoded one study at a time.

Two passes over the source. The first reads headers only and learns which files make a study; the second decodes, and
hands a study on as soon as its last image is there. So a folder of a thousand radiographs never lies in memory at once.
Of a CT series the files are kept as they came until its study is whole, and decoded when the series is read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from overread.dicom.picture import is_picture, picture
from overread.dicom.read import PydicomParser
from overread.dicom.stacked import DicomVolumes
from overread.domain.analysis import InstanceProblem
from overread.domain.errors import NoPixelData, OverreadError
from overread.domain.image import GreyImage, ImageInstance, cast_pixels
from overread.domain.modality import is_ct
from overread.domain.series import SeriesToRead
from overread.domain.study import InstanceRecord
from overread.services.study_inputs import SLICES_AT_LEAST, header_of
from overread.services.unpack import Member, unpack

#: Modalities (0008,0060) whose pixels may be needed; of the others a thumbnail is kept, for no analyser reads them.
_NEEDED = frozenset({None, "", "OT", "SC", "CR", "DX", "RG"})
_THUMBNAIL_STEP = 8


@dataclass(frozen=True, kw_only=True)
class Tags:
    """What the user says of images that do not say it themselves (PNG, JPEG, stripped tags)."""

    #: DICOM Modality (0008,0060).
    modality: str | None = None
    body_part: str | None = None

    def apply(self, image: ImageInstance) -> ImageInstance:
        header = image.header
        return replace(
            image,
            header=replace(
                header,
                modality=header.modality or self.modality,
                body_part=header.body_part or self.body_part,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class FileStudy:
    """The images of one study, decoded. A picture is a study of its own."""

    #: StudyInstanceUID, or the file's name of a picture.
    study_id: str
    patient_id: str
    is_dicom: bool
    images: tuple[ImageInstance, ...]
    #: CT series, to be read as volumes.
    series: tuple[SeriesToRead, ...] = ()
    #: Bytes of their files, by SOPInstanceUID.
    slices: Mapping[str, bytes] = field(default_factory=dict)
    #: Names of the files by SOPInstanceUID.
    names: Mapping[str, str]
    #: Instances of this study that could not be decoded, or that name another patient.
    problems: tuple[InstanceProblem, ...]
    #: Bytes of the images that a report may refer to; empty unless asked for.
    evidence: tuple[bytes, ...]
    #: Seconds that reading and decoding took.
    seconds: float


@dataclass
class Refused:
    """Files that belong to no study: bad ones, and those that are simply no image."""

    problems: list[InstanceProblem] = field(default_factory=list)
    #: No error among images: a report, a spreadsheet.
    left_out: list[InstanceProblem] = field(default_factory=list)

    def note(self, name: str, error: OverreadError) -> None:
        """Keep why a file was refused."""
        where = self.left_out if error.details.get("left_out") else self.problems
        where.append(InstanceProblem(instance=name, code=error.code, message=str(error)))


@dataclass(frozen=True, kw_only=True)
class _Planned:
    record: InstanceRecord
    #: It is a slice of a series that is read as a volume.
    is_slice: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the first pass learned."""

    path: Path
    #: DICOM images by the file's name.
    dicom: Mapping[str, _Planned]
    #: All files that the second pass will open.
    files: int


def plan(path: Path, refused: Refused) -> Plan:
    """First pass: which files belong together. What cannot be used is noted in `refused`.

    Raises `UnsupportedFile` if there is no such path.
    """
    parser = PydicomParser()
    records: dict[str, InstanceRecord] = {}
    seen: set[tuple[str, str]] = set()
    pictures = 0
    for member in unpack(path):
        try:
            data = member.read()
            if is_picture(data):
                pictures += 1
                continue
            record = parser.index(data, name=member.name)
            if record.filed_only_reason is not None:
                why = f"{member.name} holds no image to analyse ({record.filed_only_reason})."
                refused.left_out.append(InstanceProblem(instance=member.name, code=NoPixelData.code, message=why))
                continue
        except OverreadError as error:
            refused.note(member.name, error)
            continue
        # The same instance twice is read once.
        if (record.study_instance_uid, record.sop_instance_uid) not in seen:
            seen.add((record.study_instance_uid, record.sop_instance_uid))
            records[member.name] = record
    slices: Counter[str] = Counter()
    for record in records.values():
        if is_ct(record.modality, record.sop_class_uid):
            slices[record.series_instance_uid] += max(1, record.number_of_frames)
    dicom = {
        name: _Planned(record=record, is_slice=slices[record.series_instance_uid] >= SLICES_AT_LEAST)
        for name, record in records.items()
    }
    if not dicom and not pictures:
        # Nothing else is there: what would be no error among images is one now.
        refused.problems.extend(refused.left_out)
        refused.left_out.clear()
    return Plan(path=path, dicom=dicom, files=len(dicom) + pictures)


def studies(the_plan: Plan, refused: Refused, *, tags: Tags, keep_evidence: bool) -> Iterator[FileStudy]:
    """Second pass: each study once its last image is decoded. Bad pictures are noted in `refused`."""
    parser = PydicomParser()
    waiting = Counter(p.record.study_instance_uid for p in the_plan.dicom.values())
    open_: dict[str, _Growing] = {}
    known_bad = {problem.instance for problem in refused.problems}
    for member in unpack(the_plan.path):
        planned = the_plan.dicom.get(member.name)
        if planned is None:
            if member.name not in known_bad and (study := _picture(member, tags, refused)) is not None:
                yield study
            continue
        growing = open_.setdefault(planned.record.study_instance_uid, _Growing(planned.record))
        growing.add(member, planned, parser, tags, keep_evidence=keep_evidence)
        uid = planned.record.study_instance_uid
        waiting[uid] -= 1
        if waiting[uid] == 0:
            yield open_.pop(uid).done(tags)


def _picture(member: Member, tags: Tags, refused: Refused) -> FileStudy | None:
    began = time.perf_counter()
    try:
        data = member.read()
        if not is_picture(data):
            return None
        image = tags.apply(picture(data, name=member.name))
    except OverreadError as error:
        if not error.details.get("left_out"):
            refused.note(member.name, error)
        return None
    return FileStudy(
        study_id=member.name,
        patient_id="",
        is_dicom=False,
        images=(image,),
        names={image.header.sop_instance_uid: member.name},
        problems=(),
        evidence=(),
        seconds=time.perf_counter() - began,
    )


class _Growing:
    """A study whose images are still being decoded."""

    def __init__(self, first: InstanceRecord) -> None:
        self.first = first
        self.patient = (first.issuer_of_patient_id, first.patient_id)
        self.images: list[ImageInstance] = []
        #: (name, bytes) of the files of each CT series, with the record of its first.
        self.series: dict[str, tuple[InstanceRecord, list[tuple[str, bytes]]]] = {}
        self.slices: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.problems: list[InstanceProblem] = []
        self.evidence: list[bytes] = []
        self.seconds = 0.0

    def add(self, member: Member, planned: _Planned, parser: PydicomParser, tags: Tags, *, keep_evidence: bool) -> None:
        began = time.perf_counter()
        record = planned.record
        self.names[record.sop_instance_uid] = member.name
        if (record.issuer_of_patient_id, record.patient_id) != self.patient:
            self.problems.append(_other_patient(member.name))
        try:
            data = member.read()
            if planned.is_slice:
                self._add_slice(member.name, record, data)
                return
            image = tags.apply(parser.image(data, name=member.name))
        except OverreadError as error:
            self.problems.append(InstanceProblem(instance=member.name, code=error.code, message=str(error)))
        else:
            needed = image.header.modality in _NEEDED
            self.images.append(image if needed else _small(image))
            if keep_evidence and (needed or not self.evidence):
                self.evidence.append(data)
        finally:
            self.seconds += time.perf_counter() - began

    def _add_slice(self, name: str, record: InstanceRecord, data: bytes) -> None:
        self.series.setdefault(record.series_instance_uid, (record, []))[1].append((name, data))
        self.slices[record.sop_instance_uid] = data

    def done(self, tags: Tags) -> FileStudy:
        return FileStudy(
            study_id=self.first.study_instance_uid,
            patient_id=self.first.patient_id,
            is_dicom=True,
            images=tuple(self.images),
            series=tuple(_series(record, files, tags) for record, files in self.series.values()),
            slices=self.slices,
            names=self.names,
            problems=tuple(self.problems),
            evidence=tuple(self.evidence),
            seconds=self.seconds,
        )


def _series(first: InstanceRecord, files: list[tuple[str, bytes]], tags: Tags) -> SeriesToRead:
    header = header_of(first)
    return SeriesToRead(
        header=replace(header, body_part=header.body_part or tags.body_part),
        number=first.series_number,
        slices=max(len(files), first.number_of_frames),
        load=partial(DicomVolumes().stack, files),
    )


def _other_patient(name: str) -> InstanceProblem:
    return InstanceProblem(
        instance=name,
        code="PATIENT_CONFLICT",
        message=f"{name} names another patient than the first image of its study; each image was read by itself. "
        "Find out whose it is before you use the result.",
    )


def _small(image: ImageInstance) -> ImageInstance:
    pixels = image.image.pixels[::_THUMBNAIL_STEP, ::_THUMBNAIL_STEP]
    return replace(image, image=GreyImage(pixels=cast_pixels(pixels), was_colour=image.image.was_colour))
