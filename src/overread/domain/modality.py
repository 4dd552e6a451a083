"""The specification's four modalities, and which DICOM Modality (0008,0060) belongs to which."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum


class Modality(StrEnum):
    """The wire's `Modality`."""

    XRAY = "X-ray"
    CT = "CT"
    MRI = "MRI"
    ULTRASOUND = "Ultrasound"


_BY_DICOM = {
    "CR": Modality.XRAY,
    "DX": Modality.XRAY,
    "RG": Modality.XRAY,
    "MG": Modality.XRAY,
    "CT": Modality.CT,
    "MR": Modality.MRI,
    "US": Modality.ULTRASOUND,
    "IVUS": Modality.ULTRASOUND,
}

#: DICOM modalities whose objects are filed, never analysed: reports, presentation states, segmentations, doses.
NON_IMAGE = frozenset(
    {"SR", "PR", "KO", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "DOC", "REG", "FID", "AU", "ECG", "PLAN"}
)

_QUIET = {
    Modality.XRAY: timedelta(0),
    Modality.ULTRASOUND: timedelta(0),
    Modality.CT: timedelta(seconds=30),
    Modality.MRI: timedelta(seconds=120),
}


def modality_of(dicom_modality: str | None) -> Modality | None:
    """The wire's modality of a DICOM one; None where the product has no word for it (or none was given)."""
    return _BY_DICOM.get((dicom_modality or "").strip().upper())


#: CT Image Storage, Enhanced CT Image Storage, Legacy Converted Enhanced CT Image Storage (PS3.4 B.5).
CT_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})


def is_ct(dicom_modality: str | None, sop_class_uid: str) -> bool:
    """Whether an image is a CT slice, or several: by its Modality, or by its SOP class where tags were stripped."""
    return modality_of(dicom_modality) is Modality.CT or (not dicom_modality and sop_class_uid in CT_CLASSES)


def quiet_period(modality: Modality | None) -> timedelta:
    """How long no instance may have come before a study of this modality counts as complete (DESIGN.md 3)."""
    return _QUIET.get(modality, timedelta(seconds=30)) if modality else timedelta(seconds=30)
