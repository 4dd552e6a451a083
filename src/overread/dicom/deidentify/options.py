"""What is kept beyond the basic profile, and the codes that say so in the copy (PS3.16 CID 7050)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Dates(StrEnum):
    """What becomes of dates and times."""

    #: Earlier by a number of days that is the same for all files of a patient (PS3.15 E.3.6, modified dates).
    SHIFT = "shift"
    #: Emptied, removed or 1 January 1900, as the basic profile has it.
    REMOVE = "remove"
    #: As they are (PS3.15 E.3.6, full dates); the birth date goes all the same.
    KEEP = "keep"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of PS3.15 E.3 that are applied. Structured content and graphics are always cleaned, never kept."""

    dates: Dates = Dates.SHIFT
    #: Sex, age (90 and more: 90 years), size and weight stay (E.3.7).
    keep_characteristics: bool = False
    #: Words of a radiological vocabulary stay in descriptions (E.3.5); all others go.
    clean_descriptions: bool = False
    #: Private attributes of `allowed.SAFE_PRIVATE` stay (E.3.10).
    keep_safe_private: bool = False

    @property
    def methods(self) -> tuple[tuple[str, str], ...]:
        """(CodeValue, CodeMeaning) of DCM for DeidentificationMethodCodeSequence (0012,0064)."""
        codes = [
            ("113100", "Basic Application Confidentiality Profile"),
            ("113103", "Clean Graphics Option"),
            ("113104", "Clean Structured Content Option"),
        ]
        if self.clean_descriptions:
            codes.append(("113105", "Clean Descriptors Option"))
        if self.dates is Dates.KEEP:
            codes.append(("113106", "Retain Longitudinal Temporal Information Full Dates Option"))
        if self.dates is Dates.SHIFT:
            codes.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
        if self.keep_characteristics:
            codes.append(("113108", "Retain Patient Characteristics Option"))
        if self.keep_safe_private:
            codes.append(("113111", "Retain Safe Private Option"))
        return tuple(codes)

    @property
    def temporal(self) -> str:
        """LongitudinalTemporalInformationModified (0028,0303)."""
        return {Dates.SHIFT: "MODIFIED", Dates.REMOVE: "REMOVED", Dates.KEEP: "UNMODIFIED"}[self.dates]
