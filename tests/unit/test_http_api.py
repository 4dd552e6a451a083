"""/api on fakes: the specification's shapes, filters, pages, ETag, gzip, fields."""

from __future__ import annotations

import io
import zipfile
from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest
from PIL import Image
from tests.app_on_fakes import ALPHA, World, make_dicom, make_outcome, make_world

from overread.domain.ids import new_uid
from overread.domain.priority import Level
from overread.domain.texts import DISCLAIMER


@pytest.fixture
def world() -> World:
    return make_world()


def _get(world: World, path: str, **headers: str) -> object:
    return world.client().get(path, headers={**world.bearer(), **headers})


# --- ask, read, cancel, retry ------------------------------------------------------------------------------


def test_ask_for_an_analysis(world: World) -> None:
    _, first, _ = world.read_study()
    uid = _get(world, "/api/studies").json()["studies"][0]["studyId"]
    body = {"studyId": uid, "modality": "X-ray", "priority": "urgent", "patientId": "P-1"}
    answer = world.client().post("/api/image-analysis", json=body, headers=world.bearer())
    assert answer.status_code == 202
    made = answer.json()
    assert made.keys() == {"analysisId", "status", "estimatedCompletionTime"}
    assert made["status"] == "pending" and made["analysisId"] != str(first)
    # Measured: the one analysis of this modality took 0.9 s, and nothing waits before it.
    assert made["estimatedCompletionTime"] == pytest.approx(0.9)
    assert answer.headers["location"] == f"/api/image-analysis/{made['analysisId']}"
    result = _get(world, answer.headers["location"]).json()
    assert (result["status"], result["findings"], result["priority"]) == ("pending", [], "critical")


@pytest.mark.parametrize(
    ("body", "status", "code", "parameter"),
    [
        ({}, 400, "INVALID_REQUEST", "studyId"),
        ({"studyId": "1.2"}, 400, "INVALID_REQUEST", "modality"),
        ({"studyId": "", "modality": "CT"}, 400, "INVALID_REQUEST", "studyId"),
        ({"studyId": "1" * 65, "modality": "CT"}, 400, "INVALID_REQUEST", "studyId"),
        ({"studyId": "1.2", "modality": "PET"}, 400, "UNSUPPORTED_MODALITY", "modality"),
        ({"studyId": "1.2", "modality": "CT", "priority": "stat"}, 400, "INVALID_REQUEST", "priority"),
        ({"studyId": "1.2", "modality": "CT", "prioritty": "urgent"}, 400, "INVALID_REQUEST", "prioritty"),
        ({"studyId": "1.2", "modality": "CT"}, 404, "STUDY_NOT_FOUND", None),
    ],
)
def test_asking_wrongly(world: World, body: dict[str, object], status: int, code: str, parameter: str | None) -> None:
    answer = world.client().post("/api/image-analysis", json=body, headers=world.bearer())
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    details = answer.json()["details"]
    assert details.get("parameter") == parameter
    if code == "STUDY_NOT_FOUND":
        assert details["lookedIn"]


def test_a_study_of_another_patient_is_a_conflict(world: World) -> None:
    study, _, _ = world.read_study()
    body = {"studyId": str(study), "modality": "X-ray", "patientId": 4711}
    answer = world.client().post("/api/image-analysis", json=body, headers=world.bearer())
    assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT")
    assert "P-1" not in answer.text


def test_a_modality_that_the_study_is_not(world: World) -> None:
    study, _, _ = world.read_study()
    body = {"studyId": str(study), "modality": "CT"}
    answer = world.client().post("/api/image-analysis", json=body, headers=world.bearer())
    assert (answer.status_code, answer.json()["code"]) == (400, "UNSUPPORTED_MODALITY")


def test_a_result_has_the_specifications_fields(world: World) -> None:
    _, analysis, uid = world.read_study()
    result = _get(world, f"/api/image-analysis/{analysis}").json()
    assert result["analysisId"] == str(analysis)
    assert (result["modality"], result["status"], result["processingTime"]) == ("X-ray", "completed", 0.9)
    assert result["modelVersion"] == "chest_xray 1.0.0"
    assert result["disclaimer"] == DISCLAIMER
    finding = result["findings"][0]
    assert {"id", "analysisId", "findingType", "severity", "confidenceScore", "boundingBox", "description"} <= set(
        finding
    )
    assert finding["boundingBox"] == {"x": 10, "y": 12, "width": 20, "height": 16}
    assert finding["sopInstanceUid"] == uid
    assert result["qualityAssessment"]["overallQuality"] == "suboptimal"
    assert [n["name"] for n in result["notAssessed"]] == ["Rib fracture", "Lung nodule"]
    assert ("analysis.view", "radiologist") in [(a, who) for a, who, *_ in world.db.state(ALPHA).audit]


