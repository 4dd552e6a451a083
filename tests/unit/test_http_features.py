"""The endpoints and pages of features, objections and the notice for patients."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from tests.app_on_fakes import ALPHA, PASSWORD, World, make_finding, make_outcome, make_world

from overread.domain.features import Feature
from overread.domain.priority import Level

PATH = "/api/ai-features"


@pytest.fixture
def world() -> World:
    return make_world()


def put(world: World, key: str, role: str = "admin", **body: Any) -> Any:
    return world.client().put(f"{PATH}/{key}", json=body, headers=world.bearer(role))


def page(world: World, address: str, role: str = "admin") -> str:
    answer = world.client().get(address, headers={**world.bearer(role), "Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return html.unescape(re.sub(r"\s+", " ", answer.text))


def logged_in(world: World, role: str) -> tuple[Any, str]:
    """A browser, and the token of its forms."""
    client = world.client()
    client.post("/login", data={"username": role, "password": PASSWORD})
    token = re.search(r'name="csrf_token" value="(\w+)"', client.get("/").text)
    assert token is not None
    return client, token[1]


# --- the specification's endpoints -------------------------------------------------------------------------


def test_the_list_has_the_specifications_words(world: World) -> None:
    put(world, "abnormality_detection", enabled=False, modality="CT", reason="x")
    features = world.client().get(PATH, headers=world.bearer()).json()["features"]
    assert [f["featureKey"] for f in features] == [f.value for f in Feature]
    first = features[0]
    assert (first["featureName"], first["category"], first["enabled"]) == ("Abnormality detection", "detection", True)
    assert [(m["modality"], m["enabled"], m["inherited"]) for m in first["modalities"]] == [
        ("X-ray", True, True),
        ("CT", False, False),
        ("MRI", True, True),
        ("Ultrasound", True, True),
    ]
    absent = {f["featureKey"]: f["unavailable"] for f in features if f["unavailable"]}
    assert absent == {
        "prior_comparison": "This version does not compare with prior studies yet.",
        "report_generation": "This version does not draft reports yet.",
    }
    assert not any(f["enabled"] or any(m["enabled"] for m in f["modalities"]) for f in features if f["unavailable"])


def test_disabled_a_request_gets_the_specifications_error(world: World) -> None:
    study_id, _, _ = world.receive()
    assert put(world, "abnormality_detection", enabled=False, reason="Not yet approved").status_code == 200
    answer = world.client().post(
        "/api/image-analysis", json={"studyId": str(study_id), "modality": "X-ray"}, headers=world.bearer()
    )
    body = answer.json()
    assert (answer.status_code, body["code"]) == (403, "FEATURE_DISABLED")
    assert body["details"] == {"feature": "abnormality_detection", "modality": "X-ray", "tenantId": "alpha"}
    assert body["error"].startswith("Feature not enabled for tenant")


def test_a_patient_who_objects_is_another_error(world: World) -> None:
    study_id, _, _ = world.receive()
    client, headers = world.client(), world.bearer("technician")
    added = client.post("/api/opt-outs", json={"patientId": "P-1", "reason": "told the ward"}, headers=headers)
    assert (added.status_code, added.json()["cancelled"]) == (201, 1)
    answer = client.post("/api/image-analysis", json={"studyId": str(study_id), "modality": "X-ray"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "PATIENT_OBJECTED")
    opt_out = added.json()["optOut"]
    assert client.post("/api/opt-outs/find", json={"patientId": "P-1"}, headers=headers).json()["optOut"] == opt_out
    assert client.get("/api/opt-outs", headers=headers).json()["optOuts"] == [opt_out]
    assert "P-1" not in client.get("/api/opt-outs", headers=headers).text
    removal = f"/api/opt-outs/{opt_out['id']}/removal"
    assert client.post(removal, json={"reason": "changed their mind"}, headers=headers).status_code == 200
    assert client.post(removal, json={"reason": "again"}, headers=headers).status_code == 404
    assert client.post("/api/opt-outs/x/removal", json={"reason": "again"}, headers=headers).status_code == 404
    assert client.post("/api/opt-outs/find", json={"patientId": "P-1"}, headers=headers).json() == {"optOut": None}


@pytest.mark.parametrize(
    ("key", "body", "status", "code"),
    [
        ("mind_reading", {"enabled": True, "reason": "x"}, 404, "NOT_FOUND"),
        ("prior_comparison", {"enabled": True, "reason": "x"}, 409, "FEATURE_UNAVAILABLE"),
        ("quality_assessment", {"enabled": False}, 400, "INVALID_REQUEST"),
        ("quality_assessment", {"enabled": False, "reason": "  "}, 400, "INVALID_REQUEST"),
        ("quality_assessment", {"enabled": None, "reason": "x"}, 400, "INVALID_REQUEST"),
        ("quality_assessment", {"enabled": False, "reason": "x", "modality": "PET"}, 400, "INVALID_REQUEST"),
        ("quality_assessment", {"enabled": False, "reason": "x", "tenant": "beta"}, 400, "INVALID_REQUEST"),
    ],
)
def test_what_cannot_be_set(world: World, key: str, body: dict[str, Any], status: int, code: str) -> None:
    answer = put(world, key, **body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert world.db.state(ALPHA).feature_log == []


def test_the_log_and_its_filters(world: World) -> None:
    put(world, "quality_assessment", enabled=False, modality="MRI", reason="No scanner")
    world.clock.advance(days=2)
    put(world, "priority_flagging", enabled=False, reason="Pilot")
    client, headers = world.client(), world.bearer("admin")

    def log(**query: str) -> list[dict[str, Any]]:
        answer = client.get(f"{PATH}/audit-log", params=query, headers=headers)
        assert answer.status_code == 200
        entries: list[dict[str, Any]] = answer.json()["auditLog"]
        return entries

    assert log()[1] == {
        "id": 1,
        "featureKey": "quality_assessment",
        "modality": "MRI",
        "action": "disabled",
        "performedBy": "admin",
        "reason": "No scanner",
        "performedAt": "2026-01-15T03:00:00Z",
    }
    assert [e["featureKey"] for e in log()] == ["priority_flagging", "quality_assessment"]
    assert [e["id"] for e in log(featureKey="quality_assessment")] == [1]
    assert [e["id"] for e in log(dateFrom="2026-01-16")] == [2]
    assert [e["id"] for e in log(dateTo="2026-01-15")] == [1]
    assert client.get(f"{PATH}/audit-log?dateFrom=2026-02-01&dateTo=2026-01-01", headers=headers).status_code == 400
    assert client.get(f"{PATH}/audit-log?featureKey=x", headers=headers).status_code == 404


# --- pages -------------------------------------------------------------------------------------------------


def test_the_matrix_and_a_change(world: World) -> None:
    client, token = logged_in(world, "admin")
    text = page(world, "/admin/features?feature=abnormality_detection&modality=CT")
    assert "Abnormality detection · CT" in text and "As all modalities (on)" in text
    assert text.count('class="switch absent"') == 2
    form = {"csrf_token": token, "feature": "abnormality_detection", "modality": "CT", "state": "off"}
    refused = client.post("/admin/features", data={**form, "reason": " "})
    assert refused.status_code == 400 and "The parameter reason must say why." in refused.text
    done = client.post("/admin/features", data={**form, "reason": "Not approved <b>here</b>"})
    assert done.status_code == 303
    after = client.get(done.headers["location"]).text
    assert "Saved." in after and "Not approved &lt;b&gt;here&lt;/b&gt;" in after
    assert 'aria-label="Abnormality detection, CT: off"' in after
    assert 'aria-label="Abnormality detection, MRI: on, as all modalities"' in after
    back = client.post("/admin/features", data={**form, "state": "inherit", "reason": "Approved"})
    assert back.status_code == 303
    filtered = page(world, "/admin/features?log=quality_assessment")
    assert "None of this feature." in filtered


def test_navigation_shows_what_one_may(world: World) -> None:
    def shown(role: str, address: str) -> list[str]:
        text = page(world, address, role)
        tabs = re.search(r'<nav class="tabs" aria-label="Administration">(.*?)</nav>', text)
        bar = re.search(r'<nav aria-label="Pages">(.*?)</nav>', text)
        assert bar is not None
        return re.findall(r">([\w ]+)</a>", tabs[1] if tabs else bar[1])

    assert {"Features", "Patients", "Rejected", "System"} <= set(shown("admin", "/admin/features"))
    # One page only: no row of tabs, and the bar names the page.
    assert shown("technician", "/admin/patients") == ["Worklist", "Patients", "API"]
    assert shown("operator", "/system") == ["System", "API"]
    assert shown("radiologist", "/") == ["Worklist", "API"]
    assert "Administration" in shown("admin", "/")


def test_a_study_that_is_not_analysed_says_so_on_both_pages(world: World) -> None:
    put(world, "abnormality_detection", enabled=False, modality="X-ray", reason="Under review")
    study_id, analysis, _ = world.receive_only()
    assert analysis is None
    for text in (page(world, "/", "radiologist"), page(world, "/?unread=1", "radiologist")):
        assert "AI analysis not available: Abnormality detection is off for X-ray, switched by admin" in text
        assert "Not read by AI" in text
    study = page(world, f"/studies/{study_id}", "radiologist")
    assert "AI analysis not available" in study and "Under review" in study and "Read it without AI as always." in study
    assert "Waiting for the rest of the study" not in study and 'id="pixels"' in study
    assert "Ordered as" in study and "Study UID" in study
    assert "Ask for the AI’s reading" not in study
    wire = world.client().get("/api/studies", headers=world.bearer()).json()
    assert wire["pagination"]["total"] == 1
    assert wire["studies"][0]["analysis"] is None
    assert wire["studies"][0]["notAnalysed"]["feature"] == "abnormality_detection"

    put(world, "abnormality_detection", enabled=None, modality="X-ray", reason="Approved")
    assert "Ask for the AI’s reading" in page(world, f"/studies/{study_id}", "radiologist")
    client, token = logged_in(world, "radiologist")
    assert client.post(f"/studies/{study_id}/analyse", data={"csrf_token": token}).status_code == 303
    assert "AI analysis not available" not in page(world, f"/studies/{study_id}", "radiologist")
    assert "Not read by AI" not in page(world, "/", "radiologist")


def test_results_from_before_an_objection_say_so(world: World) -> None:
    study_id, _, _ = world.read_study()
    world.services.opt_outs.add(ALPHA, patient_id="P-1", issuer="", reason="told the ward", by="technician")
    text = page(world, f"/studies/{study_id}", "radiologist")
    assert "Results from before" in text and "The patient objected to AI after this result." in text
    assert "Pneumothorax" in text


def test_a_cancelled_one_offers_no_retry_while_the_patient_objects(world: World) -> None:
    study_id, _, _ = world.receive()
    world.services.opt_outs.add(ALPHA, patient_id="P-1", issuer="", reason="told the ward", by="technician")
    for address in ("/", f"/studies/{study_id}"):
        text = page(world, address, "radiologist")
        assert "Not analysed: the patient objected" in text
        assert "/retry" not in text


def test_an_order_keeps_its_place_without_ai(world: World) -> None:
    _, routine, uid = world.receive()
    world.complete(routine, make_outcome((make_finding("cardiomegaly", uid),), Level.ROUTINE, "Routine: x"))
    put(world, "abnormality_detection", enabled=False, reason="x")
    study_id, _, _ = world.receive_only(PatientID="P-2")
    with world.db.unit(ALPHA) as unit:
        unit.studies.raise_queue_priority(study_id, Level.URGENT)
    rows = world.client().get("/api/studies", headers=world.bearer()).json()["studies"]
    assert rows[0]["id"] == str(study_id)
    assert "Urgent as ordered." in page(world, "/", "radiologist")


def test_the_list_of_objections_as_a_page(world: World) -> None:
    client, token = logged_in(world, "technician")
    form = {"csrf_token": token, "patient_id": "P-1", "issuer": "", "reason": "Form 7, binder 3"}
    assert client.post("/admin/patients", data={**form, "patient_id": "0000"}).status_code == 400
    assert client.post("/admin/patients", data=form).headers["location"] == "/admin/patients?done=added"
    assert "is on the list already" in client.post("/admin/patients", data=form).text
    text = client.get("/admin/patients?done=added").text
    assert "Form 7, binder 3" in text and "The objection is on the list." in text and "P-1" not in text
    assert "Report for a patient" not in text
    number = re.search(r"/admin/patients/([\w-]+)/removal", text)
    assert number is not None
    gone = client.post(f"/admin/patients/{number[1]}/removal", data={"csrf_token": token, "reason": "By phone"})
    assert gone.status_code == 303
    assert "Nobody is on it." in client.get("/admin/patients").text
    assert "By phone" in client.get("/admin/patients?removed=1").text


def test_the_report_as_a_page_and_over_the_api(world: World) -> None:
    study_id, _, _ = world.read_study()
    world.client().get(f"/api/studies/{study_id}", headers=world.bearer())
    client, token = logged_in(world, "admin")
    shown = client.post("/admin/patients/report", data={"csrf_token": token, "patient_id": "P-1"}).text
    assert "opened the study" in shown and "radiologist" in shown
    wire = (
        world.client()
        .post("/api/patients/access-report", json={"patientId": "P-1"}, headers=world.bearer("admin"))
        .json()
    )
    assert {"looked at", "taken out"} <= {line["kind"] for line in wire["lines"]}
    assert (wire["patientId"], len(wire["studies"]), wire["optOut"]) == ("P-1", 1, None)


def test_the_notice_for_patients_needs_no_log_in(world: World) -> None:
    client = world.client()
    english, german = client.get("/privacy").text, client.get("/privacy?lang=de").text
    assert "You may say no" in english and 'lang="en"' in english
    assert "Sie können Nein sagen" in german and 'lang="de"' in german
    assert "Sie können Nein sagen" in client.get("/privacy", headers={"Accept-Language": "de-AT,en;q=0.5"}).text
    assert "You may say no" in client.get("/privacy?lang=xx", headers={"Accept-Language": "fr"}).text
