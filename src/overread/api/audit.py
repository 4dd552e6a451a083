"""/api/audit: who looked at what, for admins of the tenant. A patient's id is sent by POST, never in an address."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from overread.api.analyses import parse_instant
from overread.domain.audit import AuditAction, AuditEvent, AuditFilter, AuditOutcome, PatientRef
from overread.domain.errors import InvalidRequest
from overread.http.auth import AuditReader, AuditSearcher
from overread.http.replies import json_reply
from overread.http.text import CleanText
from overread.http.wire import WireModel, dump
from overread.http.wiring import services_of
from overread.services.audit_search import MOST, Page, read_cursor

router = APIRouter(prefix="/api/audit", tags=["audit"])


class AuditEntry(WireModel):
    """A row of the trail."""

    id: int
    at: AwareDatetime
    action: str
    #: success, denied or failed.
    outcome: str
    #: Error code of what was denied or failed, else "".
    code: str
    #: User name, AE title, name of an API key or of a process.
    actor: str
    #: person, machine, peer or system.
    actor_kind: str
    user_id: UUID | None
    role: str
    #: Of the log-in or API key; not the secret itself.
    session: str
    address: str
    #: page, api, dicom, worker, command line.
    channel: str
    #: Keyed hash that stands for the patient.
    patient: str | None
    #: Our own id of the study.
    study: UUID | None
    facts: dict[str, Any]


class AuditPage(WireModel):
    """Newest first."""

    entries: list[AuditEntry]
    #: For the next page; null at the end.
    cursor: str | None


class AuditQuery(WireModel):
    """Filters; an unknown one is an error, not silence."""

    model_config = ConfigDict(extra="forbid")

    actor: CleanText | None = Field(default=None, max_length=200, description="Name, exactly.")
    action: AuditAction | None = None
    outcome: AuditOutcome | None = None
    study: UUID | None = Field(default=None, description="Our own id of a study.")
    patient: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="As the trail calls them.")
    date_from: str | None = Field(default=None, max_length=40, description="Date or instant, ISO 8601.")
    date_to: str | None = Field(default=None, max_length=40, description="Inclusive when a date.")
    cursor: str | None = Field(default=None, max_length=200)
    limit: int = Field(default=50, ge=1, le=MOST)

    def as_filter(self) -> AuditFilter:
        """Raises `InvalidRequest`."""
        flt = AuditFilter(
            actor=self.actor,
            action=self.action,
            outcome=self.outcome,
            study_id=self.study,
            patients=(self.patient,) if self.patient else None,
            date_from=parse_instant("dateFrom", self.date_from, end=False),
            date_to=parse_instant("dateTo", self.date_to, end=True),
            before=read_cursor(self.cursor) if self.cursor else None,
            limit=self.limit,
        )
        if flt.date_from and flt.date_to and flt.date_from > flt.date_to:
            raise InvalidRequest("The parameter dateTo lies before dateFrom.", parameter="dateTo")
        return flt


class AuditSearch(AuditQuery):
    """The same, and a patient by number."""

    patient_id: CleanText | None = Field(
        default=None, min_length=1, max_length=64, description="PatientID (0010,0020)."
    )
    issuer: CleanText = Field(default="", max_length=64, description="IssuerOfPatientID (0010,0021); empty: any.")


@router.get("", response_model=AuditPage, summary="The audit trail, newest first")
def list_audit(request: Request, query: Annotated[AuditQuery, Query()], who: AuditReader) -> Response:
    """Rows of the tenant. The question itself is put on record."""
    page = services_of(request).audit_search.page(who.tenant, query.as_filter(), who.name)
    return json_reply(request, _payload(page))


@router.post("/search", response_model=AuditPage, summary="The audit trail of a patient")
def search_audit(request: Request, body: AuditSearch, who: AuditSearcher) -> Response:
    """As the list, and by `patientId`: the server hashes it, and only the hash is compared and recorded."""
    patient = PatientRef(issuer=body.issuer, patient_id=body.patient_id) if body.patient_id else None
    page = services_of(request).audit_search.page(who.tenant, body.as_filter(), who.name, patient)
    return json_reply(request, _payload(page))


def _payload(page: Page) -> dict[str, Any]:
    return dump(AuditPage(entries=[entry(e) for e in page.events], cursor=page.next))


def entry(event: AuditEvent) -> AuditEntry:
    """A row for the wire."""
    return AuditEntry(
        id=event.id,
        at=event.at,
        action=event.action,
        outcome=event.outcome,
        code=event.code,
        actor=event.actor.name,
        actor_kind=event.actor.kind.value,
        user_id=event.actor.user_id,
        role=event.actor.role,
        session=event.actor.session,
        address=event.actor.address,
        channel=event.actor.channel,
        patient=event.patient,
        study=event.study_id,
        facts=dict(event.facts),
    )
