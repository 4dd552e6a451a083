"""A part is down: what /readyz, the worklist, its event stream and the API say; overload; and who never waits."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tests.app_on_fakes import ALPHA, World, make_dicom, make_world

from overread.dicom.receive import OUT_OF_RESOURCES, verdict_of
from overread.domain.errors import ObjectStoreUnavailable, StorageFull, StoreUnavailable
from overread.services import degradation
from overread.services.degradation import (
    DISK,
    NOTES,
    OBJECTS,
    OVERLOADED,
    WORKER,
    Condition,
    QueueHealth,
    Watch,
    overloaded,
)

CALM = QueueHealth(workers=1, silent_s=1.0, waiting=3, pressing=1, running=1, failed=0, oldest_s=2.0)


def raising(error: Exception) -> bool:
    raise error


def test_each_part_is_named() -> None:
    watch = Watch(
        queue=lambda: replace(CALM, workers=0),
        probes={
            OBJECTS: lambda: raising(ObjectStoreUnavailable("no bucket")),
            DISK: lambda: raising(OSError(5, "Input/output error")),
            "redis": lambda: True,
        },
    )
    found = watch.condition(wait_s=5)
    assert found.parts == {"database": True, WORKER: False, OBJECTS: False, DISK: False, "redis": True}
    assert found.notes == (NOTES[OBJECTS], NOTES[WORKER], NOTES[DISK]) and found.degraded


def test_no_database_says_nothing_of_the_worker() -> None:
    found = Watch(queue=lambda: raising(StoreUnavailable("away"))).condition(wait_s=5)  # type: ignore[arg-type,return-value]
    assert found.parts == {"database": False} and found.queue is None and not found.overloaded


def test_a_page_never_waits_for_a_probe_and_a_probe_is_asked_once() -> None:
    asked, gate = [], threading.Event()

    def slow() -> bool:
        asked.append(1)
        return gate.wait(10)

    watch = Watch(queue=lambda: CALM, probes={OBJECTS: slow})
    assert watch.condition().parts == {}
    for _ in range(5):
        assert watch.condition().parts == {}, "the bucket has not answered yet"
    gate.set()
    assert watch.condition(wait_s=5).parts[OBJECTS]
    assert len(asked) <= 2


@pytest.mark.parametrize(
    ("waiting", "limit", "expected"), [(0, 1, False), (5, 5, False), (6, 5, True), (9999, 0, False)]
)
def test_overload_is_a_number(waiting: int, limit: int, expected: bool) -> None:
    assert overloaded(replace(CALM, waiting=waiting), limit) is expected


def test_overload_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    log = SimpleNamespace(warning=lambda event, **_facts: said.append(event))
    monkeypatch.setattr(degradation, "log", log)
    numbers = [replace(CALM, waiting=7), replace(CALM, waiting=2)]
    watch = Watch(queue=lambda: numbers.pop(0), overload_jobs=5)
    assert watch.condition(wait_s=5).notes == (OVERLOADED,)
    assert not watch.condition(wait_s=5).overloaded
    assert said == ["overload begins", "overload is over"]


def _world(condition: Condition) -> World:
    world = make_world()
    world.services.watch.condition = lambda *, wait_s=0.0: condition  # type: ignore[method-assign]
    return world


def test_the_worklist_stays_readable_and_says_what_is_down() -> None:
    world = _world(Condition(parts={"database": True, WORKER: False, OBJECTS: False}, queue=CALM))
    page = world.client().get("/", headers={**world.bearer("radiologist"), "Accept": "text/html"})
    assert page.status_code == 200
    for part in (WORKER, OBJECTS):
        assert NOTES[part] in page.text
    ready = world.client().get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["checks"] == {"database": "ok", "worker": "unavailable", "object store": "unavailable"}


def test_a_worklist_without_trouble_has_no_note() -> None:
    world = _world(Condition(parts={"database": True, WORKER: True}, queue=CALM))
    page = world.client().get("/", headers={**world.bearer("radiologist"), "Accept": "text/html"})
    assert 'id="condition" class="condition" role="status" hidden' in page.text


def test_admins_are_told_of_overload() -> None:
    queue = replace(CALM, waiting=7777, pressing=12)
    world = _world(Condition(parts={"database": True}, queue=queue, overloaded=True))
    page = world.client().get("/system", headers={**world.bearer("admin"), "Accept": "text/html"})
    assert "Overload:" in page.text and "7777 jobs wait" in page.text and "12 of them wait" in page.text


def test_objects_away_is_503_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()

    def away(*_: object) -> None:
        raise ObjectStoreUnavailable("The bucket b of host h does not answer.")

    monkeypatch.setattr(world.objects, "put", away)
    headers = {**world.bearer("technician"), "Content-Type": "application/dicom"}
    answer = world.client().post("/api/studies", content=make_dicom(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "OBJECT_STORE_UNAVAILABLE")
    assert answer.headers["retry-after"] == "5" and "bucket" not in answer.text
    assert not world.db.state(ALPHA).instances, "nothing was indexed"
    listed = world.client().get("/api/image-analysis", headers=world.bearer("radiologist"))
    assert listed.status_code == 200


@pytest.mark.parametrize(
    "error", [StoreUnavailable("x"), ObjectStoreUnavailable("x"), StorageFull("x"), OSError(5, "x")]
)
def test_a_sender_is_told_to_come_again(error: Exception) -> None:
    assert verdict_of(error).status == OUT_OF_RESOURCES
