"""How values read on a page. Pure functions; Jinja filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from overread.domain import catalogue
from overread.domain.analysis import AnalysisStatus, Finding, NotAssessed
from overread.domain.evidence import Interval
from overread.domain.priority import Level
from overread.services.values import AnalysisRow

#: Colour is never alone: each urgency has a sign and a word too, and its own line on the image (`study.css`).
SIGN = {Level.CRITICAL: "▲", Level.URGENT: "◆", Level.ROUTINE: "●"}

STATUS_WORD = {
    AnalysisStatus.PENDING: "waiting",
    AnalysisStatus.PROCESSING: "being read",
    AnalysisStatus.COMPLETED: "AI read",
    AnalysisStatus.FAILED: "failed",
    AnalysisStatus.CANCELLED: "cancelled",
}


def state_word(row: AnalysisRow) -> str:
    """The status of an analysis; "AI read" only where a model did look for something."""
    if row.outcome is not None and not row.outcome.assessed:
        return "not assessed"
    return STATUS_WORD[row.status]


def standing(row: AnalysisRow) -> str:
    """Why a study stands where it stands: by the AI's reason, or by an order that asks for more than the AI does."""
    ordered = row.queue_priority
    if ordered.rank <= (row.urgency or Level.ROUTINE).rank:
        return row.reason
    said = f" AI: {row.reason[:1].lower()}{row.reason[1:]}" if row.reason else ""
    return f"{ordered.value.capitalize()} as ordered.{said}"


def person_name(name: str) -> str:
    """PatientName (0010,0010), PS3.5 6.2.1.1: `Yamada^Tarou=山田^太郎` -> "Yamada, Tarou (山田, 太郎)"."""
    groups = [_one_group(group) for group in name.split("=")]
    shown = [g for g in groups if g]
    if not shown:
        return "(no name)"
    return shown[0] + (f" ({shown[1]})" if len(shown) > 1 else "")


def _one_group(group: str) -> str:
    parts = [p.strip() for p in group.split("^")] + [""] * 5
    family, given, middle, prefix, suffix = parts[:5]
    first = " ".join(p for p in (prefix, given, middle, suffix) if p)
    return ", ".join(p for p in (family, first) if p)


def percent(value: float) -> str:
    """0..1 as whole percent; never 0 % or 100 % for what is not exactly that."""
    if 0.0 < value < 0.01:
        return "<1 %"
    if 0.99 < value < 1.0:
        return ">99 %"
    return f"{value * 100:.0f} %"


def interval(value: Interval) -> str:
    """A measured share with its 95% interval: "81 % (70 to 89)"."""
    return f"{value.value * 100:.0f} % ({value.low * 100:.0f} to {value.high * 100:.0f})"


def of_100(value: Interval) -> str:
    """A share as people count: "39 of 100"."""
    return f"{value.value * 100:.0f} of 100"


def by_weight(findings: Sequence[Finding]) -> list[Finding]:
    """What may change the order first, then by severity, then by confidence."""
    return sorted(findings, key=lambda f: (f.exploratory, -f.severity.rank, -f.confidence))


def complement(value: Interval) -> Interval:
    """1 - share: a specificity as the rate of false alarms."""
    return Interval(value=1 - value.value, low=1 - value.high, high=1 - value.low)


def finding_name(key: str) -> str:
    """What a radiologist would write."""
    return catalogue.entry(key).name if catalogue.is_known(key) else key.replace("_", " ").capitalize()


def duration(seconds: float) -> str:
    """Waiting time, in the two largest units at most: "40 s", "12 min", "3 h 05", "2 d 4 h"."""
    s = max(0, int(seconds))
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min"
    if s < 86400:
        return f"{s // 3600} h {s % 3600 // 60:02d}"
    return f"{s // 86400} d {s % 86400 // 3600} h"


def moment(value: datetime | None) -> str:
    """Date and time for a person; UTC, the page's script turns it into local time."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if value else ""


def iso(value: datetime | None) -> str:
    """For `<time datetime>` and scripts."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else ""


def age(birth_date: str, on: datetime | None) -> str:
    """Age in years, months below two years; "" where it cannot be known."""
    try:
        born = date.fromisoformat(birth_date)
    except ValueError:
        return ""
    if on is None:
        return ""
    today = on.date()
    months = (today.year - born.year) * 12 + today.month - born.month - (today.day < born.day)
    if months < 0:
        return ""
    return f"{months} mo" if months < 24 else f"{months // 12} y"


def capitalise(sentence: str) -> str:
    """Begins with a capital and ends with a full stop; the rest stays as it is."""
    text = sentence[:1].upper() + sentence[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def issue(key: str) -> str:
    """The type of a quality issue: `motion_artifact` -> "Motion artifact"."""
    return key.replace("_", " ").capitalize()


def body_part(value: str | None) -> str:
    """BodyPartExamined (0018,0015) for a person: CHEST -> Chest."""
    return value.replace("_", " ").capitalize() if value else "–"


@dataclass(frozen=True, kw_only=True)
class ReasonGroup:
    """What was not assessed for one and the same reason."""

    reason: str
    names: tuple[str, ...]


def by_reason(items: Sequence[NotAssessed]) -> tuple[ReasonGroup, ...]:
    """Group, in order of first appearance."""
    names: dict[str, list[str]] = {}
    for item in items:
        listed = names.setdefault(item.reason, [])
        # A whole image or study has no name that would say more than the reason.
        if item.finding_type and item.name not in listed:
            listed.append(item.name)
    return tuple(ReasonGroup(reason=reason, names=tuple(listed)) for reason, listed in names.items())
