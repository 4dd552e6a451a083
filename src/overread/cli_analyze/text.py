"""Results in plain words for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from overread.domain.analysis import AnalysisStatus
from overread.domain.priority import Level
from overread.domain.texts import DISCLAIMER, NO_FINDING
from overread.http.wire import AnalysisResult, Finding, Measurement, QualityAssessment

_COLOUR = {Level.CRITICAL: "bold red", Level.URGENT: "yellow", Level.ROUTINE: "green"}

#: What people write for a UCUM code.
_UNITS = {"[hnsf'U]": "HU"}


def words(results: Sequence[AnalysisResult]) -> RenderableType:
    """One study in detail, several as a table with a row each; the disclaimer below."""
    parts = list(_detail(results[0])) if len(results) == 1 else [_overview(results)] if results else []
    return Group(*parts, "", DISCLAIMER)


def _overview(results: Sequence[AnalysisResult]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption="* exploratory: measured too weak to change any order")
    for heading in ("Study", "Urgency", "Findings (confidence)", "Seconds"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "Seconds" else "left")
    for result in results:
        table.add_row(escape(_label(result)), _urgency(result), _summary(result), _seconds(result))
    return table


def _summary(result: AnalysisResult) -> str:
    if result.status is AnalysisStatus.FAILED:
        return f"[red]failed[/]: {escape(result.error_message or '')}"
    if result.findings:
        found: dict[str, list[Finding]] = {}
        for finding in result.findings:
            found.setdefault(finding.name, []).append(finding)
        return ", ".join(_counted(max(group, key=lambda f: f.confidence_score), len(group)) for group in found.values())
    return NO_FINDING if result.assessed else f"Not assessed: {escape(_why_not(result))}"


def _counted(finding: Finding, count: int) -> str:
    """ "3 x Lung nodule 0.81*": the surest of its kind."""
    times = f"{count} x " if count > 1 else ""
    return f"{times}{finding.name} {_confidence(finding)}{'*' if finding.exploratory else ''}"


def _detail(result: AnalysisResult) -> Iterator[RenderableType]:
    kind = " ".join(part for part in (result.modality or "unknown modality", result.body_part) if part)
    yield f"[bold]{escape(_label(result))}[/] · {escape(kind)} · {_seconds(result)} s"
    yield f"[{_COLOUR[result.priority]}]{escape(result.triage.reason)}[/]"
    if result.status is AnalysisStatus.FAILED:
        yield f"[red]Failed[/] ({result.error_code}): {escape(result.error_message or '')}"
    if result.findings:
        yield _findings(result)
    elif result.assessed:
        yield NO_FINDING
    if of_none := [m for m in result.measurements if m.finding_id is None]:
        yield _measurements(of_none)
    if result.assessed:
        yield "Assessed: " + ", ".join(a.name for a in result.assessed)
    yield from _not_assessed(result)
    if result.quality_assessment is not None:
        yield from _quality(result.quality_assessment)
    for problem in result.problems:
        yield f"[red]{problem.code}[/]: {escape(problem.message)}"


def _quality(quality: QualityAssessment) -> Iterator[str]:
    repeat = " · [yellow]repeat suggested[/]" if quality.flagged_for_repeat else ""
    score = "" if quality.quality_score is None else f" ({quality.quality_score:.2f})"
    yield f"Quality: {quality.overall_quality or 'not assessed'}{score}{repeat}"
    for issue in quality.issues:
        yield f"  {issue.severity}: {escape(issue.description)}"
    if quality.recommendations:
        yield f"  {escape(quality.recommendations)}"


def _findings(result: AnalysisResult) -> Table:
    """With what was measured of each."""
    measured = any(m.finding_id is not None for m in result.measurements)
    table = Table(box=box.SIMPLE_HEAD)
    headings = ["Finding", "Severity", "Confidence", "Where (x, y, width, height)", "Evidence"]
    for heading in [*headings[:-1], "Measured", headings[-1]] if measured else headings:
        table.add_column(heading, overflow="fold")
    for f in result.findings:
        where = (
            f"{f.bounding_box.x}, {f.bounding_box.y}, {f.bounding_box.width}, {f.bounding_box.height}"
            if f.bounding_box
            else "not located"
        )
        if f.slice_number is not None:
            where = f"slice {f.slice_number}: {where}"
        colour = _COLOUR[f.severity]
        sizes = "\n".join(
            f"{_short(m.measurement_type, f.finding_type)} {_value(m)}"
            for m in result.measurements
            if m.finding_id == f.id
        )
        row = [f.name, f"[{colour}]{f.severity}[/]", _confidence(f), where, _evidence(f)]
        table.add_row(*([*row[:-1], sizes, row[-1]] if measured else row))
    return table


def _short(measurement_type: str, finding_type: str) -> str:
    """ "nodule_longest_diameter" of a lung_nodule is its "longest diameter"."""
    words = measurement_type.split("_")
    while len(words) > 1 and words[0] in finding_type.split("_"):
        words = words[1:]
    return " ".join(words)


def _measurements(measurements: Sequence[Measurement]) -> Table:
    """Those of no finding."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("Measurement", "Value", "Method"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "Value" else "left")
    for m in measurements:
        table.add_row(m.measurement_type.replace("_", " "), _value(m), escape(m.method))
    return table


def _value(measurement: Measurement) -> str:
    unit = "" if measurement.unit == "1" else f" {_UNITS.get(measurement.unit, measurement.unit)}"
    return f"{measurement.value:.4g}{unit}"


def _evidence(finding: Finding) -> str:
    power = "exploratory, changes no order" if finding.exploratory else "may raise urgency"
    figures = [
        f"{name} {measured.value:.2f} ({measured.low:.2f} to {measured.high:.2f})"
        for name, measured in (("sensitivity", finding.sensitivity), ("specificity", finding.specificity))
        if measured is not None
    ]
    return "; ".join([power, *figures])


def _not_assessed(result: AnalysisResult) -> Iterator[str]:
    """One line a reason, with the names that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for item in result.not_assessed:
        file = next((i.file for i in result.images or () if i.sop_instance_uid == item.sop_instance_uid), None)
        by_reason.setdefault(item.reason, []).append(file or item.name)
    for reason, names in by_reason.items():
        yield f"Not assessed ({escape(reason)}): {escape(', '.join(names))}"


def _why_not(result: AnalysisResult) -> str:
    return next((item.reason for item in result.not_assessed), "no image in the study")


def _label(result: AnalysisResult) -> str:
    """What the reader knows the study by: its file, or the first of its files."""
    files = [image.file for image in result.images or () if image.file]
    if not files:
        return result.study_id
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more of study {result.study_id}"


def _urgency(result: AnalysisResult) -> str:
    return f"[{_COLOUR[result.priority]}]{result.priority}[/]"


def _confidence(finding: Finding) -> str:
    return f"{min(finding.confidence_score, 0.99):.2f}"


def _seconds(result: AnalysisResult) -> str:
    return "-" if result.processing_time is None else f"{result.processing_time:.2f}"
