"""The API on the real store: PostgreSQL, objects on disk, committed events over a real socket."""

from __future__ import annotations

import json
import queue
import threading
import time
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from overread import bootstrap
from overread.domain.ids import new_uid, uuid7
from overread.domain.priority import Level
from overread.domain.study import TenantId
from overread.services.access import Role, hash_password
from overread.services.values import UserRow
from tests.app_on_fakes import PASSWORD, make_dicom, make_finding, make_outcome
from tests.served import served

_HASH = hash_password(PASSWORD)
_DICOM = {"Content-Type": "application/dicom"}


def _add_users(overread: bootstrap.Overread, tenant: TenantId) -> None:
    with overread.database.unit(tenant) as unit:
        for role in Role:
            unit.users.add(
                UserRow(
                    id=uuid7(),
                    tenant=tenant,
                    name=role.value,
                    display_name=role.value,
                    role=role.value,
                    password_hash=_HASH,
                    disabled=False,
                )
            )


@pytest.fixture
def app(overread: bootstrap.Overread, tenant: TenantId, other_tenant: TenantId) -> FastAPI:
    for one in (tenant, other_tenant):
        _add_users(overread, one)
    return bootstrap.build_app(overread)


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, follow_redirects=False)


def _bearer(client: TestClient | httpx2.Client, tenant: TenantId, role: str = "radiologist") -> dict[str, str]:
    body = {"username": role, "password": PASSWORD, "tenant": tenant.slug}
    answer = client.post("/api/auth/login", json=body)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}", "X-Tenant-ID": tenant.slug}


def _upload(client: TestClient, headers: dict[str, str], **attributes: object) -> str:
    answer = client.post("/api/studies", content=make_dicom(**attributes), headers={**headers, **_DICOM})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["studies"][0]["studyId"])


def _complete(overread: bootstrap.Overread, tenant: TenantId, analysis: str, level: Level) -> None:
    now = bootstrap.now()
    with overread.database.unit(tenant) as unit:
        row = unit.analyses.claim(UUID(analysis), now)
        assert row is not None and row.claim is not None
        uid = unit.studies.instances(row.study.id)[0].record.sop_instance_uid
        finding = make_finding("pneumothorax", uid, exploratory=level is Level.ROUTINE)
        outcome = make_outcome((finding,), level, "Because the table says so.")
        assert unit.analyses.complete(row.id, row.claim, outcome, now, 321)
        unit.events.publish("analysis", {"analysis": str(row.id), "study": str(row.study.id)})


def test_a_study_from_upload_to_result(
    client: TestClient, overread: bootstrap.Overread, tenant: TenantId, other_tenant: TenantId
) -> None:
    me, stranger = _bearer(client, tenant), _bearer(client, other_tenant)
    uid = _upload(client, me)
    assert client.post("/api/studies", content=b"no dicom", headers={**me, **_DICOM}).status_code == 400

    (pending,) = client.get("/api/image-analysis", headers=me).json()["analyses"]
    assert (pending["status"], pending["studyId"], pending["patientId"]) == ("pending", uid, "P-1")
    _complete(overread, tenant, pending["analysisId"], Level.CRITICAL)

    address = f"/api/image-analysis/{pending['analysisId']}"
    result = client.get(address, headers=me).json()
    assert (result["status"], result["priority"], result["processingTime"]) == ("completed", "critical", 0.321)
    assert result["findings"][0]["findingType"] == "pneumothorax"
    assert result["findings"][0]["boundingBox"] == {"x": 10, "y": 12, "width": 20, "height": 16}

    (instance,) = client.get(f"/api/studies/{uid}", headers=me).json()["instances"]
    for query in ("", "?boxes=all", "?scale=true"):
        assert client.get(instance["image"] + query, headers=me).headers["content-type"] == "image/png"

    for path in (address, f"/api/studies/{uid}", instance["image"], f"/studies/{uid}"):
        assert client.get(path, headers=stranger).status_code == 404, path
    assert client.get("/api/image-analysis", headers=stranger).json()["pagination"]["total"] == 0
    assert client.delete(address, headers=stranger).status_code == 404

    page = client.get("/", headers=me).text
    assert "Because the table says so." in page and "Pneumothorax" in page
    assert "found 81 % (70 to 89)" in client.get(f"/studies/{uid}", headers=me).text
    admin = _bearer(client, tenant, "admin")
    assert "INVALID_DICOM" in client.get("/rejected", headers=admin).text
    assert client.get("/system", headers=admin).status_code == 200


