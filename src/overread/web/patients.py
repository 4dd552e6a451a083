"""/admin/patients: who objects to AI, and for administrators the report of who saw a patient's studies."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from overread.domain.errors import Conflict, InvalidRequest, NotFound, OverreadError
from overread.http.auth import AccessReporter, OptOutManager, OptOutReader
from overread.http.errors import status_of
from overread.http.lookups import parse_opt_out_id
from overread.http.wiring import services_of
from overread.services.access import Identity
from overread.services.optout import LISTED_AT_MOST, REASON_AT_MOST
from overread.web.templates import page

router = APIRouter(include_in_schema=False)

_DONE: Final = {
    "added": "The objection is on the list.",
    "removed": "The objection was taken back. What came meanwhile can be asked for on its study page.",
}
_Text = Annotated[str, Form(max_length=2000)]
_Name = Annotated[str, Form(max_length=200)]


@router.get("/admin/patients")
def patients(
    request: Request,
    who: OptOutReader,
    done: Annotated[str, Query(max_length=10)] = "",
    removed: Annotated[str, Query(max_length=1)] = "",
) -> Response:
    """The list and its forms."""
    return _page(request, who, done=_DONE.get(done, ""), with_removed=removed == "1")


@router.post("/admin/patients")
def add(
    request: Request, who: OptOutManager, patient_id: _Name = "", issuer: _Name = "", reason: _Text = ""
) -> Response:
    """Put a patient on the list."""
    try:
        services_of(request).opt_outs.add(who.tenant, patient_id=patient_id, issuer=issuer, reason=reason, by=who.name)
    except (InvalidRequest, Conflict) as error:
        return _page(request, who, error=error, typed=(patient_id, issuer, reason))
    return RedirectResponse("/admin/patients?done=added", status_code=303)


@router.post("/admin/patients/{opt_out}/removal")
def remove(request: Request, opt_out: str, who: OptOutManager, reason: _Text = "") -> Response:
    """Take an objection back."""
    try:
        services_of(request).opt_outs.remove(who.tenant, parse_opt_out_id(opt_out), reason=reason, by=who.name)
    except (InvalidRequest, NotFound) as error:
        return _page(request, who, error=error)
    return RedirectResponse("/admin/patients?done=removed", status_code=303)


@router.post("/admin/patients/report")
def report(request: Request, who: AccessReporter, patient_id: _Name = "", issuer: _Name = "") -> Response:
    """The report as a page to print. A POST, so that the patient's number is in no address and no log."""
    try:
        made = services_of(request).patient_reports.report(
            who.tenant, patient_id=patient_id, issuer=issuer, by=who.name
        )
    except InvalidRequest as error:
        return _page(request, who, error=error, typed=(patient_id, issuer, ""))
    return page(request, "patient_report.html", who, report=made)


def _page(
    request: Request,
    who: Identity,
    *,
    done: str = "",
    with_removed: bool = False,
    error: OverreadError | None = None,
    typed: tuple[str, str, str] = ("", "", ""),
) -> Response:
    listed = services_of(request).opt_outs.all(who.tenant, by=who.name, with_removed=with_removed)
    return page(
        request,
        "patients.html",
        who,
        status=200 if error is None else status_of(error),
        opt_outs=listed,
        limit=LISTED_AT_MOST,
        with_removed=with_removed,
        done=done,
        error="" if error is None else error.message,
        patient_id=typed[0],
        issuer=typed[1],
        reason=typed[2],
        reason_at_most=REASON_AT_MOST,
    )
