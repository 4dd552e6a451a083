"""Second factors, passwords, and the pages of accounts."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
from starlette.testclient import TestClient
from tests.app_on_fakes import ALPHA, BETA, PASSWORD, World, make_world

from overread.domain.errors import InvalidRequest, SetupError
from overread.services.access import Role, Sealer, totp
from overread.services.access.passwords import check_new_password, generate_password
from overread.web.account import qr_svg

NEW = "an entirely new one"


@pytest.fixture
def world() -> World:
    return make_world()


# --- second factor -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "code"),
    # RFC 6238, appendix B, SHA-1: the last six of its eight digits.
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_of_the_rfc(seconds: int, code: str) -> None:
    secret = base64.b32encode(b"12345678901234567890").decode()
    now = datetime.fromtimestamp(seconds, UTC)
    assert totp.code_at(secret, totp.step_of(now)) == code
    assert totp.matching_step(secret, f"{code[:3]} {code[3:]}", now) == seconds // 30


def test_codes_of_the_neighbouring_steps_count_and_no_others() -> None:
    secret, now = totp.new_secret(), datetime(2026, 1, 15, 3, 0, 10, tzinfo=UTC)
    assert len(base64.b32decode(secret)) == 20
    step = totp.step_of(now)
    for near in (step - 1, step, step + 1):
        assert totp.matching_step(secret, totp.code_at(secret, near), now) == near
    for code in (
        totp.code_at(secret, step + 2),
        totp.code_at(secret, step - 2),
        "",
        "12345",
        "1234567",
        "١٢٣٤٥٦",
        "abcdef",
    ):
        assert totp.matching_step(secret, code, now) is None


def test_the_address_for_an_app() -> None:
    assert totp.uri("ABC", account="kim@x", tenant="alpha") == (
        "otpauth://totp/Overread%20alpha%3Akim%40x?secret=ABC&issuer=Overread%20alpha"
    )


def test_the_qr_code_is_an_image_without_a_style() -> None:
    svg = qr_svg(totp.uri(totp.new_secret(), account="kim", tenant="alpha"))
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg") and "viewBox" in root.attrib
    assert "style" not in svg and "<script" not in svg


def test_sealed_secrets_open_at_their_place_only() -> None:
    sealer = Sealer(b"k" * 32)
    sealed = sealer.seal("hush", "here")
    assert sealer.open(sealed, "here") == "hush" and "hush" not in sealed
    assert sealer.seal("hush", "here") != sealed
    for other, place, text in (
        (sealer, "there", sealed),
        (Sealer(b"x" * 32), "here", sealed),
        (sealer, "here", sealed[:-4] + "AAAA"),
        (sealer, "here", "nonsense"),
        (sealer, "here", ""),
    ):
        with pytest.raises(SetupError):
            other.open(text, place)


# --- passwords -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["short", "x" * 11, "a" * 40, "ababababababab", "my name is Kim and", "x" * 1001])
def test_weak_passwords(password: str) -> None:
    with pytest.raises(InvalidRequest):
        check_new_password(password, "kim")


def test_generated_passwords() -> None:
    made = {generate_password() for _ in range(50)}
    assert len(made) == 50
    for one in made:
        check_new_password(one, "kim")


# --- pages ---------------------------------------------------------------------------------------------------


def enter(world: World, name: str = "radiologist", password: str = PASSWORD, tenant: str = "alpha") -> TestClient:
    client = world.client()
    body = {"username": name, "password": password, "tenant": tenant}
    answer = client.post("/login", data=body)
    assert (answer.status_code, answer.headers.get("location")) == (303, "/"), answer.text
    return client


def form_token(client: TestClient, page: str = "/account") -> str:
    found = re.search(r'name="csrf_token" value="(\w+)"', client.get(page).text)
    assert found is not None
    return found[1]


def send(client: TestClient, path: str, **fields: str) -> Any:
    return client.post(path, data={"csrf_token": form_token(client), **fields})


def enrol(world: World, client: TestClient) -> tuple[str, list[str]]:
    offered = send(client, "/account/second-factor", password=PASSWORD)
    secret = re.search(r"Secret: <code>(\w+)</code>", offered.text)
    assert secret is not None and "<svg" in offered.text and offered.headers["cache-control"] == "no-store"
    assert send(client, "/account/second-factor/confirm", code="000000").status_code == 400
    code = totp.code_at(secret[1], totp.step_of(world.clock()))
    done = send(client, "/account/second-factor/confirm", code=code)
    codes = re.findall(r"<li><code>([a-z2-7-]+)</code>", done.text)
    assert done.status_code == 200 and len(codes) == 10 and done.headers["cache-control"] == "no-store"
    return secret[1], codes


def test_second_factor_on_the_pages(world: World) -> None:
    secret, codes = enrol(world, enter(world))
    world.clock.advance(seconds=30)
    client = world.client()
    asked = client.post("/login", data={"username": "radiologist", "password": PASSWORD, "next": "/?status=failed"})
    assert asked.status_code == 200 and "recovery code" in asked.text
    assert client.get("/").status_code == 401  # the password alone opens nothing
    assert client.post("/login/code", data={"code": "123"}).status_code == 401
    code = totp.code_at(secret, totp.step_of(world.clock()))
    answer = client.post("/login/code", data={"code": code, "next": "/?status=failed"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?status=failed")
    assert client.get("/").status_code == 200
    assert "10 of 10 recovery codes" in client.get("/account").text
    # Without the password's cookie a code opens nothing, and a used code nothing either.
    assert world.client().post("/login/code", data={"code": codes[0]}).status_code == 401
    again = world.client()
    again.post("/login", data={"username": "radiologist", "password": PASSWORD})
    assert again.post("/login/code", data={"code": code}).status_code == 401
    assert again.post("/login/code", data={"code": codes[0]}).status_code == 303


def test_second_factor_over_the_api(world: World) -> None:
    secret, _ = enrol(world, enter(world))
    world.clock.advance(seconds=30)
    body = {"username": "radiologist", "password": PASSWORD}
    answer = world.client().post("/api/auth/login", json=body)
    assert (answer.status_code, answer.json()["code"]) == (401, "SECOND_FACTOR_REQUIRED")
    assert "pending" not in str(answer.json().get("details"))
    code = totp.code_at(secret, totp.step_of(world.clock()))
    assert world.client().post("/api/auth/login", json={**body, "code": code}).status_code == 200
    assert world.client().post("/api/auth/login", json={**body, "code": code}).status_code == 401
    wrong = world.client().post("/api/auth/login", json={**body, "password": "wrong", "code": code})
    assert wrong.json()["error"] == "User name or password is wrong."


def test_somebody_at_an_open_page_needs_the_password(world: World) -> None:
    client = enter(world)
    assert send(client, "/account/second-factor", password="wrong").status_code == 400
    assert send(client, "/account/password", password="wrong", new=NEW, again=NEW).status_code == 400
    for _ in range(5):
        last = send(client, "/account/password", password="wrong", new=NEW, again=NEW)
    assert last.status_code == 429
    assert (
        world.client().post("/api/auth/login", json={"username": "radiologist", "password": PASSWORD}).status_code
        == 429
    )


def test_change_of_password_ends_all_sessions(world: World) -> None:
    client, other, api = enter(world), enter(world), world.bearer()
    assert send(client, "/account/password", password=PASSWORD, new=NEW, again=NEW + "x").status_code == 400
    assert send(client, "/account/password", password=PASSWORD, new="short", again="short").status_code == 400
    answer = send(client, "/account/password", password=PASSWORD, new=NEW, again=NEW)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?reason=password")
    assert "The password was changed" in client.get(answer.headers["location"]).text
    assert other.get("/").status_code == client.get("/").status_code == 401
    assert world.client().get("/api/studies", headers=api).status_code == 401
    assert enter(world, password=NEW).get("/").status_code == 200


def test_a_password_that_somebody_else_chose(world: World) -> None:
    admin = enter(world, "admin")
    token = form_token(admin, "/admin/users")
    made = admin.post(
        "/admin/users", data={"csrf_token": token, "name": "newcomer", "display_name": "New", "role": "radiologist"}
    )
    password = re.search(r"shown this once: <code>([\w-]+)</code>", made.text)
    assert password is not None and made.headers["cache-control"] == "no-store"
    assert password[1] not in admin.get("/admin/users").text
    client = enter(world, "newcomer", password[1])
    html = {"Accept": "text/html"}
    for path in ("/", "/studies/1.2", "/system"):
        answer = client.get(path, headers=html, follow_redirects=True)
        assert "Somebody else chose your password" in answer.text, path
    refused = client.get("/api/studies")
    assert (refused.status_code, refused.json()["code"]) == (403, "PASSWORD_CHANGE_REQUIRED")
    assert send(client, "/account/password", password=password[1], new=NEW, again=NEW).status_code == 303
    assert enter(world, "newcomer", NEW).get("/api/studies").status_code == 200


def test_administration_of_users(world: World) -> None:
    admin = enter(world, "admin")
    page = admin.get("/admin/users").text
    victim = world.db.state(ALPHA).users["victim"]
    assert all(name in page for name in ("radiologist", "technician", "victim")) and str(victim.id) in page
    assert str(world.db.state(BETA).users["victim"].id) not in page

    def act(what: str, **fields: str) -> Any:
        token = form_token(admin, "/admin/users")
        return admin.post(f"/admin/users/{victim.id}/{what}", data={"csrf_token": token, **fields})

    assert act("role", role="technician").status_code == 303
    assert world.db.state(ALPHA).users["victim"].role == "technician"
    for role in ("operator", "service", "king", ""):
        assert act("role", role=role).status_code == 400
    assert act("disabled", disabled="yes").status_code == 303
    assert world.db.state(ALPHA).users["victim"].disabled
    assert act("disabled", disabled="no").status_code == 303
    assert "shown this once" in act("password").text
    assert act("second-factor").status_code == act("sessions").status_code == 303
    own = world.db.state(ALPHA).users["admin"]
    token = form_token(admin, "/admin/users")
    last = admin.post(f"/admin/users/{own.id}/disabled", data={"csrf_token": token, "disabled": "yes"})
    assert last.status_code == 409 and "last administrator" in last.text
    twice = admin.post("/admin/users", data={"csrf_token": token, "name": "admin", "role": "technician"})
    assert twice.status_code == 409
    actions = [(action, facts.get("change")) for action, who, _, facts in world.db.state(ALPHA).audit if who == "admin"]
    assert ("user.changed", "role") in actions and ("user.changed", "disabled") in actions


def test_names_on_the_page_are_text(world: World) -> None:
    world.services.access.accounts.add(
        ALPHA, name="<img src=x>", display_name="<script>alert(1)</script>", role=Role.TECHNICIAN, actor="test"
    )
    page = enter(world, "admin").get("/admin/users").text
    assert "<script>alert" not in page and "<img src=x>" not in page and "&lt;script&gt;alert" in page


def test_log_out_everywhere(world: World) -> None:
    client, other = enter(world), enter(world)
    answer = send(client, "/account/log-out-everywhere")
    assert answer.headers["location"] == "/login?reason=everywhere"
    assert "logged out on all machines" in client.get(answer.headers["location"]).text
    assert other.get("/").status_code == 401


def test_a_log_out_is_one_on_the_server(world: World) -> None:
    client = enter(world)
    cookie = client.cookies["overread_session"]
    send(client, "/logout")
    thief = world.client()
    thief.cookies.set("overread_session", cookie)
    assert thief.get("/").status_code == 401


# --- pages that nobody uses ----------------------------------------------------------------------------------


def test_idle_pages_end_and_lead_back(world: World) -> None:
    client = enter(world)
    for _ in range(7):  # what scripts and streams fetch is no use, and neither is the question how long there is
        world.clock.advance(minutes=2)
        answer = client.get("/worklist/rows", headers={"Sec-Fetch-Mode": "cors", "Accept": "text/html"})
        assert answer.status_code == 200 and "set-cookie" not in answer.headers
        assert client.get("/api/auth/session").json()["endsInSeconds"] <= 780
    world.clock.advance(minutes=1)
    answer = client.get("/?status=failed", headers={"Accept": "text/html"})
    assert answer.headers["location"] == "/login?next=%2F%3Fstatus%3Dfailed&reason=idle"
    page = client.get(answer.headers["location"]).text
    assert "Nobody used the page for 15 minutes" in page and 'name="next" value="/?status=failed"' in page
    code = client.get("/api/studies").json()
    assert (code["code"], code["details"]["reason"]) == ("SESSION_IDLE", "idle")


def test_a_page_that_is_used_goes_on(world: World) -> None:
    client = enter(world)
    for _ in range(4):
        world.clock.advance(minutes=10)
        answer = client.get("/", headers={"Sec-Fetch-User": "?1"})
        assert "set-cookie" in answer.headers
    for _ in range(4):
        world.clock.advance(minutes=10)
        used = client.post("/api/auth/session/used", headers={"X-CSRF-Token": form_token(client)})
        assert used.json()["endsInSeconds"] == 900
    assert client.post("/api/auth/session/used").status_code == 403
    world.clock.advance(hours=9)
    assert client.get("/").status_code == 401


def test_a_session_ends_after_its_time_whatever_one_does(world: World) -> None:
    client, began = enter(world), world.clock()
    while client.get("/", headers={"Sec-Fetch-User": "?1"}).status_code == 200:
        world.clock.advance(minutes=10)
        assert world.clock() - began < timedelta(hours=11)
    assert world.clock() - began >= timedelta(hours=10)


@pytest.mark.parametrize("path", ["/login", "/account", "/admin/users", "/docs", "/login/oidc", "/login/code"])
def test_pages_obey_their_own_policy(world: World, path: str) -> None:
    """No script, style or handler in the page: the policy would not run them."""
    client = enter(world, "admin")
    answer = client.post(path, data={"code": "x"}) if path == "/login/code" else client.get(path)
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", answer.text)
