"""One file: read, cleaned, checked once more, written."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass, field

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian

from overread.dicom.attributes import Attributes
from overread.dicom.create import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from overread.dicom.deidentify.burned_in import Box, TextFinder
from overread.dicom.deidentify.dataset import UNREADABLE, DatasetCleaner
from overread.dicom.deidentify.options import Options
from overread.dicom.deidentify.pixels import clean_pixels
from overread.dicom.deidentify.pseudonyms import Pseudonyms
from overread.dicom.quiet import quiet
from overread.dicom.scan import ScannedFile, scan
from overread.domain.errors import InvalidDicom, NotDeidentified

_SOP_CLASS = 0x00080016
_DICOMDIR = "1.2.840.10008.1.3.10"
#: SOP classes whose content cannot be cleaned: encapsulated documents (PDF, CDA, STL, OBJ, MTL) and sound.
_DOCUMENTS = "1.2.840.10008.5.1.4.1.1.104."
_AUDIO = frozenset({"1.2.840.10008.5.1.4.1.1.9.4.1", "1.2.840.10008.5.1.4.1.1.9.4.2"})


@dataclass(frozen=True, kw_only=True)
class CleanFile:
    """A copy without names. Counts are by attribute, as `(0010,0010) PatientName`; values are in none of them."""

    data: bytes
    patient: str
    study_uid: str
    series_uid: str
    instance_uid: str
    removed: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    emptied: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    boxes: tuple[Box, ...] = ()
    #: Whether text was looked for in the picture.
    looked: bool = False


def deidentify_file(
    data: bytes, *, name: str, options: Options, pseudonyms: Pseudonyms, finder: TextFinder | None
) -> CleanFile:
    """A copy of a DICOM file without what identifies the patient. `name` stands in messages only.

    Raises `InvalidDicom` and its kinds, `NotDeidentified` (a content that cannot be cleaned), `BurnedInText`
    and `TooLarge`.
    """
    file = scan(data, name)
    a = Attributes(file)
    sop_class = _check(file, a)
    with quiet:
        try:
            old = _read(file)
            cleaner = DatasetCleaner(old, options, pseudonyms)
            new = cleaner.clean()
        except (*UNREADABLE, EOFError, OSError, RecursionError, BytesLengthException, InvalidDicomError) as error:
            raise InvalidDicom(f"{name} cannot be read in full.", remedy="Export it again.", file=name) from error
        for keyword, source in (
            ("SOPInstanceUID", 0x00080018),
            ("SeriesInstanceUID", 0x0020000E),
            ("StudyInstanceUID", 0x0020000D),
        ):
            if not new.get(keyword):
                raise InvalidDicom(f"{name} has no {keyword} ({source >> 16:04X},{source & 0xFFFF:04X}).", file=name)
        new.SOPClassUID = sop_class
        header = _write(new)
        if cleaner.identity.in_bytes(header):
            raise NotDeidentified(
                f"{name} still holds a word of the patient's identity where it cannot be removed.",
                remedy="Leave this file out.",
                file=name,
            )
        pixels = clean_pixels(file, a, new, finder)
        if pixels.looked:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "113101", "DCM", "Clean Pixel Data Option"
            new.DeidentificationMethodCodeSequence.append(item)
        written = _write(new)
    return CleanFile(
        data=written,
        patient=str(new.PatientID),
        study_uid=str(new.StudyInstanceUID),
        series_uid=str(new.SeriesInstanceUID),
        instance_uid=str(new.SOPInstanceUID),
        removed=cleaner.removed,
        replaced=cleaner.replaced,
        emptied=cleaner.emptied,
        kept=cleaner.kept,
        boxes=pixels.boxes,
        looked=pixels.looked,
    )


def _check(file: ScannedFile, a: Attributes) -> str:
    """SOPClassUID, of a kind that can be cleaned."""
    sop_class = a.text(_SOP_CLASS)
    why = None
    if not sop_class:
        raise InvalidDicom(f"{file.name} has no SOPClassUID (0008,0016).", file=file.name)
    if sop_class == _DICOMDIR:
        why = "is the index of a medium, which names every patient on it"
    elif sop_class.startswith(_DOCUMENTS) or 0x00420011 in a:
        why = "is a document in a DICOM wrapper, whose text cannot be cleaned"
    elif sop_class in _AUDIO:
        why = "is a recording of a voice"
    elif not UID(sop_class).is_valid or UID(sop_class).is_private:
        why = "is a private object of its maker, of which nobody knows what is in it"
    elif not file.syntax.little:
        why = "is big endian, which DICOM has retired"
    if why:
        raise NotDeidentified(f"{file.name} {why}.", remedy="It was left out.", file=file.name)
    return sop_class


def _read(file: ScannedFile) -> Dataset:
    """Elements up to the pixels; they follow apart. Sequences are read at once: their depth was bounded by `scan`."""
    source = io.BytesIO(bytes(memoryview(file.body)[file.start :]))
    implicit = not file.syntax.explicit
    return pydicom.filereader.read_dataset(source, is_implicit_VR=implicit, is_little_endian=True, stop_when=_at_pixels)


def _at_pixels(tag: int, _vr: str | None, _length: int) -> bool:
    return int(tag) >= 0x7FE00008


def _write(new: Dataset) -> bytes:
    """Explicit VR little endian, with file meta information made anew and an empty preamble."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = new.SOPClassUID
    meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    new.file_meta = meta
    new.preamble = b"\x00" * 128
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, new, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()
