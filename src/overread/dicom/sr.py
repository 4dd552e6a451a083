"""The DICOM Structured Report of an analysis: Comprehensive 3D SR, TID 1500, its own series in the patient's study.

PARTIAL and UNVERIFIED always: a radiologist has not seen it. It is written by a follow-up job, never while somebody
waits for the result.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import Comprehensive3DSR
from pydicom import Dataset, dcmwrite
from pydicom.uid import UID

from overread import __version__
from overread.dicom.create import ImageIdentity, RadiographAttributes, create_dx, encode
from overread.dicom.seg_content import OWN_SCHEME, SEGMENTATION_STORAGE
from overread.dicom.sr_content import report
from overread.dicom.sr_source import COPIED, ImageReference, Source, read_source
from overread.dicom.store_message import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from overread.domain.analysis import AnalysisOutcome, QualityAssessment, TriageDecision
from overread.domain.ids import new_uid, uuid7
from overread.domain.priority import Level
from overread.services.values import SegReference, SrRequest

SERIES_NUMBER = 99_001
SERIES_DESCRIPTION = "Overread AI findings, not diagnostic"


class _Document(Comprehensive3DSR):
    """highdicom's, without its own copy of patient and study: it fails on SOP classes that it does not know."""

    def copy_patient_and_study_information(self, dataset: Dataset) -> None:
        del dataset


class HighdicomSrWriter:
    """`services.ports.SrWriter`."""

    def warm_up(self) -> None:
        """highdicom reads its tables of the standard at the first document (up to a second): do that now."""
        identity = ImageIdentity(
            study_uid=new_uid(),
            series_uid=new_uid(),
            sop_uid=new_uid(),
            patient_id="",
            patient_name="",
            acquired=datetime(2000, 1, 1, tzinfo=UTC),
        )
        pixels = np.zeros((16, 16), dtype=np.uint16)
        image = encode(create_dx(pixels, identity, RadiographAttributes(view="PA", pixel_mm=1.0, bits=12)))
        self.write(
            SrRequest(
                analysis_id=uuid7(),
                outcome=AnalysisOutcome(
                    modality=None,
                    body_part=None,
                    findings=(),
                    not_assessed=(),
                    assessed=(),
                    quality=QualityAssessment(level=None, score=None),
                    triage=TriageDecision(urgency=Level.ROUTINE, reason=""),
                ),
                evidence=[image],
                sop_instance_uid=new_uid(),
                series_instance_uid=new_uid(),
                completed_at=identity.acquired,
                tracking_uids={},
            )
        )

    def write(self, report: SrRequest) -> bytes:
        """A DICOM file (Explicit VR Little Endian, UTF-8).

        Raises `InvalidDicom` if none of the evidence can be referred to.
        """
        ds = document(report)
        buffer = BytesIO()
        dcmwrite(buffer, ds, enforce_file_format=True)
        return buffer.getvalue()


def document(request: SrRequest) -> Dataset:
    """The report as a data set. Raises `InvalidDicom` if none of the evidence can be referred to."""
    source = read_source(request.evidence)
    # Times in DICOM are local time unless the object says otherwise, and the study's, copied here, do not.
    local = request.completed_at.astimezone()
    sr = _Document(
        evidence=[_evidence(source, image) for image in _referred_to(source, request.segmentation)],
        content=report(request.outcome, source, request.tracking_uids, request.segmentation),
        series_instance_uid=request.series_instance_uid,
        series_number=SERIES_NUMBER,
        sop_instance_uid=request.sop_instance_uid,
        instance_number=1,
        is_complete=False,
        is_final=False,
        is_verified=False,
        manufacturer="Overread",
        manufacturer_model_name="Overread",
        software_versions=__version__,
        device_serial_number=__version__,
        series_description=SERIES_DESCRIPTION,
        content_date=local.date(),
        content_time=local.time(),
        specific_character_set="ISO_IR 192",
        coding_schemes=[
            CodingSchemeIdentificationItem(
                designator=OWN_SCHEME, name="Overread finding types", responsible_organization="Overread"
            )
        ],
    )
    for keyword in COPIED:
        if keyword in source.header:
            setattr(sr, keyword, source.header[keyword].value)
    sr.SeriesDate = sr.InstanceCreationDate = sr.ContentDate
    sr.SeriesTime = sr.InstanceCreationTime = sr.ContentTime
    sr.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    sr.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return sr


def _referred_to(source: Source, segmentation: SegReference | None) -> tuple[ImageReference, ...]:
    """The images and the SEG."""
    if segmentation is None:
        return source.images
    seg = ImageReference(
        sop_class_uid=SEGMENTATION_STORAGE,
        sop_instance_uid=segmentation.sop_instance_uid,
        series_instance_uid=segmentation.series_instance_uid,
        rows=0,
        columns=0,
    )
    return (*source.images, seg)


def _evidence(source: Source, image: ImageReference) -> Dataset:
    """What highdicom wants of an image: the study's header and the image's identity."""
    ds = deepcopy(source.header)
    # A name of one component ("Aristotle") makes highdicom warn; `document` sets it afterwards.
    ds.PatientName = None
    ds.SOPClassUID = image.sop_class_uid
    ds.SOPInstanceUID = image.sop_instance_uid
    ds.SeriesInstanceUID = image.series_instance_uid
    return ds
