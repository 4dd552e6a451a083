"""Log-in at a foreign identity provider: oidc-provider-mock (MIT, built on Authlib), a process of its own.

It does not check PKCE; tests/unit/test_identity_provider.py proves what we send.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from overread import bootstrap
from overread.admin import identity
from overread.config import Settings
from overread.domain.errors import Conflict, InvalidRequest, ProviderUnavailable
from overread.domain.study import TenantId
from overread.services.access import Role
from overread.services.identity_values import ProviderRow
from tests.integration.conftest import make_tenant

CLIENT, SECRET = "overread", "a secret of the client"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    people = [
        {"sub": "kim", "preferred_username": "kim", "name": "Dr. Kim", "groups": ["rad", "all"]},
        {"sub": "nobody", "preferred_username": "nobody", "groups": ["all"]},
    ]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)]
    for person in people:
        command += ["--user-claims", json.dumps(person)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                httpx2.get(f"{address}/.well-known/openid-configuration").raise_for_status()
                break
            except httpx2.HTTPError:
                assert process.poll() is None, "the provider ended"
                time.sleep(0.1)
        else:
            pytest.fail("the provider does not answer")
        yield address
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def hospital(settings: Settings) -> TenantId:
    return make_tenant(settings)


@pytest.fixture
def app(settings: Settings, overread: bootstrap.Overread, issuer: str, hospital: TenantId) -> FastAPI:
    row = ProviderRow(
        issuer=issuer,
        client_id=CLIENT,
        client_secret=SECRET,
        role_claim="groups",
        roles={"rad": "radiologist", "tech": "technician"},
    )
    identity.set_provider(settings, hospital.slug, row)
    return bootstrap.build_app(overread)


def _at_provider(address: str, sub: str) -> dict[str, str]:
    """What somebody's browser does there: choose who they are, be sent back."""
    answer = httpx2.post(address, data={"sub": sub}, follow_redirects=False)
    assert answer.status_code == 302, answer.text
    back = urlsplit(answer.headers["location"])
    assert back.path == "/login/oidc/callback"
    return {k: v[0] for k, v in parse_qs(back.query).items()}


def _log_in(client: TestClient, hospital: TenantId, sub: str, target: str = "/account") -> Any:
    start = client.get("/login/oidc", params={"tenant": hospital.slug, "next": target})
    assert start.status_code == 303
    return client.get("/login/oidc/callback", params=_at_provider(start.headers["location"], sub))


def _client(app: FastAPI) -> TestClient:
    return TestClient(app, follow_redirects=False)


def test_a_page(app: FastAPI, overread: bootstrap.Overread, hospital: TenantId, issuer: str) -> None:
    client = _client(app)
    back = _log_in(client, hospital, "kim")
    assert back.status_code == 200 and 'content="0;url=/account"' in back.text
    page = client.get("/account")
    assert "Dr. Kim" in page.text and "identity provider" in page.text
    session = client.get("/api/auth/session").json()
    assert (session["user"], session["role"], session["means"]) == ("kim", "radiologist", "page")
    with overread.database.unit(hospital) as unit:
        user = unit.users.by_subject(issuer, "kim")
        row = unit.provider.get()
    assert user is not None and user.last_login_at is not None and not user.password_hash
    assert row is not None and row.client_secret is not None and SECRET not in row.client_secret
    # The code was for one use, and so was the cookie that began it.
    assert client.get("/login/oidc/callback", params={"code": "x", "state": "y"}).status_code == 401


def test_no_role(app: FastAPI, hospital: TenantId) -> None:
    client = _client(app)
    back = _log_in(client, hospital, "nobody")
    assert back.status_code == 403 and "has no role in Overread" in back.text
    assert client.get("/account").status_code == 401


def test_the_provider_changes_a_role(app: FastAPI, hospital: TenantId, issuer: str) -> None:
    claims = {"preferred_username": "lee", "groups": ["rad"]}
    for group, role in (("rad", "radiologist"), ("tech", "technician")):
        httpx2.put(f"{issuer}/users/lee", json={**claims, "groups": [group]}).raise_for_status()
        client = _client(app)
        assert _log_in(client, hospital, "lee").status_code == 200
        assert client.get("/api/auth/session").json()["role"] == role


def test_its_id_token_opens_the_api(app: FastAPI, hospital: TenantId, issuer: str) -> None:
    redirect = "http://testserver/login/oidc/callback"
    query = f"response_type=code&client_id={CLIENT}&redirect_uri={redirect}&scope=openid+profile&state=s"
    code = _at_provider(f"{issuer}/oauth2/authorize?{query}", "kim")["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect}
    tokens = httpx2.post(f"{issuer}/oauth2/token", data=form, auth=(CLIENT, SECRET)).json()
    headers = {"Authorization": f"Bearer {tokens['id_token']}", "X-Tenant-ID": hospital.slug}
    answer = _client(app).get("/api/studies", headers=headers)
    assert answer.status_code == 200, answer.text
    head, body, signature = tokens["id_token"].split(".")
    spoiled = f"{head}.{body}.{signature[:-6]}AAAAAA"
    assert (
        _client(app).get("/api/studies", headers={**headers, "Authorization": f"Bearer {spoiled}"}).status_code == 401
    )
    opaque = {**headers, "Authorization": f"Bearer {tokens['access_token']}"}
    assert _client(app).get("/api/studies", headers=opaque).status_code == 401


def test_only_the_provider(settings: Settings, app: FastAPI, hospital: TenantId, issuer: str) -> None:
    access = app.state.services.access
    access.accounts.add(hospital, name="local", role=Role.RADIOLOGIST, password="a long password indeed", actor="test")
    body = {"username": "local", "password": "a long password indeed", "tenant": hospital.slug}
    assert _client(app).post("/api/auth/login", json=body).status_code == 200
    row = ProviderRow(
        issuer=issuer,
        client_id=CLIENT,
        client_secret=SECRET,
        role_claim="groups",
        roles={"rad": "radiologist"},
        local_accounts=False,
    )
    identity.set_provider(settings, hospital.slug, row)
    answer = _client(app).post("/api/auth/login", json=body)
    assert (answer.status_code, "identity provider only" in answer.json()["error"]) == (401, True)


def test_what_cannot_be_set(settings: Settings, hospital: TenantId, issuer: str) -> None:
    other = make_tenant(settings)
    row = ProviderRow(issuer=issuer, client_id=CLIENT, role_claim="groups", roles={"rad": "radiologist"})
    with pytest.raises(Conflict, match=f"The tenant {hospital} takes tokens of the same issuer"):
        identity.set_provider(settings, other.slug, row)
    with pytest.raises(InvalidRequest, match="is no role"):
        identity.set_provider(settings, other.slug, ProviderRow(issuer=issuer, client_id="x", roles={"a": "king"}))
    with pytest.raises(InvalidRequest, match="Nobody would get a role"):
        identity.set_provider(settings, other.slug, ProviderRow(issuer=issuer, client_id="x"))
    nowhere = ProviderRow(issuer="https://127.0.0.1:9", client_id="x", roles={"a": "admin"})
    with pytest.raises(ProviderUnavailable):
        identity.set_provider(settings, other.slug, nowhere)
    identity.set_provider(settings, other.slug, nowhere, check=False)
    assert identity.provider(settings, other.slug) == nowhere
    identity.remove_provider(settings, other.slug)
    assert identity.provider(settings, other.slug) is None
