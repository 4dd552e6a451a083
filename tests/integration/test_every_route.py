"""Every route of the real application on the real database, with every kind of credential that must not open it.

The list of routes is the application's own (`tests.routes.routes_of`): one without a row in `tests.routes` fails.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI
from starlette.testclient import TestClient

from overread import bootstrap
from overread.config import Settings
from overread.domain.ids import uuid7
from overread.domain.priority import Level
from overread.domain.study import Sender, TenantId
from overread.services.access import AccessService, Identity, Means, Role, hash_password
from overread.services.values import UserRow
from overread.store import migrate, roles
from tests.app_on_fakes import PASSWORD, SECRET_NAME, make_dicom, make_finding, make_outcome
from tests.integration.conftest import make_tenant
from tests.routes import PUBLIC, ROUTES, Route, Scene, routes_of

#: Stands in the patient's name, the report's reason, a user's and a key's name: other people must never read it.
PLANTED = SECRET_NAME.partition("^")[0]
_HASH = hash_password(PASSWORD)
#: POST, so that what is searched for stands in no address; they change nothing, and no other site reads the answer.
SEARCHES = {"/", "/worklist/rows", "/api/studies/search", "/api/image-analysis/search"}
_IDS = [f"{r.method} {r.template}" for r in ROUTES]


@dataclass
class House:
    """The application, a hospital with a patient, and its neighbour."""

    app: FastAPI
    client: TestClient
    access: AccessService
    overread: bootstrap.Overread
    settings: Settings
    here: TenantId
    there: TenantId
    scene: Scene

    def session(self, role: str, tenant: TenantId, means: Means = Means.TOKEN) -> tuple[str, Identity]:
        """A log-in without the slow part, argon2."""
        user = self.access.accounts.named(tenant, role)
        session = self.access._issue(user, means)
        return session.token, session.identity

    def bearer(self, role: str, tenant: TenantId) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.session(role, tenant)[0]}"}

    def forged(self, key: object = None, *, algorithm: str | None = None, **changes: object) -> str:
        """A token as ours, with other claims, key or algorithm."""
        token, _ = self.session("admin", self.here)
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False}) | changes
        ours = self.access._ring.active().secret
        how = algorithm or "HS256"
        return jwt.encode(claims, ours if key is None else key, algorithm=how, headers={"kid": header["kid"]})

    def call(self, route: Route, headers: dict[str, str], *, empty: bool = False) -> tuple[int, str]:
        body = route.body(self.scene) if route.body and not empty else None
        form = route.form(self.scene) if route.form and not empty else None
        answer = self.client.request(route.method, route.path(self.scene), headers=headers, json=body, data=form)
        assert answer.status_code < 500, f"{route.method} {route.template}: {answer.text}"
        return answer.status_code, answer.text


@pytest.fixture(scope="module")
def house(settings: Settings) -> Iterator[House]:
    here, there = make_tenant(settings), make_tenant(settings)
    overread = bootstrap.build(settings)
    for tenant in (here, there):
        with overread.database.unit(tenant) as unit:
            for name, role in [(role.value, role) for role in Role] + [("victim", Role.RADIOLOGIST)]:
                unit.users.add(_user(tenant, name, role))
    app = bootstrap.build_app(overread)
    services = app.state.services
    house = House(
        app=app,
        client=TestClient(app, follow_redirects=False, raise_server_exceptions=False),
        access=services.access,
        overread=overread,
        settings=settings,
        here=here,
        there=there,
        scene=_scene(overread, services.access, services, here),
    )
    yield house
    overread.close()


def _user(tenant: TenantId, name: str, role: Role) -> UserRow:
    return UserRow(
        id=uuid7(),
        tenant=tenant,
        name=name,
        display_name=f"{PLANTED} {name}",
        role=role.value,
        password_hash=_HASH,
        disabled=False,
    )


def _scene(overread: bootstrap.Overread, access: AccessService, services: object, here: TenantId) -> Scene:
    def receive(patient: str) -> tuple[UUID, UUID, str]:
        data = make_dicom(PatientID=patient, PatientName=SECRET_NAME)
        filed = overread.receive.receive(here, data, Sender(channel="dicom", name="CR1", address="10.0.0.9"), name="x")
        assert filed.study_id is not None
        with overread.database.unit(here) as unit:
            row = unit.analyses.latest_for_study(filed.study_id)
            uid = unit.studies.instances(filed.study_id)[0].record.sop_instance_uid
        assert row is not None
        return filed.study_id, row.id, uid

    study, completed, sop = receive("P-1")
    _, pending, _ = receive("P-2")
    _, failed, _ = receive("P-3")
    now = bootstrap.now()
    with overread.database.unit(here) as unit:
        row = unit.analyses.claim(completed, now)
        assert row is not None and row.claim is not None
        outcome = make_outcome((make_finding("pneumothorax", sop),), Level.CRITICAL, f"{PLANTED} said so.")
        assert unit.analyses.complete(completed, row.claim, outcome, now, 300)
        unit.analyses.fail(failed, "INFERENCE_ERROR", "The model failed.", now)
        unit.analyses.attach_sr(completed, "sr/x.dcm")
        unit.analyses.attach_seg(completed, "seg/x.dcm", 1)
        uid = row.study.study_instance_uid
    for key in ("sr/x.dcm", "seg/x.dcm"):
        overread.objects.put(here, key, b"DICM " + PLANTED.encode())
    objection = services.opt_outs.add(here, patient_id="P-9", issuer="", reason="told the ward", by="admin")  # type: ignore[attr-defined]
    made = access.api_keys.create(here, name=f"{PLANTED} key", lifetime=timedelta(days=1), actor="test")
    return Scene(
        study_uid=uid,
        study=study,
        completed=completed,
        pending=pending,
        failed=failed,
        sop=sop,
        opt_out=objection.opt_out.id,
        user=access.accounts.named(here, "victim").id,
        key=made.row.id,
    )


def test_no_route_was_forgotten(house: House) -> None:
    there = routes_of(house.app)
    assert len(there) > 60
    assert there == {(r.method, r.template) for r in ROUTES} | PUBLIC


def _unsigned(house: House) -> str:
    claims = jwt.decode(house.session("admin", house.here)[0], options={"verify_signature": False})
    parts = [json.dumps({"alg": "none", "typ": "JWT", "kid": "1"}), json.dumps(claims)]
    return ".".join(base64.urlsafe_b64encode(p.encode()).rstrip(b"=").decode() for p in parts) + "."


def _by_public_key(house: House) -> str:
    """The classic: HS256 with a public key's text as the secret. PyJWT refuses to make it, so it is made by hand."""
    public = _RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body, _ = house.forged().split(".")
    import hmac

    mac = hmac.new(public, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _logged_out(house: House) -> str:
    token, who = house.session("admin", house.here)
    house.access.log_out(who, address="")
    return token


def _of_user(house: House, name: str, change: Callable[[AccessService, TenantId, UUID], None]) -> str:
    """A token of an administrator to whom something happened after it was made."""
    with house.overread.database.unit(house.here) as unit:
        unit.users.add(_user(house.here, name, Role.ADMIN))
    token, who = house.session(name, house.here)
    assert who.user_id is not None
    change(house.access, house.here, who.user_id)
    return token


def _key(house: House, **more: object) -> str:
    made = house.access.api_keys.create(
        house.here,
        name=str(uuid7()),
        lifetime=timedelta(days=1),
        actor="test",
        **more,  # type: ignore[arg-type]
    )
    return made.key


def _revoked_key(house: House) -> str:
    key = _key(house)
    house.access.api_keys.revoke(house.here, key.split(".")[1], actor="test")
    return key


REFUSED: dict[str, Callable[[House], str]] = {
    "no token at all": lambda h: "x",
    "expired": lambda h: h.forged(exp=1),
    "logged out": _logged_out,
    "disabled user": lambda h: _of_user(h, "gone", lambda a, t, u: a.accounts.set_disabled(t, u, True, actor="test")),
    "another role since": lambda h: _of_user(
        h, "lower", lambda a, t, u: a.accounts.set_role(t, u, Role.TECHNICIAN, actor="test")
    ),
    "logged out everywhere": lambda h: _of_user(h, "out", lambda a, t, u: a.log_out_everywhere(t, u, actor="test")),
    "password reset": lambda h: _of_user(h, "reset", lambda a, t, u: a.accounts.reset_password(t, u, actor="test")),
    "alg none": _unsigned,
    "HS256 by a public key": _by_public_key,
    "HS256 by another key": lambda h: h.forged(b"x" * 32),
    "RS256 under our kid": lambda h: h.forged(_RSA, algorithm="RS256"),
    "RS256 of an unknown provider": lambda h: h.forged(_RSA, algorithm="RS256", iss="https://idp.example"),
    "another tenant's user in it": lambda h: h.forged(tenant=h.there.slug),
    "cookie of a page": lambda h: h.session("admin", h.here, Means.PAGE)[0],
    "revoked API key": _revoked_key,
    "API key from elsewhere": lambda h: _key(h, networks=["192.0.2.0/24"]),
    "API key with another secret": lambda h: _key(h)[:-5] + "AAAAA",
    "another hospital's API key": lambda h: _key(h).replace(f"ovr_{h.here.slug}.", f"ovr_{h.there.slug}."),
}


@pytest.fixture(scope="module")
def refused(house: House) -> dict[str, str]:
    """One token of each kind, all of administrators: nobody may do more."""
    return {name: make(house) for name, make in REFUSED.items()}


@pytest.mark.parametrize("route", ROUTES, ids=_IDS)
def test_refused(house: House, refused: dict[str, str], route: Route) -> None:
    """401 for whoever is nobody, 403 for the wrong tenant's header and the wrong role; nothing of a patient in any."""
    assert house.call(route, {})[0] == 401
    for name, token in refused.items():
        status, text = house.call(route, {"Authorization": f"Bearer {token}"}, empty=True)
        assert status == 401, name
        assert PLANTED not in text, name
    for scheme in ("Basic eDp5", "Bearer", "bearer ", "Token x"):
        assert house.call(route, {"Authorization": scheme})[0] == 401, scheme
    for who, named in ((house.there, house.here), (house.here, house.there)):
        headers = {**house.bearer("admin", who), "X-Tenant-ID": named.slug}
        status, text = house.call(route, headers)
        assert (status, PLANTED in text) == (403, False)
    for role in set(Role) - route.roles:
        status, text = house.call(route, house.bearer(role.value, house.here))
        assert (status, PLANTED in text) == (403, False), role


@pytest.mark.parametrize("route", ROUTES, ids=_IDS)
def test_a_cookie_alone_changes_nothing(house: House, route: Route) -> None:
    """Without the form's token, from another site's page, or after the page was left alone."""
    token, _ = house.session("admin", house.here, Means.PAGE)
    name = "overread_session"
    if route.method not in ("GET", "HEAD"):
        asks_for_a_token = house.call(route, {"Cookie": f"{name}={token}"})[0]
        assert (asks_for_a_token == 403) is (route.template not in SEARCHES)
    idle = house.forged(kind="page", idle=1)
    assert house.call(route, {"Cookie": f"{name}={idle}"})[0] == 401
    assert house.call(route, {"Cookie": f"{name}={house.session('admin', house.here)[0]}"})[0] == 401


def _fingerprint(house: House) -> str:
    """Of all rows of the hospital, but what is counted and recorded by looking."""
    engine = migrate.owner_engine(bootstrap.owner_conninfo(house.settings))
    schema = roles.tenant_role(house.here)
    digest = hashlib.sha256()
    with engine.connect() as connection:
        tables = connection.exec_driver_sql(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY 1", (schema,)
        ).scalars()
        for table in tables:
            if not table.startswith("audit"):
                query = f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {schema}.{table} t"
                digest.update(f"{table}{connection.exec_driver_sql(query).scalar()}".encode())
    engine.dispose()
    return digest.hexdigest()


def test_another_hospitals_people_with_this_ones_ids(house: House) -> None:
    """Not found, or their own empty lists; never a byte of this hospital, and nothing of it changes."""
    before = _fingerprint(house)
    for route in ROUTES:
        if not route.called:
            continue
        for role in sorted(route.roles):
            status, text = house.call(route, house.bearer(role, house.there))
            assert status == route.foreign, f"{route.method} {route.template} {role}: {text}"
            # Their own users are called alike; of this hospital they see no id but what they sent themselves.
            sent = route.path(house.scene) + str(route.body(house.scene) if route.body else "")
            ids = (house.scene.study_uid, house.scene.sop, str(house.scene.user), house.scene.key)
            assert not any(i in text and i not in sent for i in ids), f"{route.method} {route.template}"
            assert SECRET_NAME not in text and "said so" not in text
    assert _fingerprint(house) == before


def test_the_operator_sees_no_patient(house: House) -> None:
    for route in ROUTES:
        if route.called and route.method == "GET":
            _, text = house.call(route, house.bearer("operator", house.here))
            assert SECRET_NAME not in text and "said so" not in text and house.scene.study_uid not in text, route


def test_an_api_key_does_what_a_service_may(house: House) -> None:
    """And less, if it was made for less."""
    headers = {"Authorization": f"Bearer {_key(house)}", "X-Tenant-ID": house.here.slug}
    assert house.client.get(f"/api/studies/{house.scene.study_uid}", headers=headers).status_code == 200
    assert house.client.get("/api/users", headers=headers).status_code == 403
    assert house.client.get("/account", headers=headers).status_code == 403
    headers["Authorization"] = f"Bearer {_key(house, permissions=['upload'])}"
    assert house.client.get("/api/studies", headers=headers).status_code == 403
    session = house.client.get("/api/auth/session", headers=headers).json()
    assert (session["means"], session["permissions"]) == ("api_key", ["upload"])


def test_public_pages_show_nothing_of_a_hospital(house: House) -> None:
    for method, path in sorted(PUBLIC):
        if method == "GET":
            answer = house.client.get(path)
            # /readyz looks at the demo hospital, which this installation lacks.
            assert answer.status_code < 500 or path == "/readyz", path
            assert PLANTED not in answer.text, path


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if r.called], ids=[i for r, i in zip(ROUTES, _IDS, strict=True) if r.called]
)
def test_let_in(house: House, route: Route) -> None:
    """Whoever may, may; last, as it changes things. What was done before may answer 404 or 409 now."""
    for role in sorted(route.roles):
        status, _ = house.call(route, house.bearer(role, house.here))
        if role == "service" and route.template.startswith("/account"):
            continue
        assert status == route.good or status in (404, 409), role
