"""The words of a file that say who the patient is, looked for in everything that would stay."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

#: Of these and of every PN each word counts: PatientID, IssuerOfPatientID, OtherPatientIDs, PatientBirthName,
#: PatientMotherBirthName, AccessionNumber, StudyID, AdmissionID, PatientAddress, PatientTelephoneNumbers,
#: MilitaryRank, MedicalRecordLocator, RequestedProcedureID, FillerOrderNumber, PlacerOrderNumber, ServiceEpisodeID.
_IDENTIFYING = frozenset(
    {
        0x00100020,
        0x00100021,
        0x00101000,
        0x00101005,
        0x00101060,
        0x00080050,
        0x00200010,
        0x00380010,
        0x00101040,
        0x00102154,
        0x00101080,
        0x00101090,
        0x00401001,
        0x00402017,
        0x00402016,
        0x00380060,
        0x00080080,
        0x00080081,
        0x00081010,
        0x00181000,
    }
)
#: InstitutionName, InstitutionAddress, StationName: "Chest Hospital" must not cost every CHEST; only the whole counts.
_WHOLE_ONLY = frozenset({0x00080080, 0x00080081, 0x00081010})
_BIRTH_DATE = 0x00100030
_SPLIT = re.compile(r"[\W_]+")
#: From this length on a word counts within another word too.
_WITHIN = 5
_SHORTEST = 2


class Identity:
    """What identifies the patient of one file (or those who treated them). Case makes no difference."""

    def __init__(self, words: Iterable[str]) -> None:
        folded = {word.casefold() for word in words if len(word) >= _SHORTEST}
        self._within = tuple(word for word in folded if len(word) >= _WITHIN)
        self._whole = frozenset(folded)

    @classmethod
    def of(cls, data: Dataset) -> Identity:
        """Collects from all levels of nesting."""
        words: set[str] = set()
        _collect(data, words)
        return cls(words)

    def in_text(self, text: str) -> bool:
        """Whether a word of the identity stands in `text`; long ones also within another word."""
        folded = text.casefold()
        if not self._whole:
            return False
        parts = {folded.strip(), *_SPLIT.split(folded)}
        return bool(parts & self._whole) or any(word in folded for word in self._within)

    def in_bytes(self, data: bytes) -> bool:
        """Whether a long word (eight characters and more, not digits alone) stands anywhere in `data`."""
        lower = data.lower()
        long = (word for word in self._within if len(word) >= 8 and not word.isdigit())
        return any(word.encode("utf-8") in lower or word.encode("utf-16-le") in lower for word in long)


def _collect(data: Dataset, words: set[str]) -> None:
    for element in data:
        if element.VR == "SQ":
            for item in element.value or ():
                _collect(item, words)
            continue
        if element.VR != "PN" and element.tag not in _IDENTIFYING and element.tag != _BIRTH_DATE:
            continue
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
        for text in (str(value).strip() for value in values if value):
            words.add(text)
            if element.tag not in _WHOLE_ONLY:
                # A letter or two of a middle name would cost half of the text.
                words.update(word for word in _SPLIT.split(text) if len(word) > _SHORTEST)
