"""What the pipeline needs from outside: a model. `overread.inference` implements it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from overread.domain.evidence import InputSpec, ModelIdentity, OutputEvidence


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one image. F finding types, in the order of `Model.outputs`."""

    #: float32 (F,), before calibration.
    logits: NDArray[np.float32]
    #: float32 (F, h, w): where the evidence lies, before pooling; None if the model has no maps.
    maps: NDArray[np.float32] | None = None


class Model(Protocol):
    """An installed model package, ready to run."""

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def input(self) -> InputSpec: ...

    @property
    def outputs(self) -> tuple[OutputEvidence, ...]: ...

    def predict(self, tensor: NDArray[np.float32]) -> Prediction:
        """Run on one image, float32 (1, channels, rows, columns).

        Raises `InferenceError`, `ModelOutOfMemory` or `ModelTimeout` (domain.errors).
        """
        ...


class ModelShelf(Protocol):
    """Which installed model answers which question; None where there is none."""

    def find(self, task: str) -> Model | None:
        """The model for a task: "chest_xray" (findings), "radiograph_view" (what a radiograph shows)."""
        ...


class VersionedShelf(ModelShelf, Protocol):
    """A shelf from which a certain version can be taken."""

    def pinned(self, task: str, version: str) -> Model | None:
        """That version of the model for a task; None if it is not installed."""
        ...
