"""POST /api/studies: DICOM files or ZIPs, as a form or as one raw body. Each file has its own outcome.

A body is spooled to disk while it arrives and read file by file; it goes through the same service as C-STORE. Sending
the same files again is harmless.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final
from uuid import UUID

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from overread.domain.errors import InvalidRequest, OverreadError, StorageFull, StoreUnavailable
from overread.domain.study import ReceiveOutcome, Sender, TenantId
from overread.http.auth import Uploader, address_of
from overread.http.errors import public_sentence
from overread.http.replies import json_reply
from overread.http.wire import WireModel, dump
from overread.http.wiring import Services, services_of
from overread.services.access import Identity
from overread.services.unpack import Limits, clean_name, is_archive, members

router = APIRouter(prefix="/api/studies", tags=["studies"])

#: Files of one form; a whole CT with localizers is far below. More go in a ZIP.
MAX_FILES: Final = 20_000
#: Up to here a part stays in memory, in bytes.
_SPOOL: Final = 1024 * 1024
_RAW_TYPES: Final = frozenset({"application/dicom", "application/zip", "application/octet-stream"})


class FileOutcome(WireModel):
    """What became of one file."""

    #: As the sender named it; inside an archive: archive/member.
    file: str
    #: stored, duplicate, header_revision, quarantined or rejected.
    outcome: str
    study_id: str | None = None
    code: str | None = None
    error: str | None = None


class ReceivedStudy(WireModel):
    #: StudyInstanceUID (0020,000D).
    study_id: str
    id: UUID


class UploadResult(WireModel):
    accepted: int
    rejected: int
    studies: list[ReceivedStudy]
    files: list[FileOutcome]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A file of the request, spooled."""

    name: str
    file: IO[bytes]


@router.post(
    "",
    response_model=UploadResult,
    summary="Send DICOM files or ZIPs",
    openapi_extra={
        "requestBody": {
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                    }
                },
                "application/dicom": {"schema": {"type": "string", "format": "binary"}},
                "application/zip": {"schema": {"type": "string", "format": "binary"}},
            }
        }
    },
)
async def upload(request: Request, who: Uploader) -> Response:
    """200 with an outcome for each file if at least one was accepted; else the first file's error and all outcomes."""
    services = services_of(request)
    sender = Sender(channel="http", name=who.name, address=address_of(request))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=MAX_FILES) as form:
            parts = [
                _Part(name=_clean_name(value.filename), file=value.file)
                for _key, value in form.multi_items()
                if isinstance(value, UploadFile)
            ]
            result = await run_in_threadpool(_receive_all, services, who, sender, parts)
    elif kind in _RAW_TYPES:
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL, dir=_folder(services)) as spool:
            async for chunk in request.stream():
                await run_in_threadpool(spool.write, chunk)
            spool.seek(0)
            part = _Part(name="upload.zip" if kind == "application/zip" else "upload.dcm", file=spool)
            result = await run_in_threadpool(_receive_all, services, who, sender, [part])
    else:
        raise InvalidRequest(
            "The Content-Type must be multipart/form-data, application/dicom or application/zip.",
            parameter="Content-Type",
        )
    return json_reply(request, dump(result))


def _folder(services: Services) -> str | None:
    folder = services.settings.spool_dir
    return str(folder) if folder is not None else None


def _clean_name(name: str | None) -> str:
    """A file's own name without its folders, for messages only."""
    return clean_name((name or "").replace("\\", "/").rsplit("/", 1)[-1]) or "file"


def _files(parts: list[_Part], limits: Limits) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name and reader of each file, those inside archives too. A refused archive is one file whose reader raises."""
    for part in parts:
        part.file.seek(0)
        if not is_archive(part.file):
            yield part.name, part.file.read
            continue
        try:
            for member in members(part.file, name=part.name, limits=limits):
                yield member.name, member.read
        except OverreadError as error:
            yield part.name, _raiser(error)


def _raiser(error: OverreadError) -> Callable[[], bytes]:
    def fail() -> bytes:
        raise error

    return fail


def _receive_all(services: Services, who: Identity, sender: Sender, parts: list[_Part]) -> UploadResult:
    """File after file. Raises what concerns all of them: no database, no room; and the first error if none went in."""
    if not parts:
        raise InvalidRequest("The form holds no file.", parameter="files")
    outcomes: list[FileOutcome] = []
    studies: dict[UUID, str] = {}
    first_error: OverreadError | None = None
    for name, read in _files(parts, Limits(total_bytes=services.settings.max_upload_bytes)):
        try:
            filed = services.receive.receive(who.tenant, read(), sender, name=name)
        except (StoreUnavailable, StorageFull):
            raise
        except OverreadError as error:
            first_error = first_error or error
            outcomes.append(FileOutcome(file=name, outcome="rejected", code=error.code, error=public_sentence(error)))
            continue
        uid = _study_uid(services, who.tenant, filed.study_id, studies)
        kept = filed.outcome is not ReceiveOutcome.QUARANTINED
        outcomes.append(
            FileOutcome(
                file=name,
                outcome=filed.outcome.value,
                study_id=uid,
                code=None if kept else "DUPLICATE_UID",
                error=None if kept else filed.message or None,
            )
        )
    rejected = sum(1 for o in outcomes if o.code is not None)
    with services.db.unit(who.tenant) as uow:
        uow.audit.record("upload", actor=who.name, accepted=len(outcomes) - rejected, rejected=rejected)
    if first_error is not None and all(o.outcome == "rejected" for o in outcomes):
        details: dict[str, Any] = {**first_error.details, "files": [dump(o) for o in outcomes]}
        raise type(first_error)(first_error.message, remedy=first_error.remedy, **details)
    return UploadResult(
        accepted=len(outcomes) - rejected,
        rejected=rejected,
        studies=[ReceivedStudy(study_id=uid, id=key) for key, uid in studies.items()],
        files=outcomes,
    )


def _study_uid(services: Services, tenant: TenantId, study_id: UUID | None, known: dict[UUID, str]) -> str | None:
    if study_id is None:
        return None
    if study_id not in known:
        with services.db.unit(tenant) as uow:
            study = uow.studies.get(study_id)
        if study is None:
            return None
        known[study_id] = study.study_instance_uid
    return known[study_id]
