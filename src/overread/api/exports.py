"""/api/studies/{studyId}/export: a study's images without what identifies the patient, as a ZIP."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from overread.http.auth import StudyExporter
from overread.http.wiring import services_of
from overread.services.export import WEB_AT_MOST

router = APIRouter(prefix="/api/studies", tags=["studies"])

_IN_MEMORY = 16 << 20
_CHUNK = 1 << 20
#: The one time that every file in the archive has: when it was made is nobody's business.
_NO_DATE = (1980, 1, 1, 0, 0, 0)


@router.post(
    "/{studyId}/export",
    summary="De-identified copies as a ZIP",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/zip": {}}, "description": "DICOM files and a report of what was removed"}
    },
)
def export_study(request: Request, studyId: str, who: StudyExporter) -> StreamingResponse:  # noqa: N803
    """The images as received, by the DICOM basic confidentiality profile, dates moved; with a report of what went.

    New identifiers and dates are others in every export. An image that may carry words in the picture is left out if
    the server has no OCR; the report says so. At most 2,000 images; more by `overread export` on the server.
    """
    services = services_of(request)
    folder = services.settings.spool_dir
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
        max_size=_IN_MEMORY, dir=str(folder) if folder else None
    )
    try:
        with zipfile.ZipFile(spool, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:

            def write(name: PurePosixPath, data: bytes) -> None:
                info = zipfile.ZipInfo(str(name), _NO_DATE)
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, data)

            services.exports.run(
                who.tenant, studyId, by=who.name, copier=services.copier, write=write, at_most=WEB_AT_MOST
            )
    except BaseException:
        spool.close()
        raise
    size = spool.tell()
    spool.seek(0)
    headers = {
        "Content-Disposition": 'attachment; filename="deidentified.zip"',
        "Content-Length": str(size),
        "Cache-Control": "no-store",
    }
    return StreamingResponse(_chunks(spool), media_type="application/zip", headers=headers)


def _chunks(spool: IO[bytes]) -> Iterator[bytes]:
    with spool:
        while chunk := spool.read(_CHUNK):
            yield chunk
