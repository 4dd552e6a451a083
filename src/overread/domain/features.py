"""Which AI a hospital lets run: the features of the specification, switched per modality, and what follows from it.

A switch of a modality overrides the general one; without any switch a feature is off. What runs for one study is a
`Features`, a frozen value that the pipeline is given: it reads only what is on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from overread.domain.analysis import AnalysisOutcome, Finding, QualityAssessment, TriageDecision
from overread.domain.modality import Modality
from overread.domain.priority import Level


class Feature(StrEnum):
    """The specification's `feature_key`."""

    ABNORMALITY_DETECTION = "abnormality_detection"
    PRIORITY_FLAGGING = "priority_flagging"
    AUTOMATED_MEASUREMENTS = "automated_measurements"
    PRIOR_COMPARISON = "prior_comparison"
    REPORT_GENERATION = "report_generation"
    QUALITY_ASSESSMENT = "quality_assessment"


class Category(StrEnum):
    """The specification's `category`."""

    DETECTION = "detection"
    MEASUREMENT = "measurement"
    REPORTING = "reporting"
    QUALITY = "quality"


@dataclass(frozen=True, kw_only=True)
class FeatureEntry:
    """What a feature is. The table `ai_features` holds the same words for whoever reads the database."""

    key: Feature
    name: str
    #: What is missing while it is off, one sentence.
    description: str
    category: Category
    #: Why it cannot be switched on, one sentence; "" for a feature that is there.
    missing: str = ""

    @property
    def exists(self) -> bool:
        """Whether this version has it."""
        return not self.missing


CATALOGUE: Final[tuple[FeatureEntry, ...]] = (
    FeatureEntry(
        key=Feature.ABNORMALITY_DETECTION,
        name="Abnormality detection",
        description="Looks for findings. While it is off, no study is analysed: it is stored and read by people alone.",
        category=Category.DETECTION,
    ),
    FeatureEntry(
        key=Feature.PRIORITY_FLAGGING,
        name="Priority flagging",
        description="Lets findings move a study up. While it is off, findings are shown and change no order.",
        category=Category.DETECTION,
    ),
    FeatureEntry(
        key=Feature.AUTOMATED_MEASUREMENTS,
        name="Automated measurements",
        description="Sizes, volumes, densities. While it is off, nothing measured is in results, reports and pages.",
        category=Category.MEASUREMENT,
    ),
    FeatureEntry(
        key=Feature.PRIOR_COMPARISON,
        name="Prior comparison",
        description="Compares a study with the patient's earlier ones.",
        category=Category.DETECTION,
        missing="This version does not compare with prior studies yet.",
    ),
    FeatureEntry(
        key=Feature.REPORT_GENERATION,
        name="Report generation",
        description="Drafts the radiologist's report.",
        category=Category.REPORTING,
        missing="This version does not draft reports yet.",
    ),
    FeatureEntry(
        key=Feature.QUALITY_ASSESSMENT,
        name="Quality assessment",
        description="Judges images and suggests repeats. While it is off, image quality is not assessed.",
        category=Category.QUALITY,
    ),
)

_ENTRIES: Final[Mapping[Feature, FeatureEntry]] = {entry.key: entry for entry in CATALOGUE}


def entry(feature: Feature) -> FeatureEntry:
    """Of the catalogue."""
    return _ENTRIES[feature]


@dataclass(frozen=True, kw_only=True)
class Switch:
    """What somebody decided: one row of `tenant_ai_features`."""

    feature: Feature
    #: None: all modalities that have no switch of their own.
    modality: Modality | None
    #: None: follows the general switch again (only with a modality).
    enabled: bool | None
    changed_by: str
    changed_at: datetime
    reason: str


_Key = tuple[Feature, Modality | None]


