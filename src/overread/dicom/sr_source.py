"""What an exported object takes over from the images that it speaks of: patient, study and references, made valid.

Real files miss attributes and break rules. An object that we write must not: what is invalid is left empty (a sex "X"),
or shortened (a name of 200 characters). UIDs are those of the index (`read.index`), so that the objects agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from pydicom import Dataset

from overread.dicom.attributes import Attributes
from overread.dicom.read import index
from overread.dicom.scan import scan
from overread.domain.errors import InvalidDicom, OverreadError
from overread.domain.study import InstanceRecord

_MAX = {"SH": 16, "LO": 64}
_TIME = re.compile(r"([01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?)?)?")
_AGE = re.compile(r"\d{3}[DWMY]")


@dataclass(frozen=True, kw_only=True)
class ImageReference:
    """An image as another object refers to it."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    #: Rows and Columns, 0 where the file does not say.
    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """The study that an object is written for."""

    #: StudyInstanceUID and the valid attributes of patient and study; missing ones of type 2 are empty.
    header: Dataset
    images: tuple[ImageReference, ...]
    #: Images of more than one patient: patient attributes are then empty, for they would be wrong for some.
    patient_conflict: bool

    def image(self, sop_instance_uid: str) -> ImageReference | None:
        return next((i for i in self.images if i.sop_instance_uid == sop_instance_uid), None)


def read_source(files: Sequence[bytes]) -> Source:
    """What to take over from `files`, DICOM images of one study.

    Raises `InvalidDicom` if there is none that can be read and referred to.
    """
    records: list[InstanceRecord] = []
    attributes: list[Attributes] = []
    for number, data in enumerate(files, start=1):
        name = f"image {number}"
        try:
            records.append(index(data, name=name))
            attributes.append(Attributes(scan(data, name)))
        except OverreadError:
            continue
    if not records:
        raise InvalidDicom("There is no image that a report could refer to.")
    conflict = len({(r.issuer_of_patient_id, r.patient_id) for r in records}) > 1
    header = Dataset()
    for keyword, tag, valid, kind in _COPIED:
        value = _first(valid(a.text(tag)) for a in attributes)
        if conflict and kind.startswith("patient"):
            value = ""
        if value or not kind.endswith("optional"):
            setattr(header, keyword, value or None)
    header.StudyInstanceUID = records[0].study_instance_uid
    return Source(header=header, images=tuple(_reference(r) for r in records), patient_conflict=conflict)


def _reference(record: InstanceRecord) -> ImageReference:
    return ImageReference(
        sop_class_uid=record.sop_class_uid,
        sop_instance_uid=record.sop_instance_uid,
        series_instance_uid=record.series_instance_uid,
        rows=record.rows or 0,
        columns=record.columns or 0,
    )


def _first(values: Iterable[str]) -> str:
    return next((value for value in values if value), "")


def _text(vr: str) -> Callable[[str], str]:
    return lambda text: text.replace("\\", " ")[: _MAX[vr]].strip()


def _date(text: str) -> str:
    """A DA that is a day of the calendar; real files have a 29 February 1950."""
    digits = text.replace(".", "").replace("-", "")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).isoformat().replace("-", "")
    except ValueError:
        return ""


def _time(text: str) -> str:
    plain = text.replace(":", "")
    return plain if _TIME.fullmatch(plain) else ""


def _sex(text: str) -> str:
    return text.upper() if text.upper() in {"M", "F", "O"} else ""


def _age(text: str) -> str:
    return text if _AGE.fullmatch(text) else ""


def _person(text: str) -> str:
    """A PN (PS3.5 6.2): at most three groups of 64 characters and five components."""
    groups = [
        "^".join(part.strip() for part in group.split("^")[:5])[:64] for group in text.replace("\\", " ").split("=")[:3]
    ]
    return "=".join(group.rstrip("^ ") for group in groups).rstrip("=")


#: (keyword, tag, what makes its text valid, whose it is). Those of type 2 are written empty if missing.
_COPIED: tuple[tuple[str, int, Callable[[str], str], str], ...] = (
    ("PatientID", 0x00100020, _text("LO"), "patient"),
    ("IssuerOfPatientID", 0x00100021, _text("LO"), "patient optional"),
    ("PatientName", 0x00100010, _person, "patient"),
    ("PatientBirthDate", 0x00100030, _date, "patient"),
    ("PatientSex", 0x00100040, _sex, "patient"),
    ("PatientAge", 0x00101010, _age, "patient optional"),
    ("StudyDate", 0x00080020, _date, "study"),
    ("StudyTime", 0x00080030, _time, "study"),
    ("StudyID", 0x00200010, _text("SH"), "study"),
    ("StudyDescription", 0x00081030, _text("LO"), "study optional"),
    ("AccessionNumber", 0x00080050, _text("SH"), "study"),
    ("ReferringPhysicianName", 0x00080090, _person, "study"),
)
#: What an object takes over besides StudyInstanceUID.
COPIED = tuple(keyword for keyword, _, _, _ in _COPIED)
