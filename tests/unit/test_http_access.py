"""Who may do what: tokens, tenants, roles, cookies, forms. Each route of the application has its row in `ROUTES`."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import jwt
import pytest
from tests.app_on_fakes import ALPHA, BETA, PASSWORD, World, make_dicom, make_world

from overread.domain.study import TenantId
from overread.services.access import KeyRing, Role, check_password, hash_password
from overread.services.values import AnalysisFilter

ALL = frozenset(Role)
CLINICAL = frozenset({Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMIN, Role.SERVICE})
SYSTEM = frozenset({Role.ADMIN, Role.OPERATOR})
ADMIN = frozenset({Role.ADMIN})
OBJECTIONS = frozenset({Role.ADMIN, Role.TECHNICIAN})


@pytest.fixture
def world() -> World:
    return make_world()


@dataclass(frozen=True)
class Scene:
    """What there is in tenant alpha when a route is tried."""

    study_uid: str
    study: UUID
    completed: UUID
    pending: UUID
    failed: UUID
    sop: str
    #: An objection of a patient who has no study here.
    opt_out: UUID


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
    )


@dataclass(frozen=True)
class Route:
    method: str
    #: As FastAPI has it.
    template: str
    #: The address in a scene.
    path: Callable[[Scene], str]
    roles: frozenset[Role]
    good: int = 200
    #: What another tenant's member gets: not found, or simply their own, empty list.
    foreign: int = 404
    body: Callable[[Scene], dict[str, object]] | None = None


ROUTES = [
    Route("GET", "/api/image-analysis", lambda s: "/api/image-analysis", CLINICAL, foreign=200),
    Route(
        "POST",
        "/api/image-analysis",
        lambda s: "/api/image-analysis",
        CLINICAL,
        good=202,
        body=lambda s: {"studyId": s.study_uid, "modality": "X-ray", "patientId": "P-1"},
    ),
    Route("GET", "/api/image-analysis/{analysisId}", lambda s: f"/api/image-analysis/{s.completed}", CLINICAL),
    Route("DELETE", "/api/image-analysis/{analysisId}", lambda s: f"/api/image-analysis/{s.pending}", CLINICAL),
    Route(
        "POST", "/api/image-analysis/{analysisId}/retry", lambda s: f"/api/image-analysis/{s.failed}/retry", CLINICAL
    ),
    Route("GET", "/api/image-analysis/{analysisId}/sr", lambda s: f"/api/image-analysis/{s.completed}/sr", CLINICAL),
    Route("GET", "/api/image-analysis/{analysisId}/seg", lambda s: f"/api/image-analysis/{s.completed}/seg", CLINICAL),
    Route(
        "GET",
        "/api/image-analysis/{analysisId}/outlines",
        lambda s: f"/api/image-analysis/{s.completed}/outlines?sopInstanceUid={s.sop}",
        CLINICAL,
    ),
    Route("GET", "/api/studies", lambda s: "/api/studies", CLINICAL, foreign=200),
    Route("GET", "/api/studies/{studyId}", lambda s: f"/api/studies/{s.study_uid}", CLINICAL),
    Route(
        "GET",
        "/api/studies/{studyId}/instances/{sopInstanceUid}/image.png",
        lambda s: f"/api/studies/{s.study}/instances/{s.sop}/image.png?boxes=all",
        CLINICAL,
    ),
    Route("GET", "/studies/{study_id}", lambda s: f"/studies/{s.study_uid}", CLINICAL),
    Route(
        "GET",
        "/studies/{study_id}/stage",
        lambda s: f"/studies/{s.study_uid}/stage?instance={s.sop}&analysis={s.completed}",
        CLINICAL,
    ),
    Route("GET", "/worklist/rows", lambda s: "/worklist/rows", CLINICAL, foreign=200),
    Route("POST", "/analyses/{analysis_id}/retry", lambda s: f"/analyses/{s.failed}/retry", CLINICAL, good=303),
    Route("POST", "/analyses/{analysis_id}/cancel", lambda s: f"/analyses/{s.pending}/cancel", CLINICAL, good=303),
    Route("POST", "/studies/{study_id}/analyse", lambda s: f"/studies/{s.study_uid}/analyse", CLINICAL, good=303),
    Route("GET", "/api/ai-features", lambda s: "/api/ai-features", CLINICAL, foreign=200),
    Route("GET", "/api/ai-features/audit-log", lambda s: "/api/ai-features/audit-log", ADMIN, foreign=200),
    Route(
        "PUT",
        "/api/ai-features/{featureKey}",
        lambda s: "/api/ai-features/quality_assessment",
        ADMIN,
        foreign=200,
        body=lambda s: {"enabled": False, "modality": "CT", "reason": "tried"},
    ),
    Route("GET", "/admin/features", lambda s: "/admin/features", ADMIN, foreign=200),
    # Without its fields: the form comes back and says so.
    Route("POST", "/admin/features", lambda s: "/admin/features", ADMIN, good=400, foreign=400),
    Route("GET", "/api/opt-outs", lambda s: "/api/opt-outs", OBJECTIONS, foreign=200),
    Route(
        "POST",
        "/api/opt-outs",
        lambda s: "/api/opt-outs",
        OBJECTIONS,
        good=201,
        foreign=201,
        body=lambda s: {"patientId": f"Q-{uuid4()}", "reason": "told the ward"},
    ),
    Route(
        "POST",
        "/api/opt-outs/find",
        lambda s: "/api/opt-outs/find",
        OBJECTIONS,
        foreign=200,
        body=lambda s: {"patientId": "P-1"},
    ),
    Route(
        "POST",
        "/api/opt-outs/{optOutId}/removal",
        lambda s: f"/api/opt-outs/{s.opt_out}/removal",
        OBJECTIONS,
        body=lambda s: {"reason": "changed their mind"},
    ),
    Route("GET", "/admin/patients", lambda s: "/admin/patients", OBJECTIONS, foreign=200),
    Route("POST", "/admin/patients", lambda s: "/admin/patients", OBJECTIONS, good=400, foreign=400),
    Route(
        "POST",
        "/admin/patients/{opt_out}/removal",
        lambda s: f"/admin/patients/{s.opt_out}/removal",
        OBJECTIONS,
        good=400,
        foreign=400,
    ),
    Route(
        "POST",
        "/api/patients/access-report",
        lambda s: "/api/patients/access-report",
        ADMIN,
        foreign=200,
        body=lambda s: {"patientId": "P-1"},
    ),
    Route("POST", "/admin/patients/report", lambda s: "/admin/patients/report", ADMIN, good=400, foreign=400),
    Route("GET", "/rejected", lambda s: "/rejected", frozenset({Role.ADMIN}), foreign=200),
    Route("GET", "/system", lambda s: "/system", SYSTEM, foreign=200),
    Route("POST", "/logout", lambda s: "/logout", ALL, good=303, foreign=303),
]
#: Tried elsewhere in this file or in their own: uploads need a file, events never end, these need no log-in.
ELSEWHERE = {
    ("POST", "/api/studies"),
    ("GET", "/api/events"),
    ("GET", "/"),
    # Only sends on to "/".
    ("GET", "/worklist"),
    ("POST", "/api/auth/login"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/docs"),
    ("GET", "/privacy"),
    ("GET", "/openapi.json"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
}
_ids = [f"{r.method} {r.template}" for r in ROUTES]


def test_no_route_was_forgotten() -> None:
    from overread import api, web

    there = {
        (method, route.path)  # type: ignore[attr-defined]
        for router in (*api.ROUTERS, *web.ROUTERS)
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    assert there - {("GET", "/openapi.json")} == ({(r.method, r.template) for r in ROUTES} | ELSEWHERE) - {
        ("GET", "/openapi.json")
    }


def _call(world: World, route: Route, scene: Scene, headers: dict[str, str]) -> int:
    body = route.body(scene) if route.body else None
    answer = world.client().request(route.method, route.path(scene), headers=headers, json=body)
    if answer.status_code >= 400 and route.template.startswith("/api"):
        assert {"error", "code", "timestamp"} <= answer.json().keys()
    return int(answer.status_code)


@pytest.mark.parametrize("route", ROUTES, ids=_ids)
def test_anonymous(world: World, route: Route) -> None:
    assert _call(world, route, make_scene(world), {}) == 401


@pytest.mark.parametrize("route", ROUTES, ids=_ids)
def test_other_tenant(world: World, route: Route) -> None:
    scene = make_scene(world)
    for role in route.roles:
        assert _call(world, route, scene, world.bearer(role.value, BETA)) == route.foreign, role
    with world.db.unit(BETA) as uow:
        assert uow.analyses.search(AnalysisFilter())[1] == 0


@pytest.mark.parametrize("route", ROUTES, ids=_ids)
def test_other_tenants_header(world: World, route: Route) -> None:
    headers = {**world.bearer(tenant=BETA), "X-Tenant-ID": "alpha"}
    assert _call(world, route, make_scene(world), headers) == 403


@pytest.mark.parametrize("route", ROUTES, ids=_ids)
@pytest.mark.parametrize("role", Role, ids=lambda r: r.value)
def test_roles(world: World, route: Route, role: Role) -> None:
    expected = route.good if role in route.roles else 403
    assert _call(world, route, make_scene(world), world.bearer(role.value)) == expected


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