@pytest.mark.parametrize("path", ["7", "018f0000-0000-7000-8000-000000000000", "metrics"])
def test_no_such_analysis(world: World, path: str) -> None:
    answer = _get(world, f"/api/image-analysis/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "ANALYSIS_NOT_FOUND")


def test_cancel_and_retry(world: World) -> None:
    client, headers = world.client(), world.bearer()
    _, done, _ = world.read_study()
    _, waiting, _ = world.receive(PatientID="P-2")
    answer = client.delete(f"/api/image-analysis/{waiting}", headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"message": "The analysis is cancelled."})
    assert client.delete(f"/api/image-analysis/{done}", headers=headers).json()["code"] == "CONFLICT"
    assert client.post(f"/api/image-analysis/{done}/retry", headers=headers).status_code == 409
    answer = client.post(f"/api/image-analysis/{waiting}/retry", headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "pending")


def test_structured_report(world: World) -> None:
    _, done, _ = world.read_study()
    _, waiting, _ = world.receive(PatientID="P-2")
    early = _get(world, f"/api/image-analysis/{done}/sr")
    assert (early.status_code, early.json()["code"]) == (404, "NOT_FOUND")
    assert "being written" in early.json()["error"]
    assert "this one is pending" in _get(world, f"/api/image-analysis/{waiting}/sr").json()["error"]
    world.objects.put(ALPHA, "sr/1.dcm", b"DICM")
    with world.db.unit(ALPHA) as uow:
        uow.analyses.attach_sr(done, "sr/1.dcm")
    answer = _get(world, f"/api/image-analysis/{done}/sr")
    assert (answer.content, answer.headers["content-type"]) == (b"DICM", "application/dicom")
    assert answer.headers["content-disposition"] == f'attachment; filename="overread-{done}.dcm"'


# --- the list ----------------------------------------------------------------------------------------------


@pytest.fixture
def listed(world: World) -> World:
    """Seven: critical, routine (read), failed and four waiting ones, a day apart."""
    world.read_study(critical=True)
    for i in range(2, 8):
        world.clock.advance(days=1)
        _, analysis, _ = world.receive(PatientID=f"P-{i}", PatientName=f"Name^{i}")
        if i == 2:
            world.complete(analysis, make_outcome((), Level.ROUTINE, "nothing"))
        if i == 3:
            with world.db.unit(ALPHA) as uow:
                uow.analyses.fail(analysis, "INFERENCE_ERROR", "The model failed.", world.clock())
    return world


@pytest.mark.parametrize(
    ("query", "patients"),
    [
        ("", ["P-1", "P-2", "P-3", "P-4", "P-5", "P-6", "P-7"]),
        ("patientId=P-4", ["P-4"]),
        ("patientId=nobody", []),
        ("modality=X-ray&status=completed", ["P-1", "P-2"]),
        ("modality=CT", []),
        ("status=failed", ["P-3"]),
        ("priority=critical", ["P-1"]),
        ("dateFrom=2026-01-20", ["P-6", "P-7"]),
        ("dateFrom=2026-01-17&dateTo=2026-01-18", ["P-3", "P-4"]),
        ("dateTo=2026-01-16T03:00:00Z", ["P-1", "P-2"]),
        ("dateTo=2026-01-16T04:00:00%2B01:00", ["P-1", "P-2"]),
        ("dateTo=2026-01-16T04:00:00+01:00", ["P-1", "P-2"]),
        ("dateTo=2026-01-16T02:59:59Z", ["P-1"]),
        ("dateFrom=0001-01-01&dateTo=9999-12-31&priority=critical", ["P-1"]),
        ("limit=3", ["P-1", "P-2", "P-3"]),
        ("limit=3&page=3", ["P-7"]),
        ("limit=3&page=4", []),
    ],
)
def test_filters_and_pages(listed: World, query: str, patients: list[str]) -> None:
    body = _get(listed, f"/api/image-analysis?{query}").json()
    assert [a["patientId"] for a in body["analyses"]] == patients
    assert body.keys() == {"analyses", "pagination"}