@dataclass(frozen=True, kw_only=True)
class Features:
    """All switches of a tenant at one moment."""

    switches: Mapping[_Key, Switch] = field(default_factory=dict)
    #: What holds where nobody decided.
    otherwise: bool = False

    @classmethod
    def of(cls, switches: Iterable[Switch]) -> Features:
        return cls(switches={(s.feature, s.modality): s for s in switches})

    def decided_by(self, feature: Feature, modality: Modality | None) -> Switch | None:
        """The switch that counts: the modality's own, else the general one."""
        own = self.switches.get((feature, modality)) if modality is not None else None
        return own if own is not None and own.enabled is not None else self.switches.get((feature, None))

    def on(self, feature: Feature, modality: Modality | None) -> bool:
        """Whether a feature runs for a modality; one that this version lacks never does."""
        if not entry(feature).exists:
            return False
        switch = self.decided_by(feature, modality)
        return self.otherwise if switch is None else bool(switch.enabled)

    def own(self, feature: Feature, modality: Modality) -> bool | None:
        """The modality's own switch; None where it follows the general one."""
        switch = self.switches.get((feature, modality))
        return None if switch is None else switch.enabled

    def why_off(self, feature: Feature, modality: Modality | None) -> str:
        """Sentence part: "abnormality detection is switched off for CT"; "" where it is on."""
        if self.on(feature, modality):
            return ""
        where = "" if modality is None else f" for {modality.value}"
        return f"{entry(feature).name.lower()} is switched off{where}"

    def lost_since(self, before: Features, modalities: Iterable[Modality | None]) -> frozenset[Feature]:
        """What was on `before` and is off now, for at least one of the modalities."""
        pairs = [(f, m) for f in Feature for m in modalities]
        return frozenset(f for f, m in pairs if before.on(f, m) and not self.on(f, m))


ALL_ON: Final = Features(otherwise=True)
"""For whoever analyses without a tenant: the command line, benchmarks."""

QUALITY_OFF: Final = "Image quality was not assessed: quality assessment is switched off."


def flagging_off(reason: str) -> TriageDecision:
    """The triage of a study whose findings may not move it up. `reason` as `Features.why_off` says it."""
    return TriageDecision(urgency=Level.ROUTINE, reason=f"Routine: {reason}; findings are shown and change no order")


#: A sentence with a measured quantity in it; "0.5 mm" has a full stop that ends nothing.
_MEASURED = re.compile(r"[^.!?]*?\d(?:[^.!?]|\.\d)*?(?:mm|cm|mL|ml|HU)\b(?:[^.!?]|\.\d)*[.!?]\s*")


def unmeasured(finding: Finding) -> Finding:
    """The finding without the sentences of its description that say a size, a volume or a density."""
    return replace(finding, description=_MEASURED.sub("", finding.description).strip())


def without(outcome: AnalysisOutcome, lost: Iterable[Feature]) -> AnalysisOutcome:
    """A result without what was switched off while it was made.

    `abnormality_detection` is no matter of this function: without it there is no result at all.
    """
    gone = frozenset(lost)
    if Feature.AUTOMATED_MEASUREMENTS in gone:
        findings = tuple(unmeasured(finding) for finding in outcome.findings)
        outcome = replace(outcome, measurements=(), findings=findings)
    if Feature.QUALITY_ASSESSMENT in gone:
        outcome = replace(outcome, quality=QualityAssessment(level=None, score=None, recommendations=QUALITY_OFF))
    if Feature.PRIORITY_FLAGGING in gone and outcome.triage.urgency is not Level.ROUTINE:
        outcome = replace(outcome, triage=flagging_off("priority flagging is switched off"))
    return outcome


class WhyNot(StrEnum):
    """Why a study was not analysed; stored."""

    FEATURE_DISABLED = "feature_disabled"
    PATIENT_OBJECTED = "patient_objected"


@dataclass(frozen=True, kw_only=True)
class NotAnalysed:
    """A study that the AI did not read, on purpose."""

    why: WhyNot
    #: For a person: which feature, switched off by whom and when; or that the patient objected.
    sentence: str
    since: datetime
    feature: Feature | None = None
    modality: Modality | None = None
