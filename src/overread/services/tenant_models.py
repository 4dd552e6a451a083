"""The models that a hospital chose: a version for a task, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overread.pipeline.analysers.contract import VolumeAnalyser
from overread.pipeline.ports import Model, VersionedShelf
from overread.services.tenant_settings import DISABLED


@dataclass(frozen=True, kw_only=True)
class ChosenModels:
    """Implements `pipeline.ports.ModelShelf` for one tenant."""

    shelf: VersionedShelf
    #: Task -> version, or `DISABLED`.
    choice: Mapping[str, str]

    def find(self, task: str) -> Model | None:
        """The chosen version; the newest one where nothing was chosen; None where it is disabled or not installed."""
        version = self.choice.get(task)
        if version is None:
            return self.shelf.find(task)
        return None if version == DISABLED else self.shelf.pinned(task, version)

    def why_none(self, task: str) -> str:
        """Why `find` gives none, as the study's page says it; "" where nothing was chosen."""
        version = self.choice.get(task)
        if version is None:
            return ""
        if version == DISABLED:
            return "this hospital has switched the model off"
        return f"this hospital chose version {version} of the model, which is not installed"

    def analysers(self, installed: Sequence[VolumeAnalyser]) -> tuple[VolumeAnalyser, ...]:
        """Readers of volumes that are left, by their name and version."""
        return tuple(a for a in installed if self.choice.get(a.identity.name, a.identity.version) == a.identity.version)
