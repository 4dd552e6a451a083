"""Finding -> severity -> urgency, by a table that a tenant may edit, gated by evidence (DESIGN.md 5).

A finding changes the order only if its model's measured figures meet the tenant's bar (it is not *exploratory*) and its
confidence reaches the threshold to raise. Nothing in here lowers anything: the urgency of more findings is never less
than that of fewer, and a second triage never falls below the first. Hiding is not possible: every study has a decision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from overread.domain import catalogue
from overread.domain.analysis import Finding, TriageDecision
from overread.domain.evidence import EvidenceBar, Interval
from overread.domain.priority import Level

_IDENTITY = tuple((level, level) for level in Level)


@dataclass(frozen=True, kw_only=True)
class TriageTable:
    """What a tenant may edit: how severe each finding is, and how urgent a severity makes a study."""

    #: (finding type, severity); a finding that is not listed has the severity that its analyser gave it.
    severities: tuple[tuple[str, Level], ...] = ()
    #: (severity, urgency); a severity that is not listed stands for itself.
    urgencies: tuple[tuple[Level, Level], ...] = _IDENTITY

    @classmethod
    def from_catalogue(cls) -> TriageTable:
        """The default: severities of `domain.catalogue`, each as urgent as it is severe."""
        return cls(severities=tuple((entry.key, entry.severity) for entry in catalogue.ALL))

    def with_severities(self, changes: Mapping[str, Level]) -> TriageTable:
        """This table with some severities replaced."""
        return TriageTable(severities=tuple({**dict(self.severities), **changes}.items()), urgencies=self.urgencies)

    def severity(self, finding_type: str, default: Level = Level.ROUTINE) -> Level:
        return dict(self.severities).get(finding_type, default)

    def urgency(self, severity: Level) -> Level:
        return dict(self.urgencies).get(severity, severity)

    def urgency_of(self, finding: Finding) -> Level:
        """How urgent `finding` would make a study, were its evidence good enough."""
        return self.urgency(self.severity(finding.finding_type, finding.severity))


def may_raise(finding: Finding) -> bool:
    """Whether this finding may change the order: evidence meets the bar and the confidence is high enough."""
    return not finding.exploratory and finding.above_raise_threshold


def decide(
    findings: Iterable[Finding],
    *,
    table: TriageTable,
    bar: EvidenceBar,
    before: TriageDecision | None = None,
    nothing_assessed: str | None = None,
) -> TriageDecision:
    """The study's urgency and, in one line, why.

    `before` is an earlier decision on the same study: the result is never lower. `nothing_assessed` says why no image
    was assessed, if so.
    """
    decision = _decide(tuple(findings), table, bar, nothing_assessed)
    if before is not None and decision.urgency.rank < before.urgency.rank:
        return before
    return decision


def _decide(
    findings: tuple[Finding, ...], table: TriageTable, bar: EvidenceBar, nothing_assessed: str | None
) -> TriageDecision:
    raising = sorted((f for f in findings if may_raise(f)), key=lambda f: _pressing(f, table), reverse=True)
    if raising:
        first = raising[0]
        urgency = table.urgency_of(first)
        return TriageDecision(urgency=urgency, reason=_because(first, urgency, table, len(raising) - 1))
    held = max(findings, key=lambda f: _pressing(f, table), default=None)
    if held is not None:
        return TriageDecision(urgency=Level.ROUTINE, reason=f"Routine: {_held_back(held, bar)}")
    if nothing_assessed is not None:
        return TriageDecision(urgency=Level.ROUTINE, reason=f"Routine: not assessed, {nothing_assessed}")
    return TriageDecision(urgency=Level.ROUTINE, reason="Routine: no finding among those assessed")


def _pressing(finding: Finding, table: TriageTable) -> tuple[int, int, float]:
    severity = table.severity(finding.finding_type, finding.severity)
    return (table.urgency(severity).rank, severity.rank, finding.confidence)


def _because(finding: Finding, urgency: Level, table: TriageTable, others: int) -> str:
    severity = table.severity(finding.finding_type, finding.severity)
    source = f" ({finding.model or finding.method})"
    rule = "" if severity is urgency else f", a {severity} finding that counts as {urgency} here"
    more = f", and {others} more" if others else ""
    return f"{urgency.capitalize()}: {_says(finding)}{source}{rule}{more}"


def _held_back(finding: Finding, bar: EvidenceBar) -> str:
    if not finding.exploratory:
        return f"{_says(finding)} is below the confidence from which it may raise urgency"
    mine = bar.of(finding.finding_type)
    if math.isinf(mine.sensitivity):
        return f"{_says(finding)} changes no order: so this hospital decided"
    weak = [
        f"{name} {_figure(measured)} is below the bar of {wanted:.2f}"
        for name, measured, wanted in (
            ("sensitivity", finding.sensitivity, mine.sensitivity),
            ("specificity", finding.specificity, mine.specificity),
        )
        if measured is not None and measured.low < wanted
    ]
    why = f" ({' and '.join(weak)})" if weak else " (no measured figures)" if finding.sensitivity is None else ""
    return f"{_says(finding)} is exploratory{why} and changes no order"


def _says(finding: Finding) -> str:
    known = catalogue.is_known(finding.finding_type)
    name = catalogue.entry(finding.finding_type).name.lower() if known else finding.finding_type.replace("_", " ")
    # 0.996 is not certainty: never "1.00".
    return f"{name} {min(finding.confidence, 0.99):.2f}"


def _figure(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}–{interval.high:.2f}]"
