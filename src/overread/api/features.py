"""/api/ai-features: which AI runs in this hospital, as the specification has it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from overread.api.analyses import MessageResponse, parse_instant
from overread.domain.errors import InvalidRequest
from overread.domain.features import Category, Feature
from overread.domain.modality import Modality
from overread.http.auth import FeatureManager, FeatureReader, Reader
from overread.http.text import CleanText
from overread.http.wire import Instant, WireModel
from overread.http.wiring import services_of
from overread.services.features import HISTORY_AT_MOST, REASON_AT_MOST
from overread.services.values import FeatureChange

router = APIRouter(prefix="/api/ai-features", tags=["ai features"])


class ModalityStatus(WireModel):
    """A feature for one modality."""

    modality: Modality
    enabled: bool
    #: Whether it follows the general switch. (Ours.)
    inherited: bool


class FeatureStatus(WireModel):
    """A feature of the AI."""

    feature_key: Feature
    feature_name: str
    category: Category
    #: For what has no switch of its own.
    enabled: bool
    modalities: list[ModalityStatus]
    #: What it does. (Ours.)
    description: str
    #: Why it cannot be enabled; null where it can. (Ours.)
    unavailable: str | None


class FeatureList(BaseModel):
    features: list[FeatureStatus]


class SwitchRequest(WireModel):
    """Turn a switch."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool | None = Field(description="null, with a modality: follows the general switch again.")
    modality: Modality | None = Field(default=None, description="Left out: all that have no switch of their own.")
    reason: CleanText = Field(max_length=REASON_AT_MOST, description="Why. Kept in the audit log.")


class AuditLogEntry(WireModel):
    """A change of a switch."""

    id: int
    feature_key: Feature
    modality: str | None
    #: "enabled", "disabled" or "inherited".
    action: str
    performed_by: str
    reason: str
    performed_at: Instant


class AuditLog(WireModel):
    audit_log: list[AuditLogEntry]


class LogQuery(BaseModel):
    """Filters; an unknown one is an error, not silence."""

    model_config = ConfigDict(extra="forbid")

    featureKey: str | None = Field(default=None, max_length=100)  # noqa: N815
    dateFrom: str | None = Field(default=None, max_length=40, description="Date or instant, ISO 8601.")  # noqa: N815
    dateTo: str | None = Field(default=None, max_length=40, description="Inclusive when a date.")  # noqa: N815


@router.get("", response_model=FeatureList, summary="Features and their switches")
def list_features(request: Request, who: Reader) -> FeatureList:
    """All of the catalogue, also what this version lacks and says so."""
    return FeatureList(
        features=[
            FeatureStatus(
                feature_key=status.entry.key,
                feature_name=status.entry.name,
                category=status.entry.category,
                enabled=status.enabled,
                modalities=[
                    ModalityStatus(modality=m, enabled=status.on(m), inherited=status.own(m) is None) for m in Modality
                ],
                description=status.entry.description,
                unavailable=status.entry.missing or None,
            )
            for status in services_of(request).features.statuses(who.tenant)
        ]
    )


@router.get("/audit-log", response_model=AuditLog, summary="Who turned which switch, and why")
def audit_log(request: Request, query: Annotated[LogQuery, Query()], who: FeatureReader) -> AuditLog:
    """Newest first, at most 1,000. Administrators only."""
    start, end = period(query.dateFrom, query.dateTo)
    changes = services_of(request).features.history(
        who, feature=query.featureKey, date_from=start, date_to=end, limit=HISTORY_AT_MOST
    )
    return AuditLog(audit_log=[_entry(change) for change in changes])


@router.put("/{featureKey}", response_model=MessageResponse, summary="Enable or disable a feature")
def set_feature(request: Request, featureKey: str, body: SwitchRequest, who: FeatureManager) -> MessageResponse:  # noqa: N803
    """Holds for the next analysis; one that runs obeys it when it saves. Administrators only; a reason is required."""
    message = services_of(request).features.set(
        who, featureKey, modality=body.modality, enabled=body.enabled, reason=body.reason
    )
    return MessageResponse(message=message)


def period(date_from: str | None, date_to: str | None) -> tuple[datetime | None, datetime | None]:
    """Both ends as instants. Raises `InvalidRequest`."""
    start = parse_instant("dateFrom", date_from, end=False)
    end = parse_instant("dateTo", date_to, end=True)
    if start and end and start > end:
        raise InvalidRequest("The parameter dateTo lies before dateFrom.", parameter="dateTo")
    return start, end


def _entry(change: FeatureChange) -> AuditLogEntry:
    return AuditLogEntry(
        id=change.id,
        feature_key=change.feature,
        modality=change.modality,
        action=change.action,
        performed_by=change.performed_by,
        reason=change.reason,
        performed_at=change.performed_at,
    )
