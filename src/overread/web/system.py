"""How the installation does, in numbers, without a single patient: what an operator may see."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from overread.domain.analysis import AnalysisStatus
from overread.http.auth import SystemReader
from overread.http.wiring import services_of
from overread.services.values import AnalysisFilter
from overread.web.templates import page

router = APIRouter(include_in_schema=False)

_LETTERS = 50
_PATIENCE_S = 3.0


@router.get("/system")
def system(request: Request, who: SystemReader) -> Response:
    """Counts by status, checks, version."""
    services = services_of(request)
    with services.db.unit(who.tenant) as uow:
        counts = {
            status: uow.analyses.search(AnalysisFilter(status=status, with_superseded=False, limit=1))[1]
            for status in AnalysisStatus
        }
    return page(
        request,
        "system.html",
        who,
        counts=counts,
        condition=services.watch.condition(wait_s=_PATIENCE_S),
        overload_jobs=services.watch.overload_jobs,
        uptime_s=(services.clock() - services.started_at).total_seconds(),
        settings=services.settings,
        dead_letters=services.dead_letters(_LETTERS),
    )
