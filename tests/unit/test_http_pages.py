"""What the pages say, on fakes. How they look and move is in tests/browser."""

from __future__ import annotations

import re

import pytest
from tests.app_on_fakes import ALPHA, PASSWORD, World, make_finding, make_outcome, make_world

from overread.domain.priority import Level
from overread.domain.texts import DISCLAIMER, NO_FINDING


@pytest.fixture
def world() -> World:
    return make_world()


def _page(world: World, path: str, role: str = "radiologist", **headers: str) -> str:
    answer = world.client().get(path, headers={**world.bearer(role), "Accept": "text/html", **headers})
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def test_an_empty_worklist_says_what_to_do(world: World) -> None:
    text = _page(world, "/")
    assert "storescu -aec OVERREAD localhost 11112" in text
    assert "No study matches" in _page(world, "/?priority=critical")
    assert "No study matches" in _page(world, "/?page=7")


def test_worklist_order_reasons_and_actions(world: World) -> None:
    _, waiting, _ = world.receive(PatientID="P-2", PatientName="First^Come")
    world.clock.advance(minutes=5)
    _, failed, _ = world.receive(PatientID="P-3", PatientName="Second^Fails")
    with world.db.unit(ALPHA) as uow:
        uow.analyses.fail(failed, "NO_PIXEL_DATA", "There are no pixels in the image.", world.clock())
    world.clock.advance(minutes=5)
    world.read_study()
    text = _page(world, "/")
    names = re.findall(r'<td class="patient"><a [^>]*>([^<]+)</a>', text)
    assert names == ["Zzyzx, Planted", "First, Come", "Second, Fails"]
    assert "Pneumothorax 82 %: critical by the triage table." in text
    assert "There are no pixels in the image." in text
    assert f'action="/analyses/{failed}/retry"' in text and f'action="/analyses/{waiting}/cancel"' in text
    assert "10 min" in text and "1 unreadable" in text
    assert DISCLAIMER in text
    assert _page(world, "/worklist/rows").strip().startswith("<table")


def test_an_order_that_asks_for_more_than_the_ai_says_so(world: World) -> None:
    study, analysis, _ = world.receive()
    body = {"studyId": str(study), "modality": "X-ray", "priority": "critical"}
    world.client().post("/api/image-analysis", json=body, headers=world.bearer())
    for path in ("/", f"/studies/{study}"):
        assert "Critical as ordered." in _page(world, path)
    world.complete(analysis, make_outcome((), Level.ROUTINE, "Routine: no finding among those assessed."))
    for path in ("/", f"/studies/{study}"):
        assert "Critical as ordered. AI: routine: no finding among those assessed." in _page(world, path)


def test_nothing_found_is_never_called_normal(world: World) -> None:
    study, analysis, _ = world.receive()
    world.complete(analysis, make_outcome((), Level.ROUTINE, "No finding among those assessed."))
    for path in ("/", f"/studies/{study}"):
        text = _page(world, path)
        assert NO_FINDING in text
        assert "normal" not in text.lower()


def test_filters_are_kept(world: World) -> None:
    world.read_study()
    text = _page(world, "/?priority=critical&status=completed")
    assert '<option value="critical" selected>' in text
    assert 'data-query="?priority=critical&amp;status=completed"' in text


def _search(world: World, path: str, **fields: str) -> str:
    answer = world.client().post(path, data=fields, headers={**world.bearer(), "Accept": "text/html"})
    assert answer.status_code == 200
    return answer.text


def test_a_search_is_in_no_address(world: World) -> None:
    world.read_study()
    for i in range(101):
        world.receive(PatientID=f"P-{i}", PatientName="Other^Name", Rows=2, Columns=2)
    text = _search(world, "/", q="zzyzx", priority="critical")
    assert 'value="zzyzx"' in text and "Zzyzx" in text
    assert 'data-query="?priority=critical"' in text
    found = _search(world, "/worklist/rows", q="other")
    assert found.count("<tr id=") == 100
    assert '<form class="turn" method="post" action="/?page=2">' in found
    assert _search(world, "/worklist/rows?page=2", q="other").count("<tr id=") == 1
    for page in (text, found):
        addresses = re.findall(r'(?:href|action|src|data-href|data-query)="([^"]*)"', page)
        assert addresses
        assert not any("zzyzx" in a.lower() or "other" in a.lower() or "q=" in a for a in addresses)
    assert "No study matches" in _search(world, "/", q="nobody")
    assert "zzyzx" not in _page(world, "/?q=zzyzx").replace("Zzyzx", ""), "an old address searches nothing"


