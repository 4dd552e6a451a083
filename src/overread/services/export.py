"""A study out of the house: copies of its images without what identifies the patient, on record before the first one.

Only what was received goes out, not the AI's own results. The key of the pseudonyms is the caller's: one for each
export, unless a project keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Final, Protocol

from overread.domain.audit import AuditAction
from overread.domain.errors import Conflict, StudyNotFound
from overread.domain.study import StoredInstance, TenantId
from overread.services.custody import read_instance
from overread.services.object_ports import ObjectStore
from overread.services.ports import Database
from overread.services.unpack import Member

Write = Callable[[PurePosixPath, bytes], None]
#: Instances of one export over the web; a larger one is for the command line, which shows how far it is.
WEB_AT_MOST: Final = 2000


class Copied(Protocol):
    """What became of the files: `dicom.deidentify.report.ExportReport`."""

    @property
    def done(self) -> int:
        """Files written."""
        ...

    @property
    def not_done(self) -> int:
        """Files refused."""
        ...


class Copier(Protocol):
    """Makes copies without names and the reports of what was removed: `dicom.deidentify.copier.Copier`."""

    def __call__(self, members: Iterable[Member], write: Write) -> Copied:
        """Writes a copy of each and the reports. A file that cannot be cleaned is refused, and the others go on."""
        ...


@dataclass(frozen=True, kw_only=True)
class StudyExport:
    """Of one tenant's studies. Who may, the doors decide."""

    database: Database
    objects: ObjectStore

    def run(
        self, tenant: TenantId, study_id: str, *, by: str, copier: Copier, write: Write, at_most: int | None = None
    ) -> Copied:
        """`study_id` is ours or the StudyInstanceUID. Raises `StudyNotFound`, and `Conflict` (still
        coming in, too many images)."""
        with self.database.unit(tenant) as unit:
            study = unit.studies.find(study_id) if 0 < len(study_id) <= 64 else None
            if study is None:
                raise StudyNotFound("There is no such study here.", lookedIn="own store")
            stored = unit.studies.instances(study.id)
            if not stored:
                raise Conflict("The study is still coming in.", remedy="Export it when its images are on the worklist.")
            if at_most is not None and len(stored) > at_most:
                raise Conflict(
                    f"The study has {len(stored):,} images; at most {at_most:,} are exported over the web.",
                    remedy="Use `overread export` on the server.",
                )
            unit.audit.record(
                AuditAction.EXPORT_MADE, actor=by, study_id=study.id, instances=len(stored), deidentified=True
            )
        return copier(self._members(tenant, stored), write)

    def _members(self, tenant: TenantId, stored: Sequence[StoredInstance]) -> Iterator[Member]:
        for number, instance in enumerate(stored, start=1):
            yield Member(name=f"File {number}", read=partial(read_instance, self.objects, tenant, instance))
