"""Arrays -> DICOM images: DX (for presentation), CR and CT, uncompressed or in a compressed transfer syntax.

For phantoms, tests and load. Attributes follow PS3.3 A.26 (DX), A.2 (CR) and A.3 (CT); `dciodvfy -new` finds no error.
"""

from __future__ import annotations

import io
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID, uuid5

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from overread.dicom.jpeg_lossless import encode_jpeg_lossless
from overread.domain.ids import UID_ROOT, uid_from_uuid

#: Who wrote an object: ImplementationClassUID (0002,0012) and ImplementationVersionName (0002,0013).
IMPLEMENTATION_UID = f"{UID_ROOT}.{UUID('6f766572-7265-4164-8000-000000000001').int}"
IMPLEMENTATION_NAME = "OVERREAD"

_NAMESPACE = UUID("6f766572-7265-4164-8000-000000000002")
#: What every phantom says of itself.
PHANTOM_COMMENT = "PHANTOM - not a patient. Synthetic image, for tests and demonstration only."
PHANTOM_DESCRIPTION = "PHANTOM - not a patient"


class Syntax(StrEnum):
    """Transfer syntaxes that we can write; all are lossless."""

    IMPLICIT_LE = str(ImplicitVRLittleEndian)
    EXPLICIT_LE = str(ExplicitVRLittleEndian)
    RLE = str(RLELossless)
    JPEG_LS = str(JPEGLSLossless)
    JPEG_2000 = str(JPEG2000Lossless)
    #: JPEG Lossless, process 14, selection value 1.
    JPEG_LOSSLESS = str(JPEGLosslessSV1)


@dataclass(frozen=True, kw_only=True)
class ImageIdentity:
    """Whose image it is, and its place among studies and series."""

    #: StudyInstanceUID (0020,000D), SeriesInstanceUID (0020,000E), SOPInstanceUID (0008,0018).
    study_uid: str
    series_uid: str
    sop_uid: str
    #: PatientID (0010,0020), PatientName (0010,0010), PatientSex (0010,0040): M, F, O or "".
    patient_id: str
    patient_name: str
    patient_sex: str = ""
    #: PatientBirthDate (0010,0030); None when unknown.
    birth_date: date | None = None
    #: IssuerOfPatientID (0010,0021).
    issuer: str = ""
    #: When the study was made; written as local date and time of its own time zone.
    acquired: datetime
    accession_number: str = ""
    #: StudyDescription (0008,1030) and SeriesDescription (0008,103E).
    study_description: str = ""
    series_description: str = ""
    series_number: int = 1
    instance_number: int = 1
    #: No patient: marks the object in QualityControlImage (0028,0300), ImageComments (0020,4000), StudyDescription.
    phantom: bool = True


@dataclass(frozen=True, kw_only=True)
class RadiographAttributes:
    """How the pixels of a DX or CR image are to be read."""

    #: ViewPosition (0018,5101): PA, AP or LL.
    view: str
    #: ImagerPixelSpacing (0018,1164), mm between rows and columns.
    pixel_mm: float
    #: BitsStored (0028,0101).
    bits: int
    #: MONOCHROME1: the lowest value is white.
    inverted: bool = False
    #: BurnedInAnnotation (0028,0301): words in the image. A side marker alone is none.
    burned_in: bool = False


@dataclass(frozen=True, kw_only=True)
class CtAttributes:
    """Where a CT slice lies and how its pixels are to be read."""

    #: ImagePositionPatient (0020,0032): x, y, z of the first pixel's centre, mm, LPS.
    position: tuple[float, float, float]
    #: PixelSpacing (0028,0030) and SliceThickness (0018,0050), mm.
    pixel_mm: float
    slice_mm: float
    #: FrameOfReferenceUID (0020,0052), shared by the series.
    frame_uid: str
    kvp: float = 120.0
    #: ConvolutionKernel (0018,1210).
    kernel: str = "STANDARD"


def stable_uid(*parts: str, root: str = UID_ROOT) -> str:
    """A UID that depends on ``parts`` only: the same phantom sent again is the same object."""
    return uid_from_uuid(uuid5(_NAMESPACE, "\x1f".join(parts)), root)


