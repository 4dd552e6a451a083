"""What may stay although the table says nothing of it: text that describes the image or the machine, never the patient.

Table E.1-1 lists what to take away; whatever a hospital writes into any other text attribute would stay. Here it is the
other way round: text of an attribute that is not on this list is replaced, binary data are removed.
"""

from __future__ import annotations

import re
from typing import Final

from pydicom.datadict import tag_for_keyword


def _tags(keywords: str) -> frozenset[int]:
    found = {keyword: tag_for_keyword(keyword) for keyword in keywords.split()}
    unknown = [keyword for keyword, tag in found.items() if tag is None]
    if unknown:
        raise ValueError(f"no such attributes: {unknown}")
    return frozenset(tag for tag in found.values() if tag is not None)


#: LO, SH, ST, LT, UT, UC that may stay, if no part of the patient's identity is in them.
TEXT: Final = _tags(
    "Manufacturer ManufacturerModelName SoftwareVersions ConvolutionKernel FilterType RescaleType LUTExplanation"
    " WindowCenterWidthExplanation SequenceName PulseSequenceName ReceiveCoilName TransmitCoilName ImagedNucleus"
    " ResonantNucleus Radiopharmaceutical RadiopharmaceuticalRoute ReconstructionMethod AttenuationCorrectionMethod"
    " ScatterCorrectionMethod PositionReferenceIndicator DimensionDescriptionLabel StackID SegmentLabel"
    " SegmentAlgorithmName AlgorithmName AlgorithmVersion CodeValue LongCodeValue CodingSchemeDesignator"
    " CodingSchemeVersion CodeMeaning ModalityLUTType ProcessingFunction AcquisitionDeviceProcessingCode"
)
#: OB, OW, OF, OD, OL, OV that may stay: pixels (checked apart), look-up tables, waveforms, surfaces, spectra.
BINARY: Final = _tags(
    "PixelData FloatPixelData DoubleFloatPixelData RedPaletteColorLookupTableData GreenPaletteColorLookupTableData"
    " BluePaletteColorLookupTableData AlphaPaletteColorLookupTableData LUTData SegmentedRedPaletteColorLookupTableData"
    " SegmentedGreenPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData WaveformData SpectroscopyData"
    " PointCoordinatesData"
)
#: Code strings that are read by programs and never hold a name: not held against the patient's identity.
PROGRAM_WORDS: Final = _tags(
    "Modality PhotometricInterpretation ImageType ValueType RelationshipType ContinuityOfContent PatientPosition"
    " PresentationIntentType SegmentationType SegmentAlgorithmType GraphicType PixelPresentation Laterality"
    " ImageLaterality ViewPosition BodyPartExamined BurnedInAnnotation LossyImageCompression"
)
#: The basic profile takes them; option E.3.7 keeps them.
CHARACTERISTICS: Final = _tags("PatientSex PatientAge PatientSize PatientWeight PregnancyStatus SmokingStatus")
#: The basic profile takes them; option E.3.5 keeps their words of a radiological vocabulary.
DESCRIPTIONS: Final = _tags(
    "StudyDescription SeriesDescription ProtocolName RequestedProcedureDescription PerformedProcedureStepDescription"
    " AcquisitionProtocolDescription ContrastBolusAgent AcquisitionDeviceProcessingDescription"
)
#: Sequences whose items are cleaned one by one although the table says D: without them the object says nothing.
CLEANED_SEQUENCES: Final = _tags("ContentSequence GraphicAnnotationSequence")
#: They go whatever becomes of the other dates.
BIRTH_DATES: Final = _tags("PatientBirthDate PatientBirthTime PatientBirthDateInAlternativeCalendar")

#: How the codes of a scheme look. A code of any other scheme is a hospital's own: it goes, with its meaning.
SCHEMES: Final = {
    "DCM": re.compile(r"\d{4,6}"),
    "SCT": re.compile(r"\d{6,18}"),
    "SRT": re.compile(r"[A-Z]-[0-9A-F]{4,6}"),
    "SNM3": re.compile(r"[A-Z]-[0-9A-F]{4,6}"),
    "99SDM": re.compile(r"[A-Z]-[0-9A-F]{4,6}"),
    "LN": re.compile(r"\d{1,7}-\d"),
    "UCUM": re.compile(r"[A-Za-z0-9%/.{}\[\]*^'-]{1,16}"),
    "RADLEX": re.compile(r"RID\d{1,6}"),
    "FMA": re.compile(r"\d{1,6}"),
    "UMLS": re.compile(r"C\d{7}"),
    "99OVERREAD": re.compile(r"[A-Za-z0-9_.-]{1,16}"),
}

#: Private attributes without identity: (creator, element without its block, VR). Numbers only, so that no text slips
#: through; a part of table E.3.10-1.
SAFE_PRIVATE: Final = {
    ("Philips PET Private Group", 0x7053, 0x00): "DS",
    ("Philips PET Private Group", 0x7053, 0x09): "DS",
    ("GEMS_ACQU_01", 0x0019, 0x23): "DS",
    ("GEMS_ACQU_01", 0x0019, 0x24): "DS",
    ("GEMS_ACQU_01", 0x0019, 0x27): "DS",
    ("GEMS_PARM_01", 0x0043, 0x27): "SH",
    ("SIEMENS MR HEADER", 0x0019, 0x0A): "US",
    ("SIEMENS MR HEADER", 0x0019, 0x0B): "DS",
    ("SIEMENS MR HEADER", 0x0019, 0x0C): "IS",
    ("SIEMENS MR HEADER", 0x0019, 0x0E): "FD",
    ("SIEMENS MR HEADER", 0x0019, 0x27): "FD",
    ("SIEMENS MR HEADER", 0x0019, 0x28): "FD",
    ("Philips Imaging DD 001", 0x2001, 0x03): "FL",
}

_WORDS: Final = frozenset(
    """
    2d 3d abdomen abdominal adc adrenal angio angiography ankle anterior aorta ap apical arm arterial artery
    axial bassin becken bladder body bone bowel brain breast c cardiac carotid cavum cc cerebral cervical chest
    clavicle colon contrast cor coronal coronary cou cr cranial cspine ct cta delayed diffusion dwi dx elbow
    enhanced epaule erect esophagus exam expiration extremity face facial femur finger flair foot forearm full
    fuss gallbladder genou gradient hals hand head heart helical hip hires hr hrct humerus iac inspiration iv
    joint kidney kidneys knee knie kopf lat lateral left leg liver localizer low lower lumbar lung lunge lungs
    main mammo mammography mandible maxilla mediastinum mip mlo mpr mr mra mrcp mri multiphase nasal native neck
    nodule non oblique odontoid orbit orbits pa pancreas parenchyma pd pelvis perfusion pet phase pied plain
    portable portal post posterior poumon pre prostate pulmonary rachis radiograph radius recon renal rib ribs
    right routine sag sagittal scan schaedel schulter scout screening sella shoulder side sinus sinuses skull
    soft spine spiral spleen standard sternum stir supine swi t1 t1w t2 t2w temporal tete thick thin thoracic
    thorax tibia tissue tof topogram tra trauma ultrasound upper us uterus venous vessel view w whole window
    wirbelsaeule with without wo wrist xr xray
    """.split()  # noqa: SIM905
)
_WORD = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9]+")


def description(text: str) -> str:
    """`text` with the words of the vocabulary only; "" if none is in it.

    >>> description("CT CHEST for Mr Smith, 4711")
    'CT CHEST'
    """
    return " ".join(word for word in _WORD.findall(text) if word.lower() in _WORDS)
