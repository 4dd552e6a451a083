"""What a hospital decides and what follows from it, as the store keeps it: switches, settings, objections, the list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from overread.domain.audit import PatientRef
from overread.domain.features import Feature, Features, Switch
from overread.services.values import (
    AnalysisFilter,
    FeatureChange,
    OptOut,
    PatientEvents,
    StoredSetting,
    WorklistRow,
)

COUNTED_AT_MOST: Final = 10_000
"""A list says "10,000 or more" rather than count a million rows on every page."""


class WorklistRepository(Protocol):
    """What there is to read: studies with their analyses, and those that the AI did not read on purpose."""

    def search(self, flt: AnalysisFilter) -> tuple[tuple[WorklistRow, ...], int]:
        """One page, and how many there are: exact up to `COUNTED_AT_MOST`, then more than the pages up to this.

        Critical first, then urgent, then older first; a study without an analysis stands where its order puts it.
        """
        ...

    def repeats(self) -> int:
        """How many present results suggest a repeat, counted up to `COUNTED_AT_MOST`."""
        ...

    def not_analysed(self) -> int:
        """How many studies the AI did not read on purpose, counted up to `COUNTED_AT_MOST`."""
        ...


class FeatureRepository(Protocol):
    """The tenant's switches."""

    def switches(self) -> Features:
        """As they are now."""
        ...

    def set(self, switch: Switch) -> None:
        """Turn one, and keep a line in the log."""
        ...

    def history(
        self, feature: Feature | None, date_from: datetime | None, date_to: datetime | None, limit: int
    ) -> tuple[FeatureChange, ...]:
        """Newest first."""
        ...


class OptOutRepository(Protocol):
    """Patients who object to AI."""

    def find(self, patient_id: str, issuer: str) -> OptOut | None:
        """The objection that holds for this patient now. `issuer` "" matches an objection under any issuer."""
        ...

    def add(self, opt_out_id: UUID, patient_id: str, issuer: str, reason: str, by: str, now: datetime) -> bool:
        """`issuer` "": under any. False if this very patient is on the list already."""
        ...

    def remove(self, opt_out_id: UUID, reason: str, by: str, now: datetime) -> bool:
        """False if it is not on the list."""
        ...

    def all(self, *, with_removed: bool, limit: int) -> tuple[OptOut, ...]:
        """Newest first."""
        ...


class SettingsRepository(Protocol):
    """What the tenant decided for itself (`services.tenant_settings`)."""

    def all(self) -> tuple[StoredSetting, ...]:
        """What was ever set, by key."""
        ...

    def put(self, setting: StoredSetting) -> None:
        """Set or change one."""
        ...


class PatientTrail(Protocol):
    """What is on record of one patient."""

    def of_patient(self, patients: Sequence[PatientRef], study_ids: Sequence[UUID]) -> tuple[PatientEvents, ...]:
        """Of any of these names of the patient, or of these studies. Oldest first, grouped by day."""
        ...