def test_filters_pages_cancel_retry(client: TestClient, overread: bootstrap.Overread, tenant: TenantId) -> None:
    me = _bearer(client, tenant)
    uids = [_upload(client, me, PatientID=f"P-{i}", PatientName=f"Doe^{i}", AccessionNumber=f"A%{i}") for i in range(5)]
    analyses = client.get("/api/image-analysis", headers=me).json()["analyses"]
    assert [a["studyId"] for a in analyses] == uids
    _complete(overread, tenant, analyses[4]["analysisId"], Level.CRITICAL)

    def listed(query: str) -> list[str]:
        body = client.get(f"/api/image-analysis?{query}", headers=me).json()
        return [a["patientId"] for a in body["analyses"]]

    assert listed("") == ["P-4", "P-0", "P-1", "P-2", "P-3"]
    assert listed("priority=critical") == listed("status=completed") == ["P-4"]
    assert listed("patientId=P-2") == ["P-2"] and listed("modality=CT") == []
    assert listed("limit=2&page=2") == ["P-1", "P-2"]
    assert listed("dateTo=2020-01-01") == [] and len(listed("dateFrom=2020-01-01")) == 5

    def found(**query: str) -> list[str]:
        body = client.post("/api/studies/search", json=query, headers=me).json()
        return [s["patientId"] for s in body["studies"]]

    assert found(q="a%3") == ["P-3"] == found(patientId="P-3")
    assert len(found(q="DOE")) == 5 and len(found(q="do")) == 0, "beginnings of words, from three letters on"
    assert found(q="%") == found(q="_") == found(q="oe") == found(patientId="p-3") == []
    body = client.post("/api/image-analysis/search", json={"patientId": "P-2"}, headers=me).json()
    assert [a["patientId"] for a in body["analyses"]] == ["P-2"]

    first = analyses[0]["analysisId"]
    assert client.delete(f"/api/image-analysis/{first}", headers=me).status_code == 200
    assert listed("status=cancelled") == ["P-0"]
    assert client.post(f"/api/image-analysis/{first}/retry", headers=me).json()["status"] == "pending"
    assert client.delete(f"/api/image-analysis/{analyses[4]['analysisId']}", headers=me).status_code == 409
    body = {"studyId": uids[4], "modality": "X-ray", "priority": "urgent", "patientId": "P-4"}
    made = client.post("/api/image-analysis", json=body, headers=me).json()
    assert made["status"] == "pending" and made["estimatedCompletionTime"] > 0
    # A study asked for again keeps the urgency that it had.
    assert client.get(f"/api/image-analysis/{made['analysisId']}", headers=me).json()["priority"] == "critical"
    assert client.get("/readyz").status_code in (200, 503)


def test_unknown_tenant_is_a_wrong_password_at_once(client: TestClient) -> None:
    body = {"username": "radiologist", "password": PASSWORD, "tenant": "no_such_hospital"}
    before = time.monotonic()
    assert client.post("/api/auth/login", json=body).status_code == 401
    assert time.monotonic() - before < 4


@pytest.mark.parametrize("text", ["'; DROP TABLE studies; --", "\\", "%' OR 1=1 --", "\u0001", "𝒳" * 50])
def test_hostile_text_finds_nothing_and_breaks_nothing(client: TestClient, tenant: TenantId, text: str) -> None:
    me = _bearer(client, tenant)
    _upload(client, me)
    assert client.post("/api/studies/search", json={"q": text}, headers=me).json()["pagination"]["total"] == 0
    assert client.post("/api/studies/search", json={"patientId": text}, headers=me).json()["pagination"]["total"] == 0
    assert client.get("/api/image-analysis", params={"patientId": text}, headers=me).json()["pagination"]["total"] == 0
    assert client.post("/worklist/rows", data={"q": text}, headers=me).status_code == 200
    assert client.get("/api/studies", headers=me).json()["pagination"]["total"] == 1


def test_what_is_no_text_is_refused(client: TestClient, tenant: TenantId) -> None:
    me = _bearer(client, tenant)
    for query in ({"q": "\0"}, {"patientId": "a\0b"}):
        assert client.post("/api/studies/search", json=query, headers=me).json()["code"] == "INVALID_REQUEST"
    assert client.get("/api/image-analysis?patientId=%00", headers=me).status_code == 400
    for body in ('{"studyId": "\\u0000", "modality": "CT"}', '{"studyId": "\\ud800", "modality": "CT"}'):
        headers = {**me, "Content-Type": "application/json"}
        assert client.post("/api/image-analysis", content=body, headers=headers).status_code == 400
    assert client.get("/api/studies/%00", headers=me).status_code == 404
    assert client.get("/studies/%ff", headers=me).status_code == 404
    assert client.post("/worklist/rows", data={"q": "\0"}, headers=me).status_code == 200
    assert client.post("/login", data={"username": "a\0b", "password": "x", "tenant": tenant.slug}).status_code == 401
    assert client.post("/login", data={"username": "a", "password": "x", "tenant": "\0"}).status_code == 401


def test_committed_changes_arrive_as_events(app: FastAPI, tenant: TenantId, other_tenant: TenantId) -> None:
    with served(app) as base, httpx2.Client(base_url=base, timeout=30) as client:
        me, stranger = _bearer(client, tenant), _bearer(client, other_tenant)
        heard: queue.Queue[tuple[str, dict[str, str]]] = queue.Queue()
        stop = threading.Event()

        def listen() -> None:
            with client.stream("GET", "/api/events", headers=me) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert "content-encoding" not in answer.headers
                kind = ""
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        kind = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        heard.put((kind, json.loads(line.removeprefix("data: "))))
                    if stop.is_set():
                        return

        thread = threading.Thread(target=listen)
        thread.start()
        assert heard.get(timeout=10)[0] == "hello"
        assert heard.get(timeout=10)[0] == "resync"
        client.post("/api/studies", content=make_dicom(StudyInstanceUID=new_uid()), headers={**stranger, **_DICOM})
        sent = time.monotonic()
        client.post("/api/studies", content=make_dicom(), headers={**me, **_DICOM})
        kind, ids = heard.get(timeout=10)
        waited = time.monotonic() - sent
        assert kind == "analysis" and ids.keys() == {"analysis", "study"}
        assert client.get(f"/api/image-analysis/{ids['analysis']}", headers=me).status_code == 200
        assert waited < 5
        stop.set()
        client.delete(f"/api/image-analysis/{ids['analysis']}", headers=me)
        thread.join(timeout=10)
        assert not thread.is_alive()
