"""From what stands in an address to what is meant, within one tenant. What belongs to another is simply not there."""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID

from overread.domain.errors import AnalysisNotFound, NotFound, StudyNotFound
from overread.domain.study import StoredInstance
from overread.http.text import is_clean
from overread.services.ports import UnitOfWork
from overread.services.values import AnalysisRow, StudyRow


def parse_analysis_id(text: str) -> UUID:
    """An id from an address. What is no id names nothing: `AnalysisNotFound`."""
    try:
        return UUID(text)
    except ValueError as error:
        raise AnalysisNotFound("There is no analysis with this id.") from error


def parse_opt_out_id(text: str) -> UUID:
    """An id from an address. What is no id names nothing: `NotFound`."""
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound("There is no such objection on the list.") from error


def get_analysis(uow: UnitOfWork, analysis_id: UUID) -> AnalysisRow:
    """Raises `AnalysisNotFound`."""
    row = uow.analyses.get(analysis_id)
    if row is None:
        raise AnalysisNotFound("There is no analysis with this id.", analysis_id=str(analysis_id))
    return row


def find_study(uow: UnitOfWork, study_id_or_uid: str) -> StudyRow:
    """By our id or StudyInstanceUID. Raises `StudyNotFound`."""
    usable = 0 < len(study_id_or_uid) <= 64 and is_clean(study_id_or_uid)
    study = uow.studies.find(study_id_or_uid) if usable else None
    if study is None:
        raise StudyNotFound("There is no such study here.", lookedIn="own store")
    return study


def find_instance(uow: UnitOfWork, study: StudyRow, sop_instance_uid: str) -> StoredInstance:
    """An instance of this study. Raises `NotFound`."""
    for stored in uow.studies.instances(study.id):
        if stored.record.sop_instance_uid == sop_instance_uid:
            return stored
    raise NotFound("There is no such instance in this study.")


def image_address(study_uid: str, sop_instance_uid: str) -> str:
    """Address of an instance's picture."""
    return f"/api/studies/{quote(study_uid, safe='')}/instances/{quote(sop_instance_uid, safe='')}/image.png"