def create_dx(pixels: npt.NDArray[np.uint16], identity: ImageIdentity, attributes: RadiographAttributes) -> Dataset:
    """A Digital X-Ray Image for presentation of uint16 ``pixels`` (rows, columns).

    Raises ValueError for pixels of another shape or type, or above ``attributes.bits``.
    """
    ds = _base(DigitalXRayImageStorageForPresentation, "DX", identity)
    _radiograph(ds, pixels, attributes)
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = 1 if attributes.inverted else -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.PresentationLUTShape = "INVERSE" if attributes.inverted else "IDENTITY"
    ds.LossyImageCompression = "00"
    ds.ImageLaterality = "U"
    ds.AnatomicRegionSequence = [_code(Code("43799004", "SCT", "Thorax"))]
    view, orientation = _VIEWS[attributes.view]
    ds.PatientOrientation = orientation
    code = _code(view)
    code.ViewModifierCodeSequence = []
    ds.ViewCodeSequence = [code]
    ds.PositionerType = ""
    ds.AcquisitionContextSequence = []
    ds.DetectorType = "DIRECT"
    ds.DetectorID = "PHANTOM"
    ds.DetectorElementSpacing = [_number(attributes.pixel_mm)] * 2
    ds.FieldOfViewShape = "RECTANGLE"
    return ds


def create_cr(pixels: npt.NDArray[np.uint16], identity: ImageIdentity, attributes: RadiographAttributes) -> Dataset:
    """A Computed Radiography image of uint16 ``pixels`` (rows, columns); see `create_dx`."""
    ds = _base(ComputedRadiographyImageStorage, "CR", identity)
    _radiograph(ds, pixels, attributes)
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.PatientOrientation = _VIEWS[attributes.view][1]
    ds.PlateID = "PHANTOM"
    return ds


def create_ct(hu: npt.NDArray[np.int16], identity: ImageIdentity, attributes: CtAttributes) -> Dataset:
    """One axial CT slice of int16 Hounsfield units (rows, columns), stored unsigned with an intercept of -1024.

    Raises ValueError for values outside -1024..3071 or another shape or type.
    """
    if hu.ndim != 2 or hu.dtype != np.int16:
        raise ValueError(f"expected int16 (rows, columns), got {hu.dtype} {hu.shape}")
    if hu.min() < -1024 or hu.max() > 3071:
        raise ValueError(f"Hounsfield units {hu.min()}..{hu.max()} outside -1024..3071")
    ds = _base(CTImageStorage, "CT", identity)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.BodyPartExamined = "CHEST"
    ds.PatientPosition = "HFS"
    ds.FrameOfReferenceUID = attributes.frame_uid
    ds.PositionReferenceIndicator = ""
    ds.ImagePositionPatient = [_number(v) for v in attributes.position]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SliceLocation = _number(attributes.position[2])
    ds.PixelSpacing = [_number(attributes.pixel_mm)] * 2
    ds.SliceThickness = _number(attributes.slice_mm)
    ds.SpacingBetweenSlices = _number(attributes.slice_mm)
    ds.KVP = _number(attributes.kvp)
    ds.ConvolutionKernel = attributes.kernel
    ds.AcquisitionNumber = 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = [40, -600], [400, 1500]
    ds.WindowCenterWidthExplanation = ["MEDIASTINUM", "LUNG"]
    _pixels(ds, (hu.astype(np.int32) + 1024).astype(np.uint16), bits=12, inverted=False)
    return ds


def encode(dataset: Dataset, syntax: Syntax = Syntax.EXPLICIT_LE) -> bytes:
    """``dataset`` as a DICOM file (PS3.10) in ``syntax``; the dataset itself is left as it was."""
    out = deepcopy(dataset)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out.file_meta = meta
    if syntax is Syntax.JPEG_LOSSLESS:
        encode_jpeg_lossless(out)
    elif syntax is Syntax.IMPLICIT_LE:
        meta.TransferSyntaxUID = ImplicitVRLittleEndian
        out["PixelData"].VR = "OW"
    elif syntax is not Syntax.EXPLICIT_LE:
        out.compress(UID(syntax.value), generate_instance_uid=False)
    buffer = io.BytesIO()
    out.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write(dataset: Dataset, path: Path, syntax: Syntax = Syntax.EXPLICIT_LE) -> None:
    """Write ``dataset`` as a DICOM file to ``path``."""
    path.write_bytes(encode(dataset, syntax))


