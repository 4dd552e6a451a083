"""The header: a new data set is built of what may stay, so that what nobody thought of is not in it.

Order of the rules for one element: private and retired groups go; the table's action; then, for what the table does not
name, the VR decides (numbers stay, code strings and dates must look like ones, text and binary data must be on the list
of `allowed`). Last, whatever text would stay must hold no word of the patient's identity.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from overread.dicom.deidentify import allowed, values
from overread.dicom.deidentify.identity import Identity
from overread.dicom.deidentify.options import Dates, Options
from overread.dicom.deidentify.pseudonyms import Pseudonyms
from overread.dicom.deidentify.table import Action, basic_profile

_PATIENT_NAME, _PATIENT_ID, _ISSUER, _STUDY = 0x00100010, 0x00100020, 0x00100021, 0x0020000D
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_CHARACTER_SET, _TIME_ZONE = 0x00080005, 0x00080201
_CODE_VALUES, _SCHEME, _MEANING = (0x00080100, 0x00080119, 0x00080120), 0x00080102, 0x00080104
_CODE_TAGS = frozenset({*_CODE_VALUES, _SCHEME, 0x00080103, _MEANING})
#: How deep sequences may lie in each other; `scan` has refused more before.
_MAX_DEPTH = 64
#: What pydicom is known to raise on a value that is none.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, NotImplementedError, struct.error)


class DatasetCleaner:
    """Cleans the header of one file; `removed`, `replaced`, `emptied` and `kept` count its elements by tag."""

    def __init__(self, data: Dataset, options: Options, pseudonyms: Pseudonyms) -> None:
        self._data = data
        self._options = options
        self._pseudonyms = pseudonyms
        self._identity = Identity.of(data)
        self._patient = patient_key(data)
        self._shift: timedelta = pseudonyms.shift(self._patient)
        self.removed: Counter[str] = Counter()
        self.replaced: Counter[str] = Counter()
        self.emptied: Counter[str] = Counter()
        self.kept = 0

    @property
    def identity(self) -> Identity:
        """What was looked for."""
        return self._identity

    def clean(self) -> Dataset:
        """The new data set, without its pixels and file meta information."""
        new = self._clean(self._data, depth=0, strict=False)
        options, pseudonym = self._options, self._pseudonyms.patient(self._patient)
        new.SpecificCharacterSet = "ISO_IR 192"
        new.PatientName = pseudonym
        new.PatientID = pseudonym
        new.PatientIdentityRemoved = "YES"
        new.DeidentificationMethod = ["Overread, DICOM PS3.15 2026c E.1", "Basic profile and stricter"]
        new.DeidentificationMethodCodeSequence = Sequence([_code(*code) for code in options.methods])
        new.LongitudinalTemporalInformationModified = options.temporal
        return new

    def _clean(self, data: Dataset, *, depth: int, strict: bool) -> Dataset:
        new = Dataset()
        safe_codes = not strict and _codes_are_standard(data)
        for tag in sorted(data.keys()):
            try:
                # Values are converted only here, one by one.
                element = data[tag]
                made = self._element(element, data, depth=depth, strict=strict, safe_codes=safe_codes)
            except UNREADABLE:
                made = None
            if made is None:
                self.removed[_name(int(tag))] += 1
            else:
                new.add(made)
        return new

    def _element(
        self, element: DataElement, data: Dataset, *, depth: int, strict: bool, safe_codes: bool
    ) -> DataElement | None:
        tag, vr = int(element.tag), str(element.VR)
        group = tag >> 16
        if group % 2 == 1:
            return self._private(element, data)
        if tag in _PIXEL_TAGS and depth == 0:
            # Put back by `pixels`, which knows how long they have to be.
            return None
        if tag in (_CHARACTER_SET, _TIME_ZONE) or tag & 0xFFFF == 0 or group <= 0x0007 or group == 0xFFFC:
            return None
        if 0x5000 <= group <= 0x60FF and group not in (0x5200, 0x5400, 0x5600):
            return None
        if not dictionary_has_tag(tag) or vr not in dictionary_VR(tag).split(" or "):
            return None
        action = basic_profile().get(tag)
        if vr == "SQ":
            return self._sequence(element, action, depth=depth, strict=strict)
        if element.is_empty:
            return None if action is Action.REMOVE else self._keep(element)
        if vr == "UI":
            return self._uids(element, action)
        if tag in allowed.CHARACTERISTICS and self._options.keep_characteristics:
            return self._characteristic(element)
        if tag in allowed.DESCRIPTIONS and self._options.clean_descriptions:
            return self._description(element, action)
        if vr in values.DATES and self._options.dates is not Dates.REMOVE and tag not in allowed.BIRTH_DATES:
            return self._date(element, action)
        if action is not None:
            return self._act(element, action)
        if tag in _CODE_TAGS and not safe_codes:
            return self._replace(element, "99REMOVED" if tag == _SCHEME else values.dummy(vr))
        return self._unnamed(element)

    # --- by kind ------------------------------------------------------------------------------------------

    def _private(self, element: DataElement, data: Dataset) -> DataElement | None:
        """Only the numbers of `allowed.SAFE_PRIVATE`, and the creator of their block."""
        if not self._options.keep_safe_private:
            return None
        group, number = int(element.tag) >> 16, int(element.tag) & 0xFFFF
        if number < 0x100:
            known = str(element.value).strip()
            safe = any(creator == known and g == group for creator, g, _ in allowed.SAFE_PRIVATE)
            return DataElement(element.tag, "LO", known) if safe else None
        creator = _plain(data, group << 16 | number >> 8)
        vr = allowed.SAFE_PRIVATE.get((creator, group, number & 0xFF))
        if vr is None or str(element.VR) != vr:
            return None
        shape = "DS" if vr == "SH" else vr
        if vr not in values.NUMBERS and not all(values.fits(shape, text) for text in _texts(element)):
            return None
        return self._keep(element)

    def _sequence(self, element: DataElement, action: Action | None, *, depth: int, strict: bool) -> DataElement | None:
        name = _name(int(element.tag))
        if action is Action.REMOVE or depth >= _MAX_DEPTH:
            return None
        if action is Action.ZERO:
            self.emptied[name] += 1
            return DataElement(element.tag, "SQ", Sequence())
        # What the table wants replaced identifies by its codes too, except where it is the object itself.
        inner = strict or (action is Action.DUMMY and int(element.tag) not in allowed.CLEANED_SEQUENCES)
        items = [self._clean(item, depth=depth + 1, strict=inner) for item in element.value or ()]
        return DataElement(element.tag, "SQ", Sequence(items))

    def _uids(self, element: DataElement, action: Action | None) -> DataElement | None:
        """UIDs that PS3.6 knows stay; every other becomes another one, whatever attribute it stands in."""
        if action is Action.REMOVE:
            return None
        old = _texts(element)
        new = [uid if uid in UID_dictionary else self._pseudonyms.uid(uid) for uid in old]
        if new == old:
            return self._keep(element)
        return self._replace(element, new if len(new) > 1 else new[0])

    def _characteristic(self, element: DataElement) -> DataElement | None:
        vr, texts = str(element.VR), _texts(element)
        if vr in values.NUMBERS:
            return self._keep(element)
        if vr not in ("DS", "IS", "CS", "AS") or not all(values.fits(vr, text) for text in texts):
            return None
        if vr == "AS":
            return self._replace(element, values.capped_age(texts[0]))
        return self._keep(element)

    def _description(self, element: DataElement, action: Action | None) -> DataElement | None:
        words = allowed.description(" ".join(_texts(element)))
        limit = 16 if str(element.VR) == "SH" else 64
        if words and not self._identity.in_text(words):
            return self._replace(element, words[:limit].strip())
        return self._act(element, action or Action.DUMMY)

    def _date(self, element: DataElement, action: Action | None) -> DataElement | None:
        if int(element.tag) >> 16 == 0x0010:
            # Of birth, death, last menstruation: of the patient, not of the examination.
            return self._act(element, action or Action.REMOVE)
        vr, texts = str(element.VR), _texts(element)
        by = self._shift if self._options.dates is Dates.SHIFT else timedelta(0)
        moved = [values.shifted(vr, text, by) for text in texts]
        if any(text is None for text in moved):
            return self._act(element, action or Action.DUMMY)
        if moved == texts:
            return self._keep(element)
        return self._replace(element, moved if len(moved) > 1 else moved[0])

    def _act(self, element: DataElement, action: Action) -> DataElement | None:
        if action is Action.REMOVE:
            return None
        if action is Action.ZERO:
            self.emptied[_name(int(element.tag))] += 1
            return DataElement(element.tag, element.VR, None)
        return self._replace(element, values.dummy(str(element.VR)))

    def _unnamed(self, element: DataElement) -> DataElement | None:
        """What table E.1-1 does not name."""
        tag, vr = int(element.tag), str(element.VR)
        if vr in values.NUMBERS or vr == "AT":
            return self._keep(element)
        if vr in values.BINARY:
            return self._keep(element) if tag in allowed.BINARY and isinstance(element.value, bytes) else None
        texts = _texts(element)
        if vr in ("DS", "IS", "CS", "AS"):
            good = all(values.fits(vr, text) for text in texts)
            if vr == "CS" and tag not in allowed.PROGRAM_WORDS:
                good = good and not any(self._identity.in_text(text) for text in texts)
            return self._keep(element) if good else self._replace(element, values.dummy(vr))
        if vr in values.TEXTS and tag in allowed.TEXT and not any(self._identity.in_text(text) for text in texts):
            return self._keep(element)
        return self._replace(element, values.dummy(vr))

    def _keep(self, element: DataElement) -> DataElement:
        self.kept += 1
        return DataElement(element.tag, element.VR, element.value)

    def _replace(self, element: DataElement, value: Any) -> DataElement:
        self.replaced[_name(int(element.tag))] += 1
        return DataElement(element.tag, element.VR, value)


def patient_key(data: Dataset) -> tuple[str, ...]:
    """Who a patient is: PatientID and its issuer; without an ID the study, so that two such are never taken for one."""
    read: Callable[[int], str] = lambda tag: _plain(data, tag)  # noqa: E731
    number = read(_PATIENT_ID)
    return (read(_ISSUER), number) if number else ("no PatientID", read(_STUDY), read(_PATIENT_NAME))


def _plain(data: Dataset, tag: int) -> str:
    try:
        return "" if tag not in data or data[tag].is_empty else str(data[tag].value).strip()
    except UNREADABLE:
        return ""


def _codes_are_standard(data: Dataset) -> bool:
    """Whether a code stands in a known scheme and looks like one of it; True where there is no code."""
    if _MEANING not in data and not any(tag in data for tag in _CODE_VALUES):
        return True
    looks = allowed.SCHEMES.get(_plain(data, _SCHEME))
    value = next((text for tag in _CODE_VALUES if (text := _plain(data, tag))), "")
    return looks is not None and looks.fullmatch(value) is not None


def _texts(element: DataElement) -> list[str]:
    """The values as they were written, as far as pydicom kept that."""
    listed = element.value if isinstance(element.value, MultiValue | list | tuple) else [element.value]
    return [str(getattr(value, "original_string", value)) for value in listed]


def _name(tag: int) -> str:
    """As reports name an attribute: (0010,0010) PatientName."""
    known = keyword_for_tag(tag) if (tag >> 16) % 2 == 0 else "private"
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {known or 'unknown'}"


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning[:64]
    return item
