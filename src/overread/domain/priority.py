"""QueuePriority and Urgency: two words on purpose.

QueuePriority stands before the AI and comes from the order or the caller; Urgency comes out of the analysis. What the
specification calls `priority` on the wire is the higher of both, and nothing automatic ever lowers it.
"""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """The specification's `Priority`: routine, urgent, critical."""

    ROUTINE = "routine"
    URGENT = "urgent"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0, 1, 2: greater is more pressing."""
        return _RANK[self]


_RANK = {Level.ROUTINE: 0, Level.URGENT: 1, Level.CRITICAL: 2}

QueuePriority = Level
Urgency = Level
Severity = Level


def higher(*levels: Level | None) -> Level:
    """The most pressing of the given levels; routine if none is given."""
    return max((level for level in levels if level is not None), key=lambda level: level.rank, default=Level.ROUTINE)


_JOB_NUMBER = {Level.ROUTINE: 0, Level.URGENT: 100, Level.CRITICAL: 200}


def job_priority(level: Level) -> int:
    """The queue's number for a level: greater runs first, and within one number the older job does."""
    return _JOB_NUMBER[level]
