"""What requests put on record: every route, who was denied, what is counted, and the search for admins."""

from __future__ import annotations

import csv
import io
import re

import pytest
from tests.app_on_fakes import ALPHA, BETA, PASSWORD, SECRET_NAME, World, make_world
from tests.routes import ROUTES, Route, Scene
from tests.unit.test_http_access import make_scene

from overread import api, web
from overread.domain.audit import Actor, ActorKind, AuditAction, AuditEvent
from overread.domain.errors import StoreUnavailable
from overread.http.audit_routes import ROUTES as ON_RECORD
from overread.http.audit_routes import AtEdge, Inside, Nothing
from overread.services.access import Role
from overread.web.audit_words import WORDS


@pytest.fixture
def world() -> World:
    return make_world()


def _trail(world: World, tenant: object = ALPHA) -> list[AuditEvent]:
    return world.db.state(tenant).trail  # type: ignore[arg-type]


def _call(world: World, route: Route, scene: Scene, headers: dict[str, str]) -> int:
    body = route.body(scene) if route.body else None
    return int(world.client().request(route.method, route.path(scene), headers=headers, json=body).status_code)


def _entry(route: Route) -> Inside | AtEdge | Nothing:
    return ON_RECORD[route.method, route.template]


RECORDED = [r for r in ROUTES if not isinstance(_entry(r), Nothing)]