def test_pagination(listed: World) -> None:
    page = _get(listed, "/api/image-analysis?limit=3&page=2").json()["pagination"]
    assert page == {"page": 2, "limit": 3, "total": 7, "pages": 3}
    empty = _get(listed, "/api/image-analysis?patientId=nobody").json()["pagination"]
    assert empty == {"page": 1, "limit": 50, "total": 0, "pages": 1}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("modality=PET", "modality"),
        ("status=done", "status"),
        ("priority=stat", "priority"),
        ("page=0", "page"),
        ("page=x", "page"),
        ("page=999999999", "page"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("dateFrom=yesterday", "dateFrom"),
        ("dateTo=2026-13-01", "dateTo"),
        ("dateTo=0001-01-01T00:00:00%2B23:00", "dateTo"),
        ("dateFrom=2026-02-01&dateTo=2026-01-01", "dateTo"),
        ("prioritty=critical", "prioritty"),
        ("fields=nothing", "fields"),
        ("fields=,", "fields"),
    ],
)
def test_bad_values_name_the_parameter(listed: World, query: str, parameter: str) -> None:
    answer = _get(listed, f"/api/image-analysis?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert answer.json()["details"]["parameter"] == parameter
    assert parameter in answer.json()["error"]


def test_fields(listed: World) -> None:
    body = _get(listed, "/api/image-analysis?limit=1&fields=analysisId,findings.name,findings.model.name").json()
    (analysis,) = body["analyses"]
    assert analysis.keys() == {"analysisId", "findings"}
    assert analysis["findings"][0] == {"name": "Pneumothorax", "model": {"name": "chest_xray"}}
    one = _get(listed, f"/api/image-analysis/{analysis['analysisId']}?fields=status").json()
    assert one == {"status": "completed"}
    studies = _get(listed, "/api/studies?limit=1&fields=patientId").json()["studies"]
    assert studies == [{"patientId": "P-1"}]


def test_etag(listed: World) -> None:
    first = _get(listed, "/api/image-analysis")
    etag = first.headers["etag"]
    again = _get(listed, "/api/image-analysis", **{"If-None-Match": f'"x", {etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    listed.receive(PatientID="P-9")
    assert _get(listed, "/api/image-analysis", **{"If-None-Match": etag}).status_code == 200


def test_gzip(listed: World) -> None:
    packed = _get(listed, "/api/image-analysis", **{"Accept-Encoding": "gzip"})
    plain = _get(listed, "/api/image-analysis", **{"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) < len(plain.content) / 4
    assert packed.headers["etag"] == plain.headers["etag"]


# --- studies and pictures ----------------------------------------------------------------------------------


def test_studies(listed: World) -> None:
    body = listed.client().post("/api/studies/search", json={"q": "name^4"}, headers=listed.bearer()).json()
    (study,) = body["studies"]
    assert (study["patientId"], study["patientName"], study["modality"]) == ("P-4", "Name^4", "X-ray")
    assert study["analysis"]["status"] == "pending"
    one = _get(listed, f"/api/studies/{study['studyId']}").json()
    assert [i["viewPosition"] for i in one["instances"]] == ["PA"]
    assert _get(listed, one["instances"][0]["image"]).headers["content-type"] == "image/png"
    assert _get(listed, f"/api/studies/{study['id']}").json() == one
    assert _get(listed, "/api/studies/1.2.3").json()["code"] == "STUDY_NOT_FOUND"


def test_picture_is_what_a_display_shows(world: World) -> None:
    study, _, uid = world.receive(Rows=30, Columns=40)
    answer = _get(world, f"/api/studies/{study}/instances/{uid}/image.png")
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.size, picture.mode) == ((40, 30), "L")
    pixels = np.asarray(picture).astype(int)
    assert pixels[0, 0] == 0 and pixels[-1, -1] == 255 and (np.diff(pixels.ravel()) >= 0).all()
    inverted, _, uid = world.receive(Rows=30, Columns=40, PhotometricInterpretation="MONOCHROME1")
    other = _get(world, f"/api/studies/{inverted}/instances/{uid}/image.png")
    assert np.abs(np.asarray(Image.open(io.BytesIO(other.content))).astype(int) - (255 - pixels)).max() <= 1


def test_picture_with_boxes_and_etag(world: World) -> None:
    study, _, uid = world.read_study()
    path = f"/api/studies/{study}/instances/{uid}/image.png"
    clean, drawn = _get(world, path), _get(world, f"{path}?boxes=all")
    colours = np.asarray(Image.open(io.BytesIO(drawn.content)).convert("RGB")).astype(int)
    assert (abs(colours[..., 0] - colours[..., 2]) > 60).any()
    assert clean.headers["etag"] != drawn.headers["etag"]
    assert clean.headers["cache-control"] == "private, no-cache"
    assert _get(world, path, **{"If-None-Match": clean.headers["etag"]}).status_code == 304
    assert _get(world, f"{path}?boxes=some").json()["details"]["parameter"] == "boxes"
    assert _get(world, path.replace(uid, "1.2.3")).json()["code"] == "NOT_FOUND"
    world.app.state.tally.flush(everything=True)
    views = [e for e in world.db.state(ALPHA).trail if e.action == "image.view"]
    assert [(e.outcome, e.code, e.facts.get("count")) for e in views] == [
        ("success", "", None),
        ("failed", "NOT_FOUND", None),
        ("success", "", 2),
    ]


def test_a_picture_that_cannot_be_decoded_is_a_clear_error(world: World) -> None:
    study, _, uid = world.receive()
    (stored,) = world.db.state(ALPHA).instances.values()
    world.objects.put(ALPHA, stored.object_key, world.objects.get(ALPHA, stored.object_key)[:-500])
    answer = _get(world, f"/api/studies/{study}/instances/{uid}/image.png")
    assert answer.status_code == 400 and answer.json()["code"] in ("PIXEL_DATA_MISMATCH", "INVALID_DICOM")


# --- uploads -----------------------------------------------------------------------------------------------


def _post(world: World, **kwargs: object) -> object:
    headers = {**world.bearer("technician"), **kwargs.pop("headers", {})}  # type: ignore[dict-item]
    return world.client().post("/api/studies", headers=headers, **kwargs)  # type: ignore[arg-type]


def test_upload_one_raw_file(world: World) -> None:
    answer = _post(world, content=make_dicom(), headers={"Content-Type": "application/dicom"})
    body = answer.json()
    assert (answer.status_code, body["accepted"], body["rejected"]) == (200, 1, 0)
    assert body["files"][0]["outcome"] == "stored"
    assert body["studies"] == [{"studyId": body["files"][0]["studyId"], "id": body["studies"][0]["id"]}]
    assert UUID(body["studies"][0]["id"])
    (instance,) = world.db.state(ALPHA).instances.values()
    assert instance.record.patient_id == "P-1"


def test_upload_a_form_of_files_and_a_zip(world: World) -> None:
    study, one = new_uid(), make_dicom()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/1.dcm", make_dicom(StudyInstanceUID=study))
        archive.writestr("a/2.dcm", make_dicom(StudyInstanceUID=study, InstanceNumber=2))
        archive.writestr("../evil.dcm", make_dicom())
        archive.writestr("readme.txt", "hello")
    files = [
        ("files", ("one.dcm", one, "application/dicom")),
        ("files", ("again.dcm", one, "application/dicom")),
        ("files", ("broken.dcm", b"not dicom at all", "application/dicom")),
        ("files", ("study.zip", packed.getvalue(), "application/zip")),
    ]
    answer = _post(world, files=files)
    body = answer.json()
    assert answer.status_code == 200
    outcomes = {f["file"]: (f["outcome"], f.get("code")) for f in body["files"]}
    assert outcomes["one.dcm"] == ("stored", None)
    assert outcomes["again.dcm"] == ("duplicate", None)
    assert outcomes["broken.dcm"] == ("rejected", "INVALID_DICOM")
    assert outcomes["study.zip/a/1.dcm"] == outcomes["study.zip/a/2.dcm"] == ("stored", None)
    assert outcomes["study.zip/../evil.dcm"] == ("rejected", "UNSAFE_ARCHIVE")
    assert outcomes["study.zip/readme.txt"][0] == "rejected"
    assert (body["accepted"], body["rejected"], len(body["studies"])) == (4, 3, 2)
    assert [r.code for r in world.db.state(ALPHA).rejections] == ["INVALID_DICOM"]


def test_upload_of_nothing_good_is_an_error_with_all_outcomes(world: World) -> None:
    answer = _post(world, files=[("files", ("a.dcm", b"x")), ("files", ("b.dcm", b""))])
    body = answer.json()
    assert (answer.status_code, body["code"]) == (400, "INVALID_DICOM")
    assert [f["file"] for f in body["details"]["files"]] == ["a.dcm", "b.dcm"]


def test_other_pixels_under_a_known_uid_are_quarantined(world: World) -> None:
    uid, study = new_uid(), new_uid()
    headers = {"Content-Type": "application/dicom"}
    _post(world, content=make_dicom(SOPInstanceUID=uid, StudyInstanceUID=study), headers=headers)
    body = _post(
        world, content=make_dicom(SOPInstanceUID=uid, StudyInstanceUID=study, Rows=32, Columns=32), headers=headers
    ).json()
    assert (body["files"][0]["outcome"], body["files"][0]["code"]) == ("quarantined", "DUPLICATE_UID")
    assert (body["accepted"], body["rejected"]) == (0, 1)


@pytest.mark.parametrize(
    ("headers", "content"),
    [({"Content-Type": "text/plain"}, b"x"), ({}, b"")],
)
def test_upload_of_another_type(world: World, headers: dict[str, str], content: bytes) -> None:
    answer = _post(world, content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")


def test_upload_over_the_limit_is_413() -> None:
    world = make_world(max_upload_bytes=5000)
    headers = {"Content-Type": "application/dicom"}
    answer = _post(world, content=b"x" * 6000, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")

    def chunks() -> object:
        for _ in range(60):
            yield b"x" * 100

    assert _post(world, content=chunks(), headers=headers).status_code == 413
    assert _post(world, files=[("files", ("a.dcm", b"x" * 6000))]).status_code == 413
    assert not world.db.state(ALPHA).instances


def test_upload_of_many_files_in_one_form(world: World) -> None:
    study = new_uid()
    files = [
        ("files", (f"{i}.dcm", make_dicom(StudyInstanceUID=study, InstanceNumber=i, Rows=4, Columns=4)))
        for i in range(300)
    ]
    body = _post(world, files=files, data={"comment": "none"}).json()
    assert (body["accepted"], body["rejected"], len(body["studies"])) == (300, 0, 1)
    assert len(world.db.state(ALPHA).instances) == 300


def test_a_form_that_breaks_off_is_an_error_and_keeps_what_was_whole(world: World) -> None:
    part = b'--xx\r\nContent-Disposition: form-data; name="files"; filename="%s.dcm"\r\n\r\n%s\r\n'
    whole = part % (b"a", make_dicom(Rows=4, Columns=4))
    headers = {"Content-Type": "multipart/form-data; boundary=xx"}
    for rest in (whole[:300], b"--xx nonsense", b"--xx\r\n"):
        answer = _post(world, content=whole + rest, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST"), rest
    assert len(world.db.state(ALPHA).instances) == 1
    assert _post(world, content=whole + b"--xx--\r\n", headers=headers).json()["files"][0]["outcome"] == "duplicate"
    assert _post(world, content=b"", headers={"Content-Type": "multipart/form-data"}).status_code == 400
    assert _post(world, content=b"", headers=headers).json()["details"]["parameter"] in ("files", "body")


def test_upload_without_database_is_503(world: World) -> None:
    headers = {**world.bearer("technician"), "Content-Type": "application/dicom"}
    world.db.down = True
    answer = world.client().post("/api/studies", content=make_dicom(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")


# --- health, OpenAPI ---------------------------------------------------------------------------------------


def test_health(world: World) -> None:
    client = world.client()
    assert client.get("/healthz").json() == {"status": "ok", "version": "0.1.0", "uptimeSeconds": 3600.0}
    assert client.get("/readyz").json() == {
        "status": "ready",
        "checks": {"database": "ok", "worker": "ok"},
        "overloaded": False,
        "waitingJobs": 0,
    }
    world.db.down = True
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "NOT_READY")
    assert answer.json()["details"]["checks"] == {"database": "unavailable"}
    assert answer.headers["retry-after"] == "5"
    assert client.get("/healthz").status_code == 200


def test_openapi_has_no_422_and_every_address(world: World) -> None:
    schema = world.client().get("/openapi.json").json()
    assert "/api/image-analysis/{analysisId}" in schema["paths"]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert "422" not in operation["responses"], (path, method)
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    text = world.client().get("/docs").text
    for path in schema["paths"]:
        assert path in text


def test_estimate_counts_what_waits_before(world: World) -> None:
    _, analysis, _ = world.receive()
    world.complete(analysis, make_outcome((), Level.ROUTINE, "x"), ms=2000)
    for i in range(3):
        world.clock.now += timedelta(seconds=1)
        world.receive(PatientID=f"Q-{i}")
    study, _, _ = world.receive(PatientID="Q-9")
    body = {"studyId": str(study), "modality": "X-ray", "priority": "critical"}
    made = world.client().post("/api/image-analysis", json=body, headers=world.bearer()).json()
    assert made["estimatedCompletionTime"] == pytest.approx(2.0)
