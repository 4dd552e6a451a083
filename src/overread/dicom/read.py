"""What the product keeps of a DICOM file: the index record and the header of an image. See `pixels` for what one sees.

`PydicomParser` is the `services.ports.DicomParser`.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from uuid import UUID

from pydicom._uid_dict import UID_dictionary

from overread.dicom import placement
from overread.dicom.attributes import Attributes
from overread.dicom.pixels import frame_image
from overread.dicom.scan import ScannedFile, meta_text, scan
from overread.domain.errors import InvalidDicom
from overread.domain.ids import uid_from_uuid
from overread.domain.image import ImageHeader, ImageInstance
from overread.domain.modality import NON_IMAGE
from overread.domain.study import InstanceRecord
from overread.services.values import DisplayWindow

_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_MODALITY, _PATIENT_ID, _IMAGE_TYPE = 0x00080060, 0x00100020, 0x00080008
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: What decides how PixelData reads: SamplesPerPixel, PhotometricInterpretation, PlanarConfiguration, NumberOfFrames,
#: Rows, Columns, BitsAllocated, BitsStored, HighBit, PixelRepresentation.
_PIXEL_RULES = (
    0x00280002,
    0x00280004,
    0x00280006,
    0x00280008,
    0x00280010,
    0x00280011,
    0x00280100,
    0x00280101,
    0x00280102,
    0x00280103,
)
#: ImageType (0008,0008) values of images that software computed from others.
_COMPUTED = frozenset({"MPR", "CSA MPR", "MPVR", "MIP", "CSA MIP", "MINIP", "REFORMATTED", "VRT", "CPR"})
#: ImageType values, or words of a SeriesDescription, of a page about the dose.
_DOSE_TYPES = frozenset({"SCREEN SAVE", "DOSE", "DOSE_INFO", "DOSE REPORT"})
_DOSE_WORDS = re.compile(r"\b(dose (report|info|summary)|patient protocol)\b", re.IGNORECASE)
#: Digits and dots. PS3.5 section 9 forbids leading zeros too, but archives are full of them and know them as they are.
_USABLE_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


class PydicomParser:
    """Reads DICOM files; stateless and safe to share between threads."""

    def index(self, data: bytes | memoryview, *, name: str) -> InstanceRecord:
        """See `index`."""
        return index(data, name=name)

    def image(
        self, data: bytes | memoryview, *, name: str, frame: int = 1, window: DisplayWindow | None = None
    ) -> ImageInstance:
        """See `image`."""
        return image(data, name=name, frame=frame, window=window)


def index(data: bytes | memoryview, *, name: str) -> InstanceRecord:
    """What the index keeps of a file. The pixels are hashed, never decoded.

    A UID that is missing, or is none (a GUID, a hash), is replaced by one under 2.25 that depends on the file's content
    alone, so that the same file gets the same UID whenever and by whomever it is sent; `warnings` says so:

    - any UID with an unusable text: from that text, so that a series stays one series;
    - SOPInstanceUID missing: from the series, InstanceNumber, ImagePositionPatient and the pixels (without pixels:
      the whole data set);
    - SeriesInstanceUID missing: from the study, Modality, SeriesNumber and SeriesDescription; without a study from the
      instance;
    - StudyInstanceUID missing: from issuer, PatientID, StudyDate and AccessionNumber or StudyID; without these from
      the series, and without one from the instance.

    A missing PatientID or Modality is "" or None, no error.

    Raises `InvalidDicom` (empty, not DICOM, cut off, broken, a DICOMDIR, no SOPClassUID), `PixelDataMismatch` (cut off
    in the pixels) and `TooLarge` (a deflate bomb).
    """
    file = scan(data, name)
    a = Attributes(file)
    sop_class = _sop_class(file, a)
    pixel_sha256 = _pixel_sha256(file, a)
    uids = _Uids(a, pixel_sha256)
    modality = a.text(_MODALITY).upper() or None
    return InstanceRecord(
        sop_instance_uid=uids.instance,
        sop_class_uid=sop_class,
        transfer_syntax_uid=file.transfer_syntax_uid,
        series_instance_uid=uids.series,
        study_instance_uid=uids.study,
        patient_id=a.text(_PATIENT_ID),
        issuer_of_patient_id=a.text(0x00100021),
        patient_name=a.text(0x00100010).rstrip("^= "),
        patient_birth_date=a.date(0x00100030),
        patient_sex=a.text(0x00100040).upper(),
        modality=modality,
        body_part=a.text(0x00180015).upper() or None,
        view_position=a.text(0x00185101).upper() or None,
        study_description=a.text(0x00081030),
        series_description=a.text(0x0008103E),
        accession_number=a.text(0x00080050),
        study_datetime=_study_moment(a),
        series_number=a.integer(0x00200011, b"IS"),
        instance_number=a.integer(0x00200013, b"IS"),
        rows=a.integer(0x00280010),
        columns=a.integer(0x00280011),
        number_of_frames=_frames(a),
        file_sha256=hashlib.sha256(data).hexdigest(),
        pixel_sha256=pixel_sha256,
        size_bytes=len(data),
        filed_only_reason=_filed_only(file, a, modality, sop_class),
        position_mm=placement.position(a.numbers(0x00200032, b"DS")),
        orientation=placement.orientation(a.numbers(0x00200037, b"DS")),
        warnings=uids.warnings,
    )


def image(data: bytes | memoryview, *, name: str, frame: int = 1, window: DisplayWindow | None = None) -> ImageInstance:
    """Header and a decoded frame (from 1), as a person would see it on a display.

    `window`, in units of the modality LUT (HU), takes the place of the file's own.

    Raises what `index` raises, and `NoPixelData`, `PixelDataMismatch`, `UnsupportedTransferSyntax`,
    `UnsupportedPixels`, `TooLarge` and `FrameNotFound` as `pixels.frame_image` says.
    """
    file = scan(data, name)
    a = Attributes(file)
    header = _header(file, a)
    shown = frame_image(file, a, header.number_of_frames, frame=frame - 1, window=window)
    return ImageInstance(header=header, image=shown)


def _header(file: ScannedFile, a: Attributes) -> ImageHeader:
    sop_class = _sop_class(file, a)
    # Only a missing SOPInstanceUID is derived from the pixels.
    uids = _Uids(a, "" if a.text(_SOP_INSTANCE) else _pixel_sha256(file, a))
    return ImageHeader(
        sop_instance_uid=uids.instance,
        series_instance_uid=uids.series,
        sop_class_uid=sop_class,
        modality=a.text(_MODALITY).upper() or None,
        body_part=a.text(0x00180015).upper() or None,
        view_position=a.text(0x00185101).upper() or None,
        image_type=a.texts(_IMAGE_TYPE),
        series_description=a.text(0x0008103E) or None,
        instance_number=a.integer(0x00200013, b"IS"),
        number_of_frames=_frames(a),
        photometric=a.text(0x00280004).upper() or None,
        burned_in=a.text(0x00280301).upper() == "YES",
    )


def _sop_class(file: ScannedFile, a: Attributes) -> str:
    uid = a.text(_SOP_CLASS) or meta_text(file, 0x00020002)
    if uid == _MEDIA_DIRECTORY:
        raise InvalidDicom(
            f"{file.name} is a DICOMDIR, an index of a medium, and holds no image.",
            remedy="Send the files that it lists.",
            file=file.name,
        )
    if not uid:
        raise InvalidDicom(
            f"{file.name} has no SOPClassUID (0008,0016), so nothing says what it is.",
            remedy="Export it again from its source as a DICOM instance.",
            file=file.name,
        )
    return uid


def _frames(a: Attributes) -> int:
    return max(a.integer(0x00280008, b"IS") or 1, 1)


def _study_moment(a: Attributes) -> datetime | None:
    """Study, then series, acquisition, content date and time: the first that is there."""
    pairs = ((0x00080020, 0x00080030), (0x00080021, 0x00080031), (0x00080022, 0x00080032), (0x00080023, 0x00080033))
    return next((moment for day, time in pairs if (moment := a.moment(day, time))), None)


def _pixel_sha256(file: ScannedFile, a: Attributes) -> str:
    """Of the pixels and what decides how they read; of an object without pixels, of its data set."""
    if file.pixel_tag is None:
        return hashlib.sha256(memoryview(file.body)[file.start :]).hexdigest()
    rules = [f"{tag:08X}={a.raw(tag).hex()}" for tag in _PIXEL_RULES]
    head = f"{file.transfer_syntax_uid};{file.pixel_tag:08X};{';'.join(rules)};"
    digest = hashlib.sha256(head.encode("ascii", "replace"))
    digest.update(a.view(file.pixel_tag))
    return digest.hexdigest()


class _Uids:
    """The three UIDs of an instance, replaced where they are unusable (see `index`)."""

    def __init__(self, a: Attributes, pixel_sha256: str) -> None:
        self._warnings: list[str] = []
        instance, series, study = a.text(_SOP_INSTANCE), a.text(_SERIES), a.text(_STUDY)
        patient = (a.text(0x00100021), a.text(_PATIENT_ID))
        visit = (a.text(0x00080020), a.text(0x00080050) or a.text(0x00200010))
        # Each seed is what identifies the thing where its own UID does not.
        study_seed = (*patient, *visit) if any(visit) and any(patient) else ("series", series) if series else ()
        series_seed = (study or study_seed, a.text(_MODALITY), a.text(0x00200011), a.text(0x0008103E))
        instance_seed = (series or series_seed, a.text(0x00200013), a.text(0x00200032), pixel_sha256)
        self.instance = self._usable("SOPInstanceUID", instance, instance_seed)
        alone = ("instance", self.instance)
        self.series = self._usable("SeriesInstanceUID", series, series_seed if study or study_seed else alone)
        self.study = self._usable("StudyInstanceUID", study, study_seed or alone)
        self.warnings = tuple(self._warnings)

    def _usable(self, keyword: str, uid: str, seed: tuple[object, ...]) -> str:
        if _USABLE_UID.fullmatch(uid) and len(uid) <= 64:
            return uid
        content = repr((keyword, uid) if uid else (keyword, "", seed))
        digest = hashlib.sha256(content.encode("utf-8", "replace")).digest()
        replacement = uid_from_uuid(UUID(bytes=digest[:16]))
        state = f"is no DICOM UID ({uid[:80]!r})" if uid else "is missing"
        self._warnings.append(f"{keyword} {state}; {replacement} stands in for it.")
        return replacement


def _filed_only(file: ScannedFile, a: Attributes, modality: str | None, sop_class: str) -> str | None:
    """Why an instance is filed and never analysed, as a sentence's rest; None for an image that can be."""
    image_type = a.texts(_IMAGE_TYPE)
    original = image_type[:2] == ("ORIGINAL", "PRIMARY")
    class_name = UID_dictionary.get(sop_class, ("",))[0]
    is_secondary_capture = sop_class == _SECONDARY_CAPTURE or sop_class.startswith(_SECONDARY_CAPTURE + ".")
    reason: str | None = None
    if modality in NON_IMAGE:
        reason = f"{modality} is no image"
    elif file.pixel_tag is None and class_name and "Image" not in class_name:
        reason = f"{class_name} is no image"
    elif a.text(0x00081090).upper() == "OVERREAD" and not original:
        reason = "our own output"
    elif "LOCALIZER" in image_type:
        reason = "a localizer"
    elif _DOSE_TYPES.intersection(image_type) or _DOSE_WORDS.search(a.text(0x0008103E)):
        reason = "a dose report"
    elif is_secondary_capture and image_type[:2] == ("DERIVED", "SECONDARY"):
        reason = "a derived secondary capture"
    elif image_type[:1] == ("DERIVED",) and _COMPUTED.intersection(image_type):
        reason = "an image computed from others"
    return reason
