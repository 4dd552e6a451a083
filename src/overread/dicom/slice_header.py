"""What is needed of each CT slice to plan a volume, read from headers only: see `series_plan`."""

from __future__ import annotations

from dataclasses import dataclass

from overread.dicom import placement
from overread.dicom.attributes import Attributes
from overread.dicom.read import index
from overread.dicom.scan import scan
from overread.domain.modality import CT_CLASSES

_SHARED_GROUPS, _PER_FRAME_GROUPS = 0x52009229, 0x52009230
#: What can tell repeated slices at one position apart, in the order in which it is tried.
_DISTINCTIONS = (
    ("TemporalPositionIdentifier (0020,0100)", 0x00200100),
    ("NominalPercentageOfCardiacPhase (0020,9241)", 0x00209241),
    ("KVP (0018,0060)", 0x00180060),
    ("SliceThickness (0018,0050)", 0x00180050),
    ("ImageType (0008,0008)", 0x00080008),
    ("AcquisitionTime (0008,0032)", 0x00080032),
)
#: The same of an enhanced image's frame: with its functional group, and the VR of a number.
_FRAME_DISTINCTIONS = (
    ("TemporalPositionIndex (0020,9128)", 0x00209111, 0x00209128, b"UL"),
    ("StackID (0020,9056)", 0x00209111, 0x00209056, None),
    ("NominalPercentageOfCardiacPhase (0020,9241)", 0x00189118, 0x00209241, b"FD"),
    ("KVP (0018,0060)", 0x00189325, 0x00180060, b"DS"),
    ("FrameType (0008,9007)", 0x00189329, 0x00089007, None),
)


@dataclass(frozen=True, kw_only=True)
class SliceHeader:
    """One slice: an instance of CT, or a frame of an enhanced one. None where the file says nothing usable."""

    #: Which of the files, from 0, its name, and which frame of it, from 0.
    file: int
    name: str
    frame: int = 0
    #: Replaced where they are unusable, see `read.index`.
    sop_instance_uid: str
    series_instance_uid: str = ""
    #: FrameOfReferenceUID (0020,0052); "" if missing.
    frame_of_reference_uid: str = ""
    rows: int
    columns: int
    #: ImagePositionPatient (0020,0032), mm, LPS+.
    position: placement.Triple | None
    #: ImageOrientationPatient (0020,0037): unit vectors along a row, then along a column, at right angles.
    orientation: tuple[float, ...] | None
    #: PixelSpacing (0028,0030): between rows, between columns, mm.
    pixel_spacing: tuple[float, float] | None
    #: SliceThickness (0018,0050), mm.
    slice_thickness_mm: float | None = None
    #: GantryDetectorTilt (0018,1120), degrees.
    gantry_tilt_degrees: float | None = None
    #: RescaleSlope (0028,1053); None also if it is 0, which only an unfilled template has.
    slope: float | None
    #: RescaleIntercept (0028,1052).
    intercept: float | None
    #: RescaleType (0028,1054), upper case; "" if missing, which means HU for CT.
    rescale_type: str = ""
    #: ConvolutionKernel (0018,1210).
    kernel: str = ""
    #: AcquisitionNumber (0020,0012) or FrameAcquisitionNumber (0020,9156).
    acquisition: int | None = None
    #: InstanceNumber (0020,0013). Never sorts slices; tells repeated stacks apart where nothing else does.
    instance_number: int | None = None
    #: (keyword and tag, value) of what else can tell repeated slices apart.
    distinctions: tuple[tuple[str, str], ...] = ()
    #: Of the pixels of this slice; equal only for the same pixels.
    pixel_hash: str
    localizer: bool = False
    #: Why it can be no part of a volume, as a sentence's rest.
    excluded: str | None = None
    #: What was wrong with the UIDs.
    uid_warnings: tuple[str, ...] = ()


