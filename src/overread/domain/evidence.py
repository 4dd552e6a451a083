"""What a model was measured to be able to do: "power follows evidence" (DESIGN.md 5).

These values stand in a package's `card.toml`; `overread.inference.card` reads them. They decide what a finding may do:
below the tenant's bar it is shown as *exploratory*, with its figures, and changes no order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A measured proportion or AUC, 0..1, with its 95% confidence interval."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.value <= self.high <= 1.0:
            raise ValueError(f"not an interval within 0..1: {self.low}, {self.value}, {self.high}")


@dataclass(frozen=True, kw_only=True)
class EvidenceBar:
    """What the lower ends of the 95% intervals must reach before a finding may raise urgency or page anybody."""

    sensitivity: float = 0.90
    specificity: float = 0.85
    #: What a hospital decided for single findings, with a reason that is on record (keys of `domain.catalogue`).
    overrides: Mapping[str, EvidenceBar] = field(default_factory=dict)

    def of(self, finding: str) -> EvidenceBar:
        """The bar that counts for one finding."""
        return self.overrides.get(finding, self)

    @property
    def waived(self) -> bool:
        """Whether a finding may raise urgency without any measured figure."""
        return self.sensitivity <= 0.0 and self.specificity <= 0.0


#: What a hospital may decide besides figures of its own: the finding always raises urgency, or never does.
WAIVED = EvidenceBar(sensitivity=0.0, specificity=0.0)
UNREACHABLE = EvidenceBar(sensitivity=math.inf, specificity=math.inf)


@dataclass(frozen=True, kw_only=True)
class OutputEvidence:
    """One output of a model: its operating points and what they were measured to do on unseen patients."""

    #: Key of `domain.catalogue`.
    finding: str
    #: Calibrated confidence from which the finding is shown, 0..1.
    threshold_show: float
    #: Calibrated confidence from which it may raise urgency (if the evidence meets the bar), 0..1.
    threshold_raise: float
    #: Platt scaling of the logit: confidence = sigmoid(slope * logit + intercept).
    slope: float
    intercept: float
    #: Measured at `threshold_raise` on the test split.
    sensitivity: Interval
    specificity: Interval
    auc: Interval
    #: AUC that trivial cues (brightness, borders, file size) reach on the same images.
    cues_auc: float
    #: Test patients and images, positive images.
    patients: int
    images: int
    positives: int

    def may_raise(self, bar: EvidenceBar) -> bool:
        """Whether the lower ends of sensitivity and specificity meet the bar of this finding."""
        mine = bar.of(self.finding)
        return self.sensitivity.low >= mine.sensitivity and self.specificity.low >= mine.specificity


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Which model said it."""

    name: str
    version: str
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How pixels become a model's input tensor, float32 (1, channels, rows, columns). Read from the card."""

    #: Name of the ONNX input.
    name: str
    rows: int
    columns: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    #: Percentiles of the display values that are stretched to 0..1 before mean and std.
    percentiles: tuple[float, float] = (0.0, 100.0)
    #: How a frame that is not of the input's aspect is fitted: "stretch" or "pad".
    fit: str = "pad"
    extra: tuple[tuple[str, float], ...] = field(default=())
