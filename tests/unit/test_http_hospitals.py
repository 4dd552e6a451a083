"""What the API does for a hospital that is suspended, out of service, or has limits of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from starlette.requests import Request
from tests.app_on_fakes import ALPHA, BETA, PASSWORD, World, make_world

from overread.domain.errors import OverreadError, TenantSuspended, TenantUnavailable
from overread.domain.study import TenantId
from overread.http.auth import still_valid
from overread.services.tenant_settings import TenantSettings


@pytest.fixture
def world() -> World:
    return make_world()


def _decided(world: World, settings: TenantSettings | OverreadError, *, known: bool = True) -> None:
    """What ALPHA decided, or why it is not worked for."""

    def hospital(tenant: TenantId) -> TenantSettings:
        if tenant != ALPHA:
            return TenantSettings()
        if isinstance(settings, OverreadError):
            raise settings
        return settings

    world.app.state.services = replace(world.services, hospital=hospital, hospital_known=lambda _tenant: known)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(TenantSuspended("closed"), 403, "TENANT_SUSPENDED"), (TenantUnavailable("broken"), 503, "TENANT_UNAVAILABLE")],
)
def test_an_open_session_is_refused(world: World, error: OverreadError, status: int, code: str, known: bool) -> None:
    client, headers, others = world.client(), world.bearer(), world.bearer(tenant=BETA)
    assert client.get("/api/studies", headers=headers).status_code == 200
    _decided(world, error, known=known)
    answer = client.get("/api/studies", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert client.get("/api/studies", headers=others).status_code == 200


def test_an_event_stream_ends(world: World) -> None:
    headers = [(b"authorization", world.bearer()["Authorization"].encode())]
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "app": world.app})
    assert asyncio.run(still_valid(request)()) is True
    _decided(world, TenantSuspended("closed"))
    assert asyncio.run(still_valid(request)()) is False


def test_a_rate_of_its_own(world: World) -> None:
    client, headers, others = world.client(), world.bearer(), world.bearer(tenant=BETA)
    _decided(world, TenantSettings(api_per_minute=60))
    answers = [client.get("/api/studies", headers=headers).status_code for _ in range(70)]
    assert answers[:60] == [200] * 60
    assert 429 in answers
    assert {client.get("/api/studies", headers=others).status_code for _ in range(70)} == {200}


def test_a_page_session_of_its_own_length(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        world.services.access, "_idle_of", lambda tenant: timedelta(minutes=5) if tenant == ALPHA else None
    )
    clients = {}
    for tenant in (ALPHA, BETA):
        clients[tenant] = world.client()
        form = {"username": "radiologist", "password": PASSWORD, "tenant": tenant.slug}
        assert clients[tenant].post("/login", data=form).status_code == 303
    world.clock.advance(minutes=6)
    assert [clients[t].get("/api/studies").status_code for t in (ALPHA, BETA)] == [401, 200]
    assert "5 minutes" in clients[ALPHA].get("/api/studies").json()["error"]
