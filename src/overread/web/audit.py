"""/admin/audit: who looked at what. A patient is searched for by POST; the address then holds the pseudonym only."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.responses import StreamingResponse

from overread.domain.audit import AuditAction, AuditEvent, AuditFilter, AuditOutcome, PatientRef
from overread.domain.errors import InvalidRequest
from overread.http.auth import AuditReader, AuditSearcher
from overread.http.text import is_clean
from overread.http.wiring import services_of
from overread.services.audit_search import read_cursor
from overread.web.audit_words import action_word, details
from overread.web.templates import page

router = APIRouter(include_in_schema=False)

ROWS_A_PAGE: Final = 100
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

_Word = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What an address asks for. An unknown value means any: a person may have an old address."""

    actor: str
    action: AuditAction | None
    outcome: AuditOutcome | None
    study: UUID | None
    #: Pseudonyms.
    patients: tuple[str, ...]
    date_from: date | None
    date_to: date | None

    @property
    def any(self) -> bool:
        """Whether something is filtered out."""
        return bool(self.pairs())

    def pairs(self) -> list[tuple[str, str]]:
        """As the fields of a form."""
        values = [
            ("actor", self.actor),
            ("action", self.action.value if self.action else ""),
            ("outcome", self.outcome.value if self.outcome else ""),
            ("study", str(self.study) if self.study else ""),
            ("patient", ".".join(self.patients)),
            ("from", self.date_from.isoformat() if self.date_from else ""),
            ("to", self.date_to.isoformat() if self.date_to else ""),
        ]
        return [(name, value) for name, value in values if value]

    def query(self, **changes: str) -> str:
        """As a query string with its question mark, some fields set ("": left out); the cursor is never kept."""
        pairs = [(name, value) for name, value in self.pairs() if name not in changes]
        pairs += [(name, value) for name, value in changes.items() if value]
        return f"?{urlencode(pairs)}" if pairs else "?"

    def as_filter(self) -> AuditFilter:
        """Dates are whole days, UTC."""
        return AuditFilter(
            actor=self.actor or None,
            action=self.action,
            outcome=self.outcome,
            study_id=self.study,
            patients=self.patients or None,
            date_from=datetime.combine(self.date_from, time.min, UTC) if self.date_from else None,
            date_to=datetime.combine(self.date_to, time.max, UTC) if self.date_to else None,
            limit=ROWS_A_PAGE,
        )


def make_filters(
    *, actor: str, action: str, outcome: str, study: str, patient: str, date_from: str, date_to: str
) -> Filters:
    """From words as a form has them."""
    pseudonyms = tuple(p for p in patient.split(".") if len(p) == 64 and set(p) <= set("0123456789abcdef"))
    return Filters(
        actor="".join(c for c in actor if is_clean(c)).strip(),
        action=next((a for a in AuditAction if a.value == action), None),
        outcome=next((o for o in AuditOutcome if o.value == outcome), None),
        study=_uuid(study),
        patients=pseudonyms,
        date_from=_date(date_from),
        date_to=_date(date_to),
    )


def asked(
    actor: _Word = "",
    action: _Word = "",
    outcome: _Word = "",
    study: _Word = "",
    patient: Annotated[str, Query(max_length=2000)] = "",
    date_from: Annotated[str, Query(alias="from", max_length=20)] = "",
    date_to: Annotated[str, Query(alias="to", max_length=20)] = "",
) -> Filters:
    """A dependency: from the query string."""
    return make_filters(
        actor=actor,
        action=action,
        outcome=outcome,
        study=study,
        patient=patient,
        date_from=date_from,
        date_to=date_to,
    )


@router.get("/admin/audit")
def trail(
    request: Request,
    who: AuditReader,
    filters: Annotated[Filters, Depends(asked)],
    cursor: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Newest first, a hundred a page."""
    flt = filters.as_filter()
    if cursor:
        flt = replace(flt, before=read_cursor(cursor))
    found = services_of(request).audit_search.page(who.tenant, flt, who.name)
    return page(
        request,
        "audit.html",
        who,
        events=found.events,
        filters=filters,
        older=filters.query(cursor=found.next) if found.next else "",
        newest=filters.query() if cursor else "",
        actions=sorted(AuditAction, key=action_word),
        outcomes=list(AuditOutcome),
        word=action_word,
        details=details,
    )


@router.post("/admin/audit/patient")
def by_patient(
    request: Request,
    who: AuditSearcher,
    patient_id: Annotated[str, Form(max_length=64)] = "",
    issuer: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """From a patient's number to the list of what concerned them: the number is hashed here and goes no further."""
    number = patient_id.strip()
    if not number or not is_clean(number + issuer):
        raise InvalidRequest("Give the patient's id.", parameter="patient_id")
    pseudonyms = services_of(request).audit_search.pseudonyms_of(
        who.tenant, PatientRef(issuer=issuer.strip(), patient_id=number), who.name
    )
    return RedirectResponse(f"/admin/audit?{urlencode({'patient': '.'.join(pseudonyms)})}", status_code=303)


@router.post("/admin/audit/export")
def export(
    request: Request,
    who: AuditSearcher,
    actor: Annotated[str, Form(max_length=200)] = "",
    action: Annotated[str, Form(max_length=200)] = "",
    outcome: Annotated[str, Form(max_length=200)] = "",
    study: Annotated[str, Form(max_length=200)] = "",
    patient: Annotated[str, Form(max_length=2000)] = "",
    date_from: Annotated[str, Form(alias="from", max_length=20)] = "",
    date_to: Annotated[str, Form(alias="to", max_length=20)] = "",
) -> Response:
    """The rows of a search as CSV; on record before the first one leaves."""
    filters = make_filters(
        actor=actor,
        action=action,
        outcome=outcome,
        study=study,
        patient=patient,
        date_from=date_from,
        date_to=date_to,
    )
    services = services_of(request)
    events = services.audit_search.export(who.tenant, filters.as_filter(), who.name)
    name = f"audit-{who.tenant}-{services.clock():%Y%m%d-%H%M%S}.csv"
    return StreamingResponse(
        _csv(events),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


_COLUMNS: Final = (
    "id",
    "at",
    "action",
    "outcome",
    "code",
    "actor",
    "actor_kind",
    "user_id",
    "role",
    "session",
    "address",
    "channel",
    "patient",
    "study",
    "facts",
)


def _csv(events: Iterator[AuditEvent]) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(_COLUMNS)
    for event in events:
        who = event.actor
        values = (
            event.id,
            event.at.isoformat(),
            event.action,
            event.outcome,
            event.code,
            who.name,
            who.kind.value,
            who.user_id or "",
            who.role,
            who.session,
            who.address,
            who.channel,
            event.patient or "",
            event.study_id or "",
            json.dumps(dict(event.facts), ensure_ascii=False, sort_keys=True),
        )
        writer.writerow(_plain(str(value)) for value in values)
        if buffer.tell() > 32_768:
            yield buffer.getvalue().encode("utf-8", "replace")
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode("utf-8", "replace")


def _plain(value: str) -> str:
    """A spreadsheet must not take text for a formula (a user's or AE's name is somebody's choice)."""
    return f"'{value}" if value.startswith(_FORMULA) else value


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text.strip())
    except ValueError:
        return None


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