def test_a_search_needs_our_own_page_and_words(world: World) -> None:
    client = world.client()
    headers = {**world.bearer(), "Accept": "text/html"}
    assert client.post("/", data={"q": " "}, headers=headers).headers["location"] == "/"
    for path in ("/", "/worklist/rows"):
        answer = client.post(path, data={"q": "x"}, headers={**headers, "Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403


def test_many_studies_come_in_pages(world: World) -> None:
    for i in range(101):
        world.receive(PatientID=f"P-{i}", Rows=2, Columns=2)
    text = _page(world, "/")
    assert "101 studies · page 1 of 2" in text and 'href="/?page=2"' in text
    assert text.count("<tr id=") == 100
    assert _page(world, "/?page=2").count("<tr id=") == 1


def test_study_page_says_everything(world: World) -> None:
    study, analysis, uid = world.read_study()
    text = _page(world, f"/studies/{study}")
    for sentence in (
        "Zzyzx, Planted",
        "P-1",
        "1960-02-29",
        "(65 y)",
        "Pneumothorax 82 %: critical by the triage table.",
        "found 81 % (70 to 89) of those who had it and raised a false alarm in 16 % (13 to 20)",
        "exploratory",
        "finds 81 of 100, false alarm 16 of 100",
        "Rib fracture, Lung nodule",
        "No installed model looks for it.",
        "Pixels are cut off.",
        "Left apex cut off.",
        "Also looked for, nothing shown: Pleural effusion.",
        "chest_xray 1.0.0",
        "View PA",
        "DICOM SR is being written",
        DISCLAIMER,
    ):
        assert sentence in text, sentence
    assert f"/instances/{uid}/image.png" in text
    assert '<rect class="line" x="10" y="12" width="20" height="16"/>' in text
    assert 'class="box critical" data-finding="1"' in text
    assert 'class="box routine exploratory" data-finding="2"' in text
    with world.db.unit(ALPHA) as uow:
        uow.analyses.attach_sr(analysis, "sr/1.dcm")
    assert f'href="/api/image-analysis/{analysis}/sr"' in _page(world, f"/studies/{study}")


def test_study_page_in_each_state(world: World) -> None:
    study, analysis, _ = world.receive()
    assert "Cancel the analysis" in _page(world, f"/studies/{study}")
    with world.db.unit(ALPHA) as uow:
        uow.analyses.fail(analysis, "INFERENCE_ERROR", "The model failed.", world.clock())
    text = _page(world, f"/studies/{study}")
    assert "The model failed." in text and "Retry" in text and "INFERENCE_ERROR" in text
    ct, _, _ = world.receive_only(Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    assert "Waiting for the rest of the study" in _page(world, f"/studies/{ct}")


def test_study_without_an_image(world: World) -> None:
    study, _, _ = world.receive_only(Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", no_pixels=True)
    text = _page(world, f"/studies/{study}")
    assert "holds no image that can be shown" in text


def test_images_by_number_and_a_late_image(world: World) -> None:
    study_uid = "1.2.826.0.1.3680043.8.498.7"
    study, analysis, _ = world.receive(StudyInstanceUID=study_uid, InstanceNumber=1)
    _, _, second = world.receive(StudyInstanceUID=study_uid, InstanceNumber=2, ViewPosition="LL")
    world.complete(analysis, make_outcome((make_finding("cardiomegaly", second),), Level.ROUTINE, "x"))
    text = _page(world, f"/studies/{study}")
    assert "Image 2 of 2" in text and "View LL" in text and 'rel="prev"' in text
    first = _page(world, f"/studies/{study}?image=1")
    assert "Image 1 of 2" in first and 'href="?image=2" data-finding="1">image 2' in first
    assert "Image 2 of 2" in _page(world, f"/studies/{study}?image=99")


def test_two_patients_in_one_study_are_shouted(world: World) -> None:
    study, _, _ = world.receive(StudyInstanceUID="1.2.3.4")
    world.receive(StudyInstanceUID="1.2.3.4", PatientID="P-other")
    assert "more than one patient" in _page(world, f"/studies/{study}")
    assert "two patients in one study" in _page(world, "/")


def test_labels_never_lie_on_each_other(world: World) -> None:
    study, analysis, uid = world.receive(Rows=500, Columns=500)
    same = {"exploratory": True}
    found = tuple(
        make_finding(key, uid, **same) for key in ("pneumothorax", "cardiomegaly", "emphysema", "atelectasis")
    )
    world.complete(analysis, make_outcome(found, Level.ROUTINE, "x"))
    plates = re.findall(
        r'class="plate" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', _page(world, f"/studies/{study}")
    )
    boxes = [tuple(map(float, p)) for p in plates]
    assert len(boxes) == 4
    for i, (x, y, w, h) in enumerate(boxes):
        assert 0 <= x <= x + w <= 500.1 and 0 <= y <= y + h <= 500.1
        for x2, y2, w2, h2 in boxes[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 + 0.2 or y2 + h2 <= y + 0.2


def test_text_from_a_file_cannot_become_markup(world: World) -> None:
    study, _, _ = world.receive(
        PatientName="<script>alert(1)</script>", StudyDescription='"><img src=x>', AccessionNumber="<i>1"
    )
    for path in ("/", f"/studies/{study}"):
        text = _page(world, path)
        assert "<script>alert" not in text and "<img src=x" not in text and "<i>1" not in text


def test_rejected_page(world: World) -> None:
    assert "Nothing was rejected" in _page(world, "/rejected", "admin")
    headers = {**world.bearer("technician"), "Content-Type": "application/dicom"}
    world.client().post("/api/studies", content=b"junk", headers=headers)
    text = _page(world, "/rejected", "admin")
    assert "INVALID_DICOM" in text and "technician" in text


def test_system_page(world: World) -> None:
    world.read_study()
    text = _page(world, "/system", "operator")
    assert "1 h 00" in text and "works" in text and "Zzyzx" not in text
    assert "overread.write_sr" in text and "an-opaque-id" in text


def test_error_pages(world: World) -> None:
    html = {"Accept": "text/html"}
    answer = world.client().get("/nothing", headers=html)
    assert answer.status_code == 404 and "There is nothing at this address." in answer.text
    answer = world.client().get("/studies/1.2.3", headers={**world.bearer(), **html})
    assert answer.status_code == 404 and "STUDY_NOT_FOUND" in answer.text and "Worklist" in answer.text
    world.db.down = True
    answer = world.client().get("/", headers={**world.bearer(), **html})
    assert answer.status_code == 503 and "sends them again by itself" in answer.text and "10.0.0.5" not in answer.text
    assert answer.headers["retry-after"] == "5"


def test_pages_have_an_etag(world: World) -> None:
    world.read_study()
    headers = world.bearer()
    first = world.client().get("/worklist/rows", headers=headers)
    again = world.client().get("/worklist/rows", headers={**headers, "If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_static_files_are_kept_when_versioned(world: World) -> None:
    text = world.client().get("/login").text
    address = re.search(r'href="(/static/overread\.css\?v=\w+)"', text)
    assert address
    assert "immutable" in world.client().get(address[1]).headers["cache-control"]
    assert world.client().get("/static/overread.css").headers["cache-control"] == "no-cache"
    assert world.client().get("/static/../pages/base.html").status_code == 404


def test_docs_page_knows_who_looks(world: World) -> None:
    client = world.client()
    assert 'action="/logout"' not in client.get("/docs").text
    client.post("/login", data={"username": "admin", "password": PASSWORD})
    assert 'action="/logout"' in client.get("/docs").text
