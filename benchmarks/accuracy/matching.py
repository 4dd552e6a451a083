"""Which candidate is which true nodule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float, float]
#: A candidate as near to a nodule's middle as this is a hit whatever the size, mm.
LEAST_REACH_MM = 3.0


@dataclass(frozen=True, kw_only=True)
class Match:
    """Indices into the candidates."""

    #: Of each true nodule: the candidate that hits it; None where it was missed.
    hits: tuple[int | None, ...]
    #: Candidates that hit no nodule. A second one within the same nodule is none of them.
    false: tuple[int, ...]


def match(true: Sequence[tuple[Point, float]], candidates: Sequence[Point]) -> Match:
    """`true`: middle and longest diameter, mm. A candidate hits a nodule if its middle lies within the nodule's radius
    (at least `LEAST_REACH_MM`) of the nodule's middle; the nearest pair is matched first, each nodule once.
    """
    reach = np.array([max(diameter / 2, LEAST_REACH_MM) for _, diameter in true])
    if not true or not candidates:
        return Match(hits=(None,) * len(true), false=tuple(range(len(candidates))))
    apart = np.linalg.norm(np.array([p for p, _ in true])[:, None] - np.array(candidates)[None], axis=2)
    inside = apart <= reach[:, None]
    hits: list[int | None] = [None] * len(true)
    free = np.where(inside, apart, np.inf)
    while np.isfinite(free).any():
        nodule, candidate = (int(i) for i in np.unravel_index(int(np.argmin(free)), free.shape))
        hits[nodule] = candidate
        free[nodule, :] = free[:, candidate] = np.inf
    return Match(hits=tuple(hits), false=tuple(int(i) for i in np.flatnonzero(~inside.any(axis=0))))
