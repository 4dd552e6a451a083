"""/api/api-keys: keys of machines (a RIS, a script), for the hospital's administrators."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from overread.http.auth import UserManager, UserReader, address_of
from overread.http.text import CleanText
from overread.http.wire import Instant, WireModel
from overread.http.wiring import services_of
from overread.services.identity_values import ApiKeyRow

router = APIRouter(prefix="/api/api-keys", tags=["api keys"])


class ApiKey(WireModel):
    """A key, without its secret."""

    key_id: str
    name: str
    #: null: all that the role service has.
    permissions: list[str] | None
    #: Addresses it may come from (CIDR); empty: any.
    networks: list[str]
    created_at: Instant
    created_by: str
    expires_at: Instant
    revoked_at: Instant | None
    last_used_at: Instant | None
    last_used_from: str | None


class ApiKeyList(BaseModel):
    keys: list[ApiKey]


class NewApiKey(WireModel):
    """What the machine may do."""

    model_config = ConfigDict(extra="forbid")

    name: CleanText = Field(min_length=1, max_length=100)
    expires_in_days: int = Field(default=365, ge=1, le=1826)
    permissions: list[CleanText] | None = Field(default=None, max_length=20, description="Left out: all of service.")
    networks: list[CleanText] = Field(default=[], max_length=50, description="As 10.1.2.0/24; empty: from anywhere.")


class MadeApiKey(WireModel):
    """Shown this once."""

    #: Send it as `Authorization: Bearer ovr_…`.
    api_key: str
    key: ApiKey


@router.get("", response_model=ApiKeyList, summary="Keys of machines")
def list_keys(request: Request, who: UserReader) -> ApiKeyList:
    """The newest first, revoked ones too."""
    return ApiKeyList(keys=[_key(row) for row in services_of(request).access.api_keys.all(who.tenant)])


@router.post("", status_code=201, response_model=MadeApiKey, summary="Make a key")
def create_key(request: Request, who: UserManager, body: NewApiKey) -> MadeApiKey:
    """409 if a living key has the name."""
    made = services_of(request).access.api_keys.create(
        who.tenant,
        name=body.name.strip(),
        lifetime=timedelta(days=body.expires_in_days),
        permissions=body.permissions,
        networks=body.networks,
        actor=who.name,
        address=address_of(request),
    )
    return MadeApiKey(api_key=made.key, key=_key(made.row))


@router.delete("/{keyId}", status_code=204, response_class=Response, summary="Revoke a key")
def revoke_key(
    request: Request,
    who: UserManager,
    keyId: str = Path(max_length=40, pattern="^[a-z2-7]+$"),  # noqa: N803
) -> Response:
    """Void everywhere within 5 s."""
    services_of(request).access.api_keys.revoke(who.tenant, keyId, actor=who.name, address=address_of(request))
    return Response(status_code=204)


def _key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        key_id=row.id,
        name=row.name,
        permissions=list(row.permissions) if row.permissions is not None else None,
        networks=list(row.networks),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        last_used_from=row.last_used_from,
    )
