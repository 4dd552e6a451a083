"""The error format, its codes, and that nothing leaks through it."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.app_on_fakes import SECRET_NAME, World, make_world

from overread.domain import errors
from overread.domain.errors import OverreadError
from overread.http.errors import status_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def world() -> World:
    return make_world()


def _all_errors() -> list[type[OverreadError]]:
    found, todo = [], [OverreadError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += kind.__subclasses__()
    return [k for k in found if k.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", _all_errors(), ids=lambda k: k.__name__)
def test_each_code_is_documented_with_its_status(kind: type[OverreadError]) -> None:
    lines = (ROOT / "docs/reference/errors.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith(f"| `{kind.code}` ")]
    assert rows, f"docs/reference/errors.md lacks {kind.code}"
    assert f"| {status_of(kind('x'))} |" in rows[0]


def test_format_of_an_error(world: World) -> None:
    answer = world.client().get("/api/image-analysis/018f0000-0000-7000-8000-000000000000", headers=world.bearer())
    assert answer.status_code == 404
    body = answer.json()
    assert body.pop("error") == "There is no analysis with this id."
    assert body == {
        "code": "ANALYSIS_NOT_FOUND",
        "timestamp": "2026-01-15T03:00:00Z",
        "analysisId": "018f0000-0000-7000-8000-000000000000",
    }
    assert answer.headers["cache-control"] == "no-store"


def test_unknown_address_and_method(world: World) -> None:
    client = world.client()
    assert client.get("/api/nothing").json()["code"] == "NOT_FOUND"
    answer = client.put("/api/image-analysis")
    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("path", ["/api/models", "/api/image-analysis/metrics", "/api/pacs/studies/1.2"])
def test_later_endpoints_are_simply_not_there(world: World, path: str) -> None:
    assert world.client().get(path, headers=world.bearer()).status_code == 404


def test_validation_is_400_and_never_echoes_values(world: World) -> None:
    answer = world.client().post(
        "/api/image-analysis", json={"studyId": [SECRET_NAME], "modality": "CT"}, headers=world.bearer()
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert answer.json()["details"]["parameter"] == "studyId"
    assert SECRET_NAME not in answer.text


def test_broken_json(world: World) -> None:
    headers = {**world.bearer(), "Content-Type": "application/json"}
    answer = world.client().post("/api/image-analysis", content=b"{", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")


def test_database_down_is_503_without_internals(world: World) -> None:
    headers = world.bearer()
    world.db.down = True
    answer = world.client().get("/api/image-analysis", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
    assert answer.headers["retry-after"] == "5"
    assert "10.0.0.5" not in answer.text and "overread_a" not in answer.text


def test_surprise_is_500_with_a_reference_and_no_internals(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError(f"patient {SECRET_NAME} at /etc/secret")

    headers = world.bearer()
    monkeypatch.setattr(type(world.services.requests), "cancel", explode)
    with capture_logs() as logs:
        answer = world.client().delete("/api/image-analysis/018f0000-0000-7000-8000-000000000000", headers=headers)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (500, "INTERNAL_ERROR")
    assert SECRET_NAME not in answer.text and "RuntimeError" not in answer.text and "/etc" not in answer.text
    (entry,) = [line for line in logs if line["event"] == "request.crashed"]
    assert entry["reference"] == body["details"]["reference"] and entry["kind"] == "RuntimeError"
    assert SECRET_NAME not in str(logs)


def test_security_headers_everywhere(world: World) -> None:
    for path in ("/healthz", "/login", "/api/image-analysis", "/api/nothing", "/static/overread.css"):
        headers = world.client().get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_no_page_has_inline_script_or_style(world: World) -> None:
    for template in (ROOT / "src/overread/web/pages").glob("*.html"):
        text = template.read_text()
        assert "style=" not in text and "<style" not in text, template.name
        assert "onclick" not in text and "onload" not in text, template.name
        assert text.count("<script") == text.count('<script type="module" src='), template.name
        assert "http://" not in text.replace("http://localhost:8080", "") and "https://" not in text, template.name


def test_too_large_a_body_is_413(world: World) -> None:
    small = make_world(max_body_bytes=100)
    answer = small.client().post("/api/auth/login", json={"username": "x" * 200, "password": "y"})
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")


def test_a_body_that_hides_its_length_is_413_too() -> None:
    small = make_world(max_body_bytes=100)

    def chunks() -> object:
        for _ in range(50):
            yield b'{"username": "'

    answer = small.client().post("/api/auth/login", content=chunks(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