def test_every_route_says_what_it_records() -> None:
    there = {
        (method, route.path)  # type: ignore[attr-defined]
        for router in (*api.ROUTERS, *web.ROUTERS)
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    missing = there - set(ON_RECORD)
    assert not missing, f"say in overread/http/audit_routes.py what these record: {sorted(missing)}"
    assert set(ON_RECORD) - there <= {("GET", "/openapi.json")}
    assert all(len(e.because) > 10 for e in ON_RECORD.values() if isinstance(e, Nothing))


#: As the table of routes calls them they change or show nothing: a form without its fields.
NOTHING_DONE = {("POST", "/"), ("POST", "/admin/users/{user_id}/disabled")}
DONE = [r for r in RECORDED if r.called and r.good < 400 and (r.method, r.template) not in NOTHING_DONE]


@pytest.fixture(scope="module")
def reading() -> tuple[World, Scene]:
    """One world for calls that change nothing."""
    world = make_world()
    return world, make_scene(world)


@pytest.mark.parametrize("route", DONE, ids=[f"{r.method} {r.template}" for r in DONE])
def test_what_was_done_is_on_record(reading: tuple[World, Scene], route: Route) -> None:
    world, scene = reading
    if route.method != "GET":
        world = make_world()
        scene = make_scene(world)
    world.app.state.tally.flush(everything=True)
    role = Role.ADMIN if Role.ADMIN in route.roles else min(route.roles)
    before = len(_trail(world))
    assert _call(world, route, scene, world.bearer(role.value)) == route.good
    entry = _entry(route)
    assert isinstance(entry, Inside | AtEdge)
    rows = [e for e in _trail(world)[before:] if e.action == entry.action and e.outcome == "success"]
    assert rows, [e.action for e in _trail(world)[before:]]
    for row in rows:
        who = row.actor
        assert (who.name, who.role, who.address) == (role.value, role.value, "testclient")
        assert who.session and who.user_id is not None and who.channel == "api"
        assert (who.kind is ActorKind.MACHINE) == (role is Role.SERVICE)


FORBIDDEN = [r for r in RECORDED if set(Role) - r.roles]


@pytest.mark.parametrize("route", FORBIDDEN, ids=[f"{r.method} {r.template}" for r in FORBIDDEN])
def test_who_was_denied_is_on_record(reading: tuple[World, Scene], route: Route) -> None:
    world, scene = reading
    role = min(set(Role) - route.roles)
    world.app.state.tally.flush(everything=True)
    before = len(_trail(world))
    assert _call(world, route, scene, world.bearer(role.value)) == 403
    entry = _entry(route)
    assert isinstance(entry, Inside | AtEdge)
    denied = [e for e in _trail(world)[before:] if e.outcome == "denied"]
    assert [(e.action, e.code, e.actor.name) for e in denied] == [(entry.action.value, "FORBIDDEN", role.value)]
    assert denied[0].facts["route"] == route.template and "P-1" not in str(denied[0])


def test_another_hospitals_study_is_a_failed_look_in_ones_own_trail(world: World) -> None:
    scene = make_scene(world)
    before = len(_trail(world))
    path = f"/api/image-analysis/{scene.completed}"
    assert world.client().get(path, headers=world.bearer(tenant=BETA)).status_code == 404
    assert len(_trail(world)) == before
    last = _trail(world, BETA)[-1]
    assert (last.action, last.outcome, last.code) == ("analysis.view", "failed", "ANALYSIS_NOT_FOUND")
    assert last.facts["asked"] == str(scene.completed) and last.study_id is None


def test_a_flood_of_denials_is_two_rows(world: World) -> None:
    client, headers = world.client(), world.bearer("technician")
    before = len(_trail(world))
    for _ in range(200):
        assert client.get("/rejected", headers=headers).status_code == 403
    world.app.state.tally.flush(everything=True)
    rows = _trail(world)[before:]
    assert [(e.outcome, e.facts.get("count")) for e in rows] == [("denied", None), ("denied", 199)]


def test_nobody_has_no_trail(world: World) -> None:
    scene = make_scene(world)
    before = {slug: len(state.trail) for slug, state in world.db.tenants.items()}
    assert world.client().get(f"/api/studies/{scene.study_uid}").status_code == 401
    assert {slug: len(state.trail) for slug, state in world.db.tenants.items()} == before


def test_a_page_says_page_and_a_log_in_its_address(world: World) -> None:
    client = world.client()
    client.post("/login", data={"username": "radiologist", "password": PASSWORD})
    client.get("/")
    login, view = _trail(world)[-2:]
    assert (login.action, login.actor.name, login.actor.address) == ("login", "radiologist", "testclient")
    assert (login.actor.role, login.actor.session) == ("radiologist", view.actor.session) and login.actor.user_id
    assert (view.action, view.actor.channel, view.actor.role) == ("worklist.view", "page", "radiologist")


def test_what_cannot_be_put_on_record_is_not_handed_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    make_scene(world)
    headers = world.bearer()

    def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr("tests.fakes.FakeAudit.record", full)
    answer = world.client().get("/api/studies", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
    assert SECRET_NAME not in answer.text


def test_images_are_counted_and_the_count_survives_a_lost_database(world: World) -> None:
    scene = make_scene(world)
    client, headers = world.client(), world.bearer()
    tally = world.app.state.tally
    tally.flush(everything=True)
    path = f"/api/studies/{scene.study}/instances/{scene.sop}/image.png"
    for _ in range(30):
        assert client.get(path, headers=headers).status_code == 200
    assert [e.facts for e in _trail(world) if e.action == "image.view"] == [{}]
    world.db.down = True
    assert tally.flush(everything=True) == 0
    world.db.down = False
    assert tally.flush(everything=True) == 1
    first, more = (e for e in _trail(world) if e.action == "image.view")
    assert more.facts["count"] == 29 and more.actor == first.actor and more.patient == first.patient
    assert first.study_id == scene.study and first.patient is not None


# --- search ------------------------------------------------------------------------------------------------


def test_search_and_pages(world: World) -> None:
    scene = make_scene(world)
    client, headers = world.client(), world.bearer("admin")
    for _ in range(3):
        client.get(f"/api/studies/{scene.study_uid}", headers=world.bearer())
        world.app.state.tally.flush(everything=True)
    seen = []
    cursor = ""
    while True:
        answer = client.get(f"/api/audit?action=study.view&limit=2{cursor}", headers=headers).json()
        seen += answer["entries"]
        if answer["cursor"] is None:
            break
        cursor = f"&cursor={answer['cursor']}"
    assert [e["id"] for e in seen] == sorted((e["id"] for e in seen), reverse=True) and len(seen) == 3
    assert {e["actor"] for e in seen} == {"radiologist"} and {e["study"] for e in seen} == {str(scene.study)}
    assert client.get("/api/audit?actor=nobody", headers=headers).json() == {"entries": [], "cursor": None}
    asked = [e for e in _trail(world) if e.action == "audit.view"]
    assert asked[-1].facts == {"asked_actor": "nobody"} and asked[-1].actor.name == "admin"


@pytest.mark.parametrize(
    "query",
    [
        "action=nothing",
        "cursor=abc",
        "study=P-1",
        "patient=P-1",
        "patientId=P-1",
        "dateFrom=x",
        "limit=0",
        "dateFrom=2026-02-01&dateTo=2026-01-01",
    ],
)
def test_a_filter_that_is_none(world: World, query: str) -> None:
    answer = world.client().get(f"/api/audit?{query}", headers=world.bearer("admin"))
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert "P-1" not in answer.text


def test_a_patient_is_found_by_number_and_recorded_as_a_pseudonym(world: World) -> None:
    scene = make_scene(world)
    client, headers = world.client(), world.bearer("admin")
    client.get(f"/api/studies/{scene.study_uid}", headers=world.bearer())
    found = client.post("/api/audit/search", headers=headers, json={"patientId": "P-1"}).json()["entries"]
    assert found and {e["study"] for e in found} >= {str(scene.study)}
    pseudonym = found[0]["patient"]
    assert re.fullmatch("[0-9a-f]{64}", pseudonym) and {e["patient"] for e in found} == {pseudonym}
    same = client.get(f"/api/audit?patient={pseudonym}", headers=headers).json()["entries"]
    assert {e["id"] for e in found} <= {e["id"] for e in same}
    assert client.post("/api/audit/search", headers=headers, json={"patientId": "P-999"}).json()["entries"] == []
    assert not any("P-1" in str(e) or "P-999" in str(e) for e in _trail(world))


def _admin(world: World) -> tuple[object, str]:
    client = world.client()
    client.post("/login", data={"username": "admin", "password": PASSWORD})
    token = re.search(r'name="csrf_token" value="(\w+)"', client.get("/admin/audit").text)
    assert token
    return client, token[1]


def test_the_page(world: World) -> None:
    scene = make_scene(world)
    world.client().get(f"/api/studies/{scene.study_uid}", headers=world.bearer())
    client, token = _admin(world)
    text = client.get("/admin/audit").text  # type: ignore[attr-defined]
    assert "opened a study" in text and f"/studies/{scene.study}" in text and "radiologist" in text
    assert SECRET_NAME not in text and ">P-1<" not in text
    answer = client.post("/admin/audit/patient", data={"csrf_token": token, "patient_id": "P-1"})  # type: ignore[attr-defined]
    assert answer.status_code == 303 and re.fullmatch(r"/admin/audit\?patient=[0-9a-f]{64}", answer.headers["location"])
    only = client.get(answer.headers["location"]).text  # type: ignore[attr-defined]
    assert "opened a study" in only and "logged in" not in only.split("<tbody>")[1]
    empty = client.get("/admin/audit?actor=nobody&action=nonsense&from=x&cursor=").text  # type: ignore[attr-defined]
    assert "Nothing on record that fits" in empty


def test_csv_is_on_record_and_no_formula(world: World) -> None:
    with world.db.unit(ALPHA) as unit:
        actor = Actor(kind=ActorKind.PEER, name="=cmd|' /C calc'!A0", address="10.0.0.1", channel="dicom")
        unit.audit.record(AuditAction.STUDY_RECEIVED, actor=actor)
    client, token = _admin(world)
    data = {"csrf_token": token, "action": "study.received"}
    answer = client.post("/admin/audit/export", data=data)  # type: ignore[attr-defined]
    assert (
        answer.headers["content-type"].startswith("text/csv") and "attachment" in answer.headers["content-disposition"]
    )
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 1 and rows[0]["actor"].startswith("'=cmd") and rows[0]["action"] == "study.received"
    last = _trail(world)[-1]
    assert (last.action, last.facts) == ("audit.exported", {"asked_action": "study.received"})


def test_every_action_has_a_word() -> None:
    assert set(WORDS) == set(AuditAction)
