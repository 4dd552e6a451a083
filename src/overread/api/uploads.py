"""POST /api/studies: DICOM files or ZIPs, as a form or as one raw body. Each file has its own outcome.

A file is spooled, encrypted, while it arrives and goes through the same service as C-STORE as soon as it is whole. What
went in before an upload broke off stays; sending the same files again is harmless.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID

from fastapi import APIRouter, Request, Response
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from overread.domain.audit import AuditAction
from overread.domain.errors import DuplicateUid, InvalidRequest, OverreadError, StorageFull, StoreUnavailable
from overread.domain.study import ReceiveOutcome, Sender
from overread.http.auth import Uploader, address_of
from overread.http.errors import public_sentence
from overread.http.replies import json_reply
from overread.http.spool import FormFiles, Spool
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
    intake = _Intake(services, who, Sender(channel="http", name=who.name, address=address_of(request)))
    kind, options = parse_options_header(request.headers.get("content-type"))
    media = kind.decode("latin-1").lower()
    try:
        if media == "multipart/form-data" and options.get(b"boundary"):
            await _read_form(request, intake, options[b"boundary"])
        elif media in _RAW_TYPES:
            await _read_raw(request, intake, "upload.zip" if media == "application/zip" else "upload.dcm")
        else:
            raise InvalidRequest(
                "The Content-Type must be multipart/form-data, application/dicom or application/zip.",
                parameter="Content-Type",
            )
    except FormParserError as error:
        raise InvalidRequest("The form cannot be read.", parameter="body") from error
    except ClientDisconnect as error:
        raise InvalidRequest("The upload was broken off.", parameter="body") from error
    return json_reply(request, dump(await run_in_threadpool(intake.result)))


async def _read_form(request: Request, intake: _Intake, boundary: bytes) -> None:
    """Each file goes in as soon as it is whole: neither memory nor open files grow with their number."""

    def on_file(name: bytes, file: IO[bytes]) -> None:
        intake.take(_clean_name(name), file)

    folder = _folder(intake.services)
    with contextlib.closing(FormFiles(boundary, folder, in_memory=_SPOOL, parts=MAX_FILES, on_file=on_file)) as files:
        async for chunk in request.stream():
            await run_in_threadpool(files.write, chunk)
        await run_in_threadpool(files.finalize)


async def _read_raw(request: Request, intake: _Intake, name: str) -> None:
    with contextlib.closing(Spool(_folder(intake.services), _SPOOL)) as spool:
        async for chunk in request.stream():
            await run_in_threadpool(spool.write, chunk)
        await run_in_threadpool(intake.take, name, spool.file)


def _folder(services: Services) -> Path:
    return services.settings.spool_dir or Path(tempfile.gettempdir())


def _clean_name(name: bytes | None) -> str:
    """A file's own name without its folders, for messages only."""
    text = (name or b"").decode("utf-8", "replace")
    return clean_name(text.replace("\\", "/").rsplit("/", 1)[-1]) or "file"


class _Intake:
    """Files of one request, received one after the other."""

    def __init__(self, services: Services, who: Identity, sender: Sender) -> None:
        self.services = services
        self._who = who
        self._sender = sender
        self._limits = Limits(total_bytes=services.settings.max_upload_bytes)
        self._outcomes: list[FileOutcome] = []
        self._studies: dict[UUID, str] = {}
        self._first_error: OverreadError | None = None

    def take(self, name: str, file: IO[bytes]) -> None:
        """A file, or an archive of files. Raises only what concerns all of them: no database, no room."""
        file.seek(0)
        try:
            if is_archive(file):
                for member in members(file, name=name, limits=self._limits):
                    self._take_one(member.name, member.read)
            else:
                self._take_one(name, file.read)
        except (StoreUnavailable, StorageFull):
            raise
        except OverreadError as error:
            # The archive as a whole is refused.
            self._refuse(name, error)

    def _take_one(self, name: str, read: Callable[[], bytes]) -> None:
        try:
            filed = self.services.receive.receive(self._who.tenant, read(), self._sender, name=name)
        except (StoreUnavailable, StorageFull):
            raise
        except OverreadError as error:
            self._refuse(name, error)
            return
        quarantined = filed.outcome is ReceiveOutcome.QUARANTINED
        self._outcomes.append(
            FileOutcome(
                file=name,
                outcome=filed.outcome.value,
                study_id=self._study_uid(filed.study_id),
                code=DuplicateUid.code if quarantined else None,
                error=(filed.message or None) if quarantined else None,
            )
        )

    def _refuse(self, name: str, error: OverreadError) -> None:
        self._first_error = self._first_error or error
        self._outcomes.append(FileOutcome(file=name, outcome="rejected", code=error.code, error=public_sentence(error)))

    def _study_uid(self, study_id: UUID | None) -> str | None:
        if study_id is not None and study_id not in self._studies:
            with self.services.db.unit(self._who.tenant) as uow:
                study = uow.studies.get(study_id)
            if study is not None:
                self._studies[study_id] = study.study_instance_uid
        return self._studies.get(study_id) if study_id is not None else None

    def result(self) -> UploadResult:
        """What became of all. Raises the first error if nothing went in."""
        if not self._outcomes:
            raise InvalidRequest("The request holds no file.", parameter="files")
        rejected = sum(1 for outcome in self._outcomes if outcome.code is not None)
        accepted = len(self._outcomes) - rejected
        with self.services.db.unit(self._who.tenant) as uow:
            uow.audit.record(AuditAction.UPLOAD, actor=self._who.name, accepted=accepted, rejected=rejected)
        first = self._first_error
        if first is not None and all(outcome.outcome == "rejected" for outcome in self._outcomes):
            details: dict[str, Any] = {**first.details, "files": [dump(o) for o in self._outcomes]}
            raise type(first)(first.message, remedy=first.remedy, **details)
        return UploadResult(
            accepted=accepted,
            rejected=rejected,
            studies=[ReceivedStudy(study_id=uid, id=key) for key, uid in self._studies.items()],
            files=self._outcomes,
        )
