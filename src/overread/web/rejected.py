"""What was refused or quarantined, for the administrator: nothing disappears without a trace."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from overread.http.auth import RejectionReader
from overread.http.wiring import services_of
from overread.web.templates import page

router = APIRouter(include_in_schema=False)

_SHOWN = 200


@router.get("/rejected")
def rejected(request: Request, who: RejectionReader) -> Response:
    """The newest ones."""
    with services_of(request).db.unit(who.tenant) as uow:
        rejections = uow.studies.rejections(_SHOWN)
    return page(request, "rejected.html", who, rejections=rejections, shown=_SHOWN)
