"""GET /api/events: what changed, as server-sent events. Ids only; the page fetches the rest."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from overread.http.auth import Reader, still_valid
from overread.http.sse import event_stream
from overread.http.wiring import services_of

router = APIRouter(prefix="/api", tags=["events"])


@router.get(
    "/events",
    summary="Changes as they happen",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}, "description": "`hello`, `analysis`, `study` events"}},
)
async def events(request: Request, who: Reader) -> Response:
    """The tenant's events until the session ends. On `hello` (each connection's first) reload what you show."""
    services = services_of(request)
    return event_stream(
        services.events,
        who.tenant,
        streams=request.app.state.streams,
        clock=services.clock,
        until=who.valid_until,
        alive=still_valid(request),
        heartbeat_s=services.settings.heartbeat_s,
        notes=lambda: services.watch.condition().notes,
    )
