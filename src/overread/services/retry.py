"""Retry is a value: what failed decides whether, and when, it is tried again (specification, "Retry Strategy")."""

from __future__ import annotations

from dataclasses import dataclass

from overread.domain.errors import KeyUnavailable, OverreadError, StoreUnavailable


def is_away(error: OverreadError) -> bool:
    """Whether something that everybody needs is away: no fault of the study that ran into it, and no attempt of it."""
    return isinstance(error, StoreUnavailable | KeyUnavailable) and error.transient


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential: 1 s, 2 s, 4 s ... at most 30 s, three attempts in all; without end while what is needed is away."""

    attempts: int = 3
    first_delay_s: float = 1.0
    factor: float = 2.0
    longest_delay_s: float = 30.0

    def delay_after(self, error: OverreadError, attempt: int) -> float | None:
        """Seconds to wait after the `attempt`-th attempt (from 1) failed; None: do not try again."""
        if is_away(error):
            return self.longest_delay_s
        if not error.transient or attempt >= self.attempts:
            return None
        return min(self.first_delay_s * self.factor ** (attempt - 1), self.longest_delay_s)