_VIEWS: dict[str, tuple[Code, list[str]]] = {
    "PA": (codes.cid4010.PosteroAnterior, ["L", "F"]),
    "AP": (codes.cid4010.AnteroPosterior, ["L", "F"]),
    "LL": (codes.cid4010.LeftLateral, ["P", "F"]),
}


def _base(sop_class: UID, modality: str, identity: ImageIdentity) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, identity.sop_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = identity.study_uid, identity.series_uid
    ds.PatientID, ds.PatientName, ds.PatientSex = identity.patient_id, identity.patient_name, identity.patient_sex
    ds.PatientBirthDate = identity.birth_date.strftime("%Y%m%d") if identity.birth_date else ""
    if identity.issuer:
        ds.IssuerOfPatientID = identity.issuer
    day, time = identity.acquired.strftime("%Y%m%d"), identity.acquired.strftime("%H%M%S")
    for kind in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{kind}Date", day)
        setattr(ds, f"{kind}Time", time)
    ds.TimezoneOffsetFromUTC = identity.acquired.strftime("%z") or "+0000"
    ds.AccessionNumber = identity.accession_number
    ds.StudyID = "1"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = identity.study_description
    ds.SeriesDescription = identity.series_description
    ds.SeriesNumber, ds.InstanceNumber = identity.series_number, identity.instance_number
    ds.Modality = modality
    ds.Manufacturer, ds.ManufacturerModelName = "Overread", "phantom" if identity.phantom else ""
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1"
    if identity.phantom:
        ds.StudyDescription = f"{PHANTOM_DESCRIPTION}: {ds.StudyDescription}".removesuffix(": ")[:64]
        ds.QualityControlImage = "YES"
        ds.ImageComments = PHANTOM_COMMENT
        ds.PatientIdentityRemoved = "YES"
        ds.DeidentificationMethod = "Synthetic phantom"
    return ds


def _radiograph(ds: Dataset, pixels: npt.NDArray[np.uint16], attributes: RadiographAttributes) -> None:
    if pixels.ndim != 2 or pixels.dtype != np.uint16:
        raise ValueError(f"expected uint16 (rows, columns), got {pixels.dtype} {pixels.shape}")
    if not 8 < attributes.bits <= 16 or int(pixels.max()) >> attributes.bits:
        raise ValueError(f"{attributes.bits} bits do not hold values up to {pixels.max()} in 16-bit words")
    if attributes.view not in _VIEWS:
        raise ValueError(f"view must be one of {', '.join(_VIEWS)}, got {attributes.view!r}")
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = attributes.view
    ds.ImagerPixelSpacing = [_number(attributes.pixel_mm)] * 2
    ds.PixelSpacing = ds.ImagerPixelSpacing
    ds.PixelSpacingCalibrationType = "GEOMETRY"
    ds.PixelSpacingCalibrationDescription = "At the detector"
    ds.BurnedInAnnotation = "YES" if attributes.burned_in else "NO"
    ds.KVP = "120"
    width = 1 << attributes.bits
    ds.WindowCenter, ds.WindowWidth = [width // 2], [width]
    ds.WindowCenterWidthExplanation = ["FULL"]
    _pixels(ds, pixels, bits=attributes.bits, inverted=attributes.inverted)


def _pixels(ds: Dataset, pixels: npt.NDArray[np.uint16], *, bits: int, inverted: bool) -> None:
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits, bits - 1
    ds.PixelRepresentation = 0
    ds.PixelData = np.ascontiguousarray(pixels).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _number(value: float) -> str:
    """A decimal string (VR DS, at most 16 characters)."""
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0"