def headers_of(data: bytes | memoryview, *, name: str, file: int) -> list[SliceHeader]:
    """The slices of a file: one, or one for each frame that has functional groups.

    Raises what `read.index` raises: `InvalidDicom`, `PixelDataMismatch`, `TooLarge`.
    """
    record = index(data, name=name)
    scanned = scan(data, name)
    a = Attributes(scanned)
    excluded = record.filed_only_reason
    if record.modality != "CT" and record.sop_class_uid not in CT_CLASSES:
        excluded = f"{record.modality or 'an image of unknown modality'} is no CT"
    elif scanned.pixel_tag is None:
        excluded = excluded or "it has no pixels"
    shared = next(iter(a.items(_SHARED_GROUPS)), None)
    # As many as are there: a declared NumberOfFrames alone makes nothing.
    per_frame: list[Attributes | None] = [*a.items(_PER_FRAME_GROUPS, limit=record.number_of_frames)] or [None]
    image_type = a.texts(0x00080008)
    headers = []
    for frame, own in enumerate(per_frame):
        groups = _Groups(a, own, shared)
        position = groups.at(0x00209113).numbers(0x00200032, b"DS")
        transformation = groups.at(0x00289145)
        measures = groups.at(0x00289110)
        thickness = measures.number(0x00180050)
        content = groups.own(0x00209111)
        acquisition = None if content is None else content.integer(0x00209156)
        headers.append(
            SliceHeader(
                file=file,
                name=name,
                frame=frame,
                sop_instance_uid=record.sop_instance_uid,
                series_instance_uid=record.series_instance_uid,
                frame_of_reference_uid=a.text(0x00200052),
                rows=record.rows or 0,
                columns=record.columns or 0,
                position=placement.position(position),
                orientation=placement.orientation(groups.at(0x00209116).numbers(0x00200037, b"DS")),
                pixel_spacing=_spacing(measures.numbers(0x00280030, b"DS")),
                slice_thickness_mm=thickness if thickness and thickness > 0 else None,
                gantry_tilt_degrees=groups.at(0x00189304).number(0x00181120),
                slope=_bounded(transformation.number(0x00281053)) or None,
                intercept=_bounded(transformation.number(0x00281052)),
                rescale_type=transformation.text(0x00281054).upper(),
                kernel=groups.at(0x00189314).text(0x00181210),
                acquisition=a.integer(0x00200012, b"IS") if acquisition is None else acquisition,
                instance_number=record.instance_number,
                distinctions=groups.distinctions(),
                pixel_hash=f"{record.pixel_sha256}:{frame}",
                localizer="LOCALIZER" in image_type + groups.at(0x00189329).texts(0x00089007),
                excluded=excluded,
                uid_warnings=record.warnings,
            )
        )
    return headers


class _Groups:
    """The functional groups of a frame (PS3.3 C.7.6.16): its own, else the shared ones, else the file itself."""

    def __init__(self, a: Attributes, own: Attributes | None, shared: Attributes | None) -> None:
        self._a = a
        self._levels = [level for level in (own, shared) if level is not None]

    def own(self, tag: int) -> Attributes | None:
        """The item of a functional group; None if there is none."""
        return next((item for level in self._levels for item in level.items(tag)), None)

    def distinctions(self) -> tuple[tuple[str, str], ...]:
        """What can tell this frame from another at the same position."""
        found = [(label, self._a.text(tag)) for label, tag in _DISTINCTIONS if tag in self._a]
        for label, group, tag, kind in _FRAME_DISTINCTIONS:
            item = self.own(group)
            if item is not None and tag in item:
                found.append((label, item.text(tag) if kind is None else str(item.number(tag, kind))))
        return tuple(found)

    def at(self, tag: int) -> Attributes:
        """Where to look for the attributes of a functional group."""
        return self.own(tag) or self._a


def _bounded(value: float | None) -> float | None:
    return None if value is None or abs(value) > 1e6 else value


def _spacing(values: tuple[float, ...]) -> tuple[float, float] | None:
    if len(values) != 2 or not all(0.001 < value < 100 for value in values):
        return None
    return values[0], values[1]
