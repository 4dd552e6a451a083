"""The worklist: what is there to read, the most pressing on top, live.

What somebody searches for may be a patient's name: it comes in the body of a POST and is never part of an address,
which browsers keep in their history and proxies in their logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from overread.domain.analysis import AnalysisStatus
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.http.auth import Anybody, Reader, Requester
from overread.http.lookups import parse_analysis_id
from overread.http.security import check_same_origin
from overread.http.text import is_clean
from overread.http.wiring import services_of
from overread.services.access import Identity, Permission
from overread.services.feature_ports import COUNTED_AT_MOST
from overread.services.values import AnalysisFilter
from overread.web.templates import page, safe_next

router = APIRouter(include_in_schema=False)

ROWS_A_PAGE: Final = 100


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What the address asks for, and the search. An unknown value means any: a person may have an old address."""

    priority: Level | None
    modality: Modality | None
    status: AnalysisStatus | None
    text: str
    #: Only what should be taken again: the list for technicians.
    repeat: bool
    #: Only what the AI did not read, on purpose.
    unread: bool
    page: int

    @property
    def any(self) -> bool:
        """Whether something is filtered out, besides what the tab leaves out."""
        return bool(self.priority or self.modality or self.status or self.text)

    def query(self, page: int | None = None) -> str:
        """As a query string, "" or with its question mark; without the search."""
        values = {
            "repeat": "1" if self.repeat else "",
            "unread": "1" if self.unread else "",
            "priority": self.priority,
            "modality": self.modality,
            "status": self.status,
        }
        pairs = {key: str(value) for key, value in values.items() if value}
        number = self.page if page is None else page
        if number > 1:
            pairs["page"] = str(number)
        return f"?{urlencode(pairs)}" if pairs else ""


_Word = Annotated[str, Query(max_length=200)]


def parse_filters(
    priority: _Word = "",
    modality: _Word = "",
    status: _Word = "",
    repeat: _Word = "",
    unread: _Word = "",
    page: Annotated[str, Query(max_length=7)] = "1",
) -> Filters:
    """From the query string's words; a dependency of the page and of its rows."""
    return Filters(
        priority=next((p for p in Level if p.value == priority), None),
        modality=next((m for m in Modality if m.value == modality), None),
        status=next((s for s in AnalysisStatus if s.value == status), None),
        text="",
        repeat=repeat == "1",
        unread=unread == "1" and repeat != "1",
        page=int(page) if page.isascii() and page.isdigit() and 0 < int(page[:7]) <= 100_000 else 1,
    )


_Asked = Annotated[Filters, Depends(parse_filters)]


_Field = Annotated[str, Form(max_length=200)]


def parse_search(
    request: Request,
    filters: _Asked,
    q: _Field = "",
    priority: _Field = "",
    modality: _Field = "",
    status: _Field = "",
    repeat: _Field = "",
    unread: _Field = "",
) -> Filters:
    """What a form brings in its body, with what the address asks for. It changes nothing: it needs no form token."""
    check_same_origin(request)
    fields = parse_filters(priority, modality, status, repeat, unread)
    return Filters(
        priority=fields.priority or filters.priority,
        modality=fields.modality or filters.modality,
        status=fields.status or filters.status,
        text="".join(c for c in q if is_clean(c)).strip()[:200],
        repeat=fields.repeat or filters.repeat,
        unread=fields.unread or filters.unread,
        page=filters.page,
    )


_Searched = Annotated[Filters, Depends(parse_search)]


def _template(filters: Filters) -> str:
    return "repeats.html" if filters.repeat else "rows.html"


def _rows(request: Request, who: Identity, filters: Filters) -> dict[str, Any]:
    services = services_of(request)
    flt = AnalysisFilter(
        priority=filters.priority,
        modality=filters.modality,
        status=filters.status,
        text=filters.text or None,
        with_superseded=False,
        repeat_only=filters.repeat,
        not_analysed_only=filters.unread,
        page=filters.page,
        limit=ROWS_A_PAGE,
    )
    with services.db.unit(who.tenant) as uow:
        found, total = uow.worklist.search(flt)
        repeats = uow.worklist.repeats()
        unread = uow.worklist.not_analysed()
    return {
        "rows": [row.analysis for row in found] if filters.repeat else found,
        "total": total,
        "repeats": repeats,
        "unread": unread,
        "counted": COUNTED_AT_MOST,
        "pages": max(1, -(-total // ROWS_A_PAGE)),
        "filters": filters,
        "settings": services.settings,
    }


@router.get("/")
def worklist(
    request: Request,
    who: Anybody,
    filters: _Asked,
) -> Response:
    """The page; with `repeat=1` the repeat list. Somebody who may not see patients gets the system page instead."""
    return _worklist(request, who, filters)


@router.post("/")
def search(
    request: Request,
    who: Anybody,
    filters: _Searched,
) -> Response:
    """The page with a search, for browsers without our script; without one its address is enough."""
    if not filters.text:
        return RedirectResponse(f"/{filters.query()}", status_code=303)
    return _worklist(request, who, filters)


def _worklist(request: Request, who: Identity, filters: Filters) -> Response:
    if not who.may(Permission.READ_STUDIES):
        return RedirectResponse("/system", status_code=303)
    values = _rows(request, who, filters)
    values |= {"list": _template(filters)}
    values |= {"notes": services_of(request).watch.condition().notes}
    values |= {"levels": list(reversed(Level)), "modalities": list(Modality), "statuses": list(AnalysisStatus)}
    return page(request, "worklist.html", who, **values)


@router.get("/worklist")
def repeat_list(filters: _Asked) -> Response:
    """`/worklist?repeat=1` is a natural address too."""
    return RedirectResponse(f"/{filters.query()}", status_code=303)


@router.get("/worklist/rows")
def rows(
    request: Request,
    who: Reader,
    filters: _Asked,
) -> Response:
    """The list alone, for the live page."""
    return page(request, _template(filters), who, **_rows(request, who, filters))


@router.post("/worklist/rows")
def found_rows(
    request: Request,
    who: Reader,
    filters: _Searched,
) -> Response:
    """The list alone, of what was searched for."""
    return page(request, _template(filters), who, **_rows(request, who, filters))


@router.post("/analyses/{analysis_id}/retry")
def retry(
    request: Request,
    analysis_id: str,
    who: Requester,
    target: Annotated[str, Form(alias="next", max_length=2000)] = "/",
) -> Response:
    """Try a failed one again and go back."""
    services_of(request).requests.retry(who.tenant, parse_analysis_id(analysis_id), who.name)
    return RedirectResponse(safe_next(target), status_code=303)


@router.post("/analyses/{analysis_id}/cancel")
def cancel(
    request: Request,
    analysis_id: str,
    who: Requester,
    target: Annotated[str, Form(alias="next", max_length=2000)] = "/",
) -> Response:
    """Take a waiting one out of the queue and go back."""
    services_of(request).requests.cancel(who.tenant, parse_analysis_id(analysis_id), who.name)
    return RedirectResponse(safe_next(target), status_code=303)
