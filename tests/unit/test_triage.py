"""Triage never lowers, is monotonic, and an exploratory finding never changes the order."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.domain import catalogue
from overread.domain.analysis import Finding, TriageDecision
from overread.domain.evidence import EvidenceBar, Interval, ModelIdentity
from overread.domain.priority import Level
from overread.pipeline.triage import TriageTable, decide, may_raise

BAR = EvidenceBar()
TABLE = TriageTable.from_catalogue()
CHEST = ModelIdentity(name="chest_xray", version="1.0.0")


def finding(
    kind: str = "pneumothorax", confidence: float = 0.91, *, exploratory: bool = False, above: bool = True
) -> Finding:
    return Finding(
        id=UUID(int=1),
        finding_type=kind,
        severity=catalogue.entry(kind).severity,
        confidence=confidence,
        sop_instance_uid="1.2",
        model=CHEST,
        exploratory=exploratory,
        above_raise_threshold=above,
        sensitivity=Interval(value=0.71, low=0.62, high=0.79)
        if exploratory
        else Interval(value=0.95, low=0.92, high=1),
        specificity=Interval(value=0.93, low=0.90, high=0.96),
    )


kinds = st.sampled_from([entry.key for entry in catalogue.ALL])
any_finding = st.builds(finding, kinds, st.floats(0, 1), exploratory=st.booleans(), above=st.booleans())
tables = st.builds(
    TriageTable,
    severities=st.lists(st.tuples(kinds, st.sampled_from(Level)), max_size=5).map(tuple),
    urgencies=st.lists(st.tuples(st.sampled_from(Level), st.sampled_from(Level)), max_size=3).map(tuple),
)


@pytest.mark.parametrize(
    ("findings", "urgency", "reason"),
    [
        ([finding()], Level.CRITICAL, "Critical: pneumothorax 0.91 (chest_xray 1.0.0)"),
        (
            [finding("atelectasis", 0.95), finding(), finding("pleural_effusion")],
            Level.CRITICAL,
            "Critical: pneumothorax 0.91 (chest_xray 1.0.0), and 2 more",
        ),
        (
            [finding("pneumothorax", 0.62, exploratory=True)],
            Level.ROUTINE,
            "Routine: pneumothorax 0.62 is exploratory (sensitivity 0.71 [0.62–0.79] is below the bar of 0.90) "
            "and changes no order",
        ),
        (
            [finding("pneumothorax", 0.4, above=False)],
            Level.ROUTINE,
            "Routine: pneumothorax 0.40 is below the confidence from which it may raise urgency",
        ),
        (
            [replace(finding(exploratory=True), sensitivity=None, specificity=None)],
            Level.ROUTINE,
            "Routine: pneumothorax 0.91 is exploratory (no measured figures) and changes no order",
        ),
        (
            [replace(finding(confidence=0.999), finding_type="gall_stone", model=None, method="threshold")],
            Level.CRITICAL,
            "Critical: gall stone 0.99 (threshold)",
        ),
        ([], Level.ROUTINE, "Routine: no finding among those assessed"),
    ],
)
def test_one_line_says_why(findings, urgency, reason):
    decision = decide(findings, table=TABLE, bar=BAR)
    assert (decision.urgency, decision.reason) == (urgency, reason)


def test_a_study_that_was_not_assessed_says_so():
    decision = decide([], table=TABLE, bar=BAR, nothing_assessed="no analyser is installed for CT yet")
    assert decision.reason == "Routine: not assessed, no analyser is installed for CT yet"


def test_a_tenants_table_decides():
    table = TABLE.with_severities({"pneumothorax": Level.URGENT})
    assert decide([finding()], table=table, bar=BAR).urgency is Level.URGENT
    softer = TriageTable(severities=TABLE.severities, urgencies=((Level.CRITICAL, Level.URGENT),))
    decision = decide([finding()], table=softer, bar=BAR)
    assert decision.reason == (
        "Urgent: pneumothorax 0.91 (chest_xray 1.0.0), a critical finding that counts as urgent here"
    )


def test_the_default_table_is_the_catalogue():
    for entry in catalogue.ALL:
        assert TABLE.severity(entry.key) is entry.severity
        assert TABLE.urgency(entry.severity) is entry.severity


@given(st.lists(any_finding, max_size=6), any_finding, tables)
def test_one_more_finding_never_lowers(findings, more, table):
    fewer = decide(findings, table=table, bar=BAR).urgency.rank
    assert decide([*findings, more], table=table, bar=BAR).urgency.rank >= fewer


@given(st.lists(any_finding, max_size=6), any_finding, tables)
def test_what_may_not_raise_changes_no_order(findings, more, table):
    for held in (replace(more, exploratory=True), replace(more, above_raise_threshold=False)):
        assert not may_raise(held)
        assert decide([*findings, held], table=table, bar=BAR).urgency is decide(findings, table=table, bar=BAR).urgency


@given(st.lists(any_finding, max_size=6), st.sampled_from(Level), tables)
def test_a_second_triage_never_falls_below_the_first(findings, level, table):
    before = TriageDecision(urgency=level, reason="first")
    after = decide(findings, table=table, bar=BAR, before=before)
    assert after.urgency.rank >= level.rank
    if after.urgency.rank > level.rank:
        assert after.reason != "first"


@given(st.lists(any_finding, max_size=6), tables)
def test_order_of_findings_does_not_matter_and_the_reason_is_one_line(findings, table):
    decision = decide(findings, table=table, bar=BAR)
    assert decide(findings[::-1], table=table, bar=BAR).urgency is decision.urgency
    assert decision.reason.startswith(f"{decision.urgency.capitalize()}: ")
    assert "\n" not in decision.reason


@given(st.lists(any_finding, max_size=6))
def test_with_the_default_table_urgency_is_the_worst_raising_severity(findings):
    worst = max((f.severity.rank for f in findings if may_raise(f)), default=0)
    assert decide(findings, table=TABLE, bar=BAR).urgency.rank == worst
