"""Who may do what: tokens, tenants, roles, cookies, forms. Each route of the application has its row in `ROUTES`."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import jwt
import pytest
from tests.app_on_fakes import ALPHA, BETA, PASSWORD, World, make_dicom, make_world
from tests.routes import PUBLIC, ROUTES, Route, Scene, routes_of

from overread.domain.study import TenantId
from overread.services.access import KeyRing, Role, check_password, hash_password


@pytest.fixture
def world() -> World:
    return make_world()


def make_scene(world: World) -> Scene:
    study, completed, sop = world.read_study()
    _, pending, _ = world.receive(PatientID="P-2")
    _, failed, _ = world.receive(PatientID="P-3")
    with world.db.unit(ALPHA) as uow:
        uow.analyses.fail(failed, "INFERENCE_ERROR", "The model failed.", world.clock())
        uow.analyses.attach_sr(completed, "sr/x.dcm")
        uow.analyses.attach_seg(completed, "seg/x.dcm", 1)
        row = uow.studies.get(study)
    objection = world.services.opt_outs.add(ALPHA, patient_id="P-9", issuer="", reason="told the ward", by="admin")
    world.objects.put(ALPHA, "sr/x.dcm", b"DICM")
    world.objects.put(ALPHA, "seg/x.dcm", b"DICM")
    assert row is not None
    return Scene(
        study_uid=row.study_instance_uid,
        study=study,
        completed=completed,
        pending=pending,
        failed=failed,
        sop=sop,
        opt_out=objection.opt_out.id,
        user=world.db.state(ALPHA).users["victim"].id,
        key=world.services.access.api_keys.create(
            ALPHA, name=str(uuid4()), lifetime=timedelta(days=1), actor="test"
        ).row.id,
    )


_ids = [f"{r.method} {r.template}" for r in ROUTES]
CALLED = [r for r in ROUTES if r.called]


def test_no_route_was_forgotten(world: World) -> None:
    there = routes_of(world.app)
    assert there == {(r.method, r.template) for r in ROUTES} | PUBLIC
    assert len({(r.method, r.template) for r in ROUTES}) == len(ROUTES)


def _call(world: World, route: Route, scene: Scene, headers: dict[str, str]) -> int:
    body = route.body(scene) if route.body else None
    form = route.form(scene) if route.form else None
    answer = world.client().request(route.method, route.path(scene), headers=headers, json=body, data=form)
    if answer.status_code >= 400 and route.template.startswith("/api"):
        assert {"error", "code", "timestamp"} <= answer.json().keys()
    return int(answer.status_code)


@pytest.fixture(scope="module")
def still() -> tuple[World, Scene]:
    """One world for calls that are refused: they change nothing."""
    world = make_world()
    return world, make_scene(world)


@pytest.mark.parametrize("route", ROUTES, ids=_ids)
def test_refused(still: tuple[World, Scene], route: Route) -> None:
    world, scene = still
    assert _call(world, route, scene, {}) == 401
    assert _call(world, route, scene, {**world.bearer(tenant=BETA), "X-Tenant-ID": "alpha"}) == 403
    for role in set(Role) - route.roles:
        assert _call(world, route, scene, world.bearer(role.value)) == 403, role


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if r.called], ids=[i for r, i in zip(ROUTES, _ids, strict=True) if r.called]
)
def test_let_in(route: Route) -> None:
    for role in route.roles:
        world = make_world()
        assert _call(world, route, make_scene(world), world.bearer(role.value)) == route.good, role


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if r.called], ids=[i for r, i in zip(ROUTES, _ids, strict=True) if r.called]
)
def test_other_tenant(world: World, route: Route) -> None:
    scene = make_scene(world)
    before = (world.db.state(ALPHA).analyses.copy(), world.db.state(ALPHA).users.copy())
    for role in route.roles:
        assert _call(world, route, scene, world.bearer(role.value, BETA)) == route.foreign, role
    assert (world.db.state(ALPHA).analyses, world.db.state(ALPHA).users) == before


# --- tokens ------------------------------------------------------------------------------------------------


def _none_token(world: World) -> str:
    claims = jwt.decode(world.token(), options={"verify_signature": False})
    parts = [json.dumps({"alg": "none", "kid": "1"}), json.dumps(claims)]
    return ".".join(base64.urlsafe_b64encode(p.encode()).rstrip(b"=").decode() for p in parts) + "."


def _forge(world: World, key: bytes = b"k" * 32, kid: str = "1", **changes: object) -> str:
    claims = jwt.decode(world.token(), options={"verify_signature": False}) | changes
    claims = {k: v for k, v in claims.items() if v is not None}
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": kid})


@pytest.mark.parametrize(
    "make",
    [
        lambda w: "",
        lambda w: "abc",
        lambda w: "a.b.c",
        _none_token,
        lambda w: _forge(w, key=b"x" * 32),
        lambda w: _forge(w, kid="7"),
        lambda w: _forge(w, tenant=None),
        lambda w: _forge(w, tenant="No Tenant"),
        lambda w: _forge(w, kind="emperor"),
        lambda w: _forge(w, kind="page"),
        lambda w: _forge(w, epoch=1),
        lambda w: _forge(w, epoch="zero"),
        lambda w: _forge(w, sub=str(UUID(int=7))),
        lambda w: _forge(w, sub="7"),
        lambda w: _forge(w, exp="soon"),
        lambda w: _forge(w, exp=1),
        lambda w: _forge(w, iss="somebody"),
        lambda w: w.token()[:-4] + "AAAA",
    ],
)
def test_a_token_that_is_not_ours(world: World, make: Callable[[World], str]) -> None:
    headers = {"Authorization": f"Bearer {make(world)}"}
    answer = world.client().get("/api/image-analysis", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_token_of_an_older_key_still_works(world: World) -> None:
    headers = {"Authorization": f"Bearer {_forge(world, key=b'o' * 32, kid='0')}"}
    assert world.client().get("/api/image-analysis", headers=headers).status_code == 200


def test_session_expires(world: World) -> None:
    headers = world.bearer()
    world.clock.advance(hours=10)
    answer = world.client().get("/api/image-analysis", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, "The session has expired. Log in again.")


def test_basic_authentication_is_refused(world: World) -> None:
    assert world.client().get("/api/image-analysis", headers={"Authorization": "Basic eDp5"}).status_code == 401


# --- log-in ------------------------------------------------------------------------------------------------


def test_log_in_over_the_api(world: World) -> None:
    client = world.client()
    answer = client.post("/api/auth/login", json={"username": "technician", "password": PASSWORD})
    body = answer.json()
    assert answer.status_code == 200
    assert (body["tenantId"], body["role"], body["tokenType"]) == ("alpha", "technician", "Bearer")
    assert client.get("/api/studies", headers={"Authorization": f"Bearer {body['token']}"}).status_code == 200
    other = client.post("/api/auth/login", json={"username": "admin", "password": PASSWORD, "tenant": "beta"})
    assert other.json()["tenantId"] == "beta"
    assert ("login", "technician") in [(a, who) for a, who, *_ in world.db.state(ALPHA).audit]


@pytest.mark.parametrize(
    ("name", "password", "tenant"),
    [
        ("radiologist", "wrong", "alpha"),
        ("nobody", PASSWORD, "alpha"),
        ("radiologist", PASSWORD, "gamma"),
        ("radiologist", PASSWORD, "../alpha"),
    ],
)
def test_wrong_log_ins_all_sound_alike(world: World, name: str, password: str, tenant: str) -> None:
    answer = world.client().post("/api/auth/login", json={"username": name, "password": password, "tenant": tenant})
    assert (answer.status_code, answer.json()["error"]) == (401, "User name or password is wrong.")
    assert set(world.db.tenants) == {"alpha", "beta"}


def test_disabled_user(world: World) -> None:
    from dataclasses import replace

    users = world.db.state(ALPHA).users
    users["admin"] = replace(users["admin"], disabled=True)
    answer = world.client().post("/api/auth/login", json={"username": "admin", "password": PASSWORD})
    assert answer.status_code == 401


def test_log_in_is_rate_limited_per_user(world: World) -> None:
    client = make_world(login_per_minute=3).client()
    for _ in range(3):
        assert client.post("/api/auth/login", json={"username": "x", "password": "y"}).status_code == 401
    answer = client.post("/api/auth/login", json={"username": "x", "password": "y"})
    assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMITED")
    assert int(answer.headers["retry-after"]) >= 1
    assert client.post("/login", data={"username": "x", "password": "y"}).status_code == 429


def test_api_is_rate_limited() -> None:
    world = make_world(api_per_minute=2)
    codes = [world.client().get("/api/studies", headers=world.bearer()).status_code for _ in range(3)]
    assert codes == [200, 200, 429]


def test_passwords() -> None:
    stored = hash_password("abc")
    assert stored.startswith("$argon2id$")
    assert check_password(stored, "abc")
    assert not check_password(stored, "abd")
    assert not check_password("plain", "plain")


def test_keys_are_checked(world: World) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyRing.fixed({"1": b"short"}, "1")
    with pytest.raises(ValueError, match="active key"):
        KeyRing.fixed({"1": b"k" * 32}, "2")


# --- pages: cookie and forms -------------------------------------------------------------------------------


def _log_in(world: World, name: str = "radiologist", target: str = "/") -> tuple[object, object]:
    client = world.client()
    answer = client.post("/login", data={"username": name, "password": PASSWORD, "next": target})
    return client, answer


def test_cookie_is_not_readable_and_stays_on_this_site(world: World) -> None:
    _, answer = _log_in(world, target="/?status=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?status=failed")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie and "secure" not in cookie
    _, secure = _log_in(make_world(cookie_secure=True))
    assert secure.headers["set-cookie"].startswith("__Host-overread=") and "Secure" in secure.headers["set-cookie"]
    assert "max-age" in secure.headers["strict-transport-security"]


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\nb"])
def test_log_in_never_leads_elsewhere(world: World, target: str) -> None:
    _, answer = _log_in(world, target=target)
    assert answer.headers["location"] == "/"


def test_wrong_password_on_the_page(world: World) -> None:
    answer = world.client().post("/login", data={"username": "radiologist", "password": "no"})
    assert answer.status_code == 401 and "User name or password is wrong." in answer.text
    assert "set-cookie" not in answer.headers


def test_pages_lead_to_log_in_and_back(world: World) -> None:
    answer = world.client().get("/studies/1.2?image=2", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fstudies%2F1.2%3Fimage%3D2")


def test_cookie_reads_but_changes_nothing_without_the_form_token(world: World) -> None:
    scene = make_scene(world)
    client, _ = _log_in(world)
    assert client.get("/api/studies").status_code == 200
    path = f"/analyses/{scene.pending}/cancel"
    assert client.post(path).status_code == 403
    assert client.post(path, data={"csrf_token": "0" * 64}).status_code == 403
    assert client.delete(f"/api/image-analysis/{scene.pending}").status_code == 403
    token = re.search(r'name="csrf_token" value="(\w+)"', client.get("/").text)
    assert token
    cross = {"Origin": "https://evil.example"}
    assert client.post(path, data={"csrf_token": token[1]}, headers=cross).status_code == 403
    assert client.post(path, data={"csrf_token": token[1]}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    same = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    assert (
        client.post(path, data={"csrf_token": token[1], "next": "/?page=2"}, headers=same).headers["location"]
        == "/?page=2"
    )
    answer = client.post(f"/api/image-analysis/{scene.failed}/retry", headers={"X-CSRF-Token": token[1]})
    assert answer.status_code == 200


def test_a_form_token_of_another_session_is_refused(world: World) -> None:
    scene = make_scene(world)
    first, _ = _log_in(world)
    second, _ = _log_in(world)
    token = re.search(r'name="csrf_token" value="(\w+)"', first.get("/").text)
    assert token
    assert second.post(f"/analyses/{scene.pending}/cancel", data={"csrf_token": token[1]}).status_code == 403


def test_log_in_form_from_another_site_is_refused(world: World) -> None:
    answer = world.client().post(
        "/login", data={"username": "radiologist", "password": PASSWORD}, headers={"Origin": "https://evil.example"}
    )
    assert answer.status_code == 403


def test_log_out(world: World) -> None:
    client, _ = _log_in(world)
    token = re.search(r'name="csrf_token" value="(\w+)"', client.get("/").text)
    assert token
    answer = client.post("/logout", data={"csrf_token": token[1]})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert client.get("/api/studies").status_code == 401


def test_operator_gets_the_system_page_and_no_patient(world: World) -> None:
    make_scene(world)
    client, _ = _log_in(world, "operator")
    assert client.get("/").headers["location"] == "/system"
    text = client.get("/system").text
    assert "Zzyzx" not in text and "P-1" not in text
    assert client.get("/", headers={"Accept": "text/html"}).status_code == 303


def test_upload_and_events_need_a_log_in(world: World) -> None:
    client = world.client()
    data = make_dicom()
    headers = {"Content-Type": "application/dicom"}
    assert client.post("/api/studies", content=data, headers=headers).status_code == 401
    assert client.post("/api/studies", content=data, headers={**headers, **world.bearer("operator")}).status_code == 403
    assert client.get("/api/events").status_code == 401
    assert client.get("/api/events", headers=world.bearer("operator")).status_code == 403
    wrong = {**world.bearer(tenant=TenantId(slug="beta")), "X-Tenant-ID": "alpha"}
    assert client.get("/api/events", headers=wrong).json()["code"] == "TENANT_MISMATCH"
