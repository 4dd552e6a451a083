"""Routes of segments: the SEG, the outlines, and pictures of CT slices and frames with a chosen window."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.app_on_fakes import ALPHA, World, make_world
from tests.segmented import NODULE_ID, boxes, lung, nodule, outcome
from tests.unit.ct_series import ct, enhanced, files

from overread.dicom.series import volumes_of
from overread.domain.analysis import InstanceProblem
from overread.domain.study import Sender
from overread.render.outlines import outlines

SENDER = Sender(channel="dicom", name="CT1", address="10.0.0.9")


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    with world.client(headers=world.bearer()) as client:
        yield client


def send(world: World, made: list[tuple[str, bytes]]) -> tuple[UUID, UUID]:
    """A CT study that came and whose analysis waits: (study, analysis)."""
    for name, data in made:
        filed = world.services.receive.receive(ALPHA, data, SENDER, name=name)
    assert filed.study_id is not None
    study = world.services.requests.create(
        ALPHA, study=str(filed.study_id), modality=None, priority=None, requested_by="radiologist"
    )
    return filed.study_id, study.analysis_id


def outlined(world: World, made: list[tuple[str, bytes]]) -> tuple[UUID, UUID, Any]:
    """A CT study that was analysed: (study, analysis, its volume)."""
    study, analysis = send(world, made)
    volume = volumes_of(made).main()
    one, other = boxes(volume)
    world.complete(analysis, outcome(volume.sop_instance_uids[4]))
    with world.db.unit(ALPHA) as uow:
        uow.outlines.save(analysis, outlines([lung(volume, one), nodule(volume, other)], volume))
    return study, analysis, volume


SLICES = files([ct(float(z)) for z in range(0, 24, 2)])


def test_the_summary_names_segments_and_the_slices_to_look_at(world: World, client: TestClient):
    _, analysis, volume = outlined(world, SLICES)
    answer = client.get(f"/api/image-analysis/{analysis}/outlines").json()
    organ, lesion = answer["segments"]
    assert (organ["segmentNumber"], organ["key"], organ["name"], organ["sliceCount"]) == (
        1,
        "lung_right",
        "Right lung",
        7,
    )
    assert "findingId" not in organ
    assert organ["first"] == {"sopInstanceUid": volume.sop_instance_uids[2], "frame": 1, "sliceNumber": 3}
    assert organ["last"]["sliceNumber"] == 9
    assert lesion["findingId"] == str(NODULE_ID)
    assert lesion["largest"]["sliceNumber"] in (5, 6)


def test_the_polygons_of_one_slice(world: World, client: TestClient):
    _, analysis, volume = outlined(world, SLICES)
    path = f"/api/image-analysis/{analysis}/outlines"
    answer = client.get(path, params={"sopInstanceUid": volume.sop_instance_uids[4]}).json()
    assert (answer["sopInstanceUid"], answer["frame"]) == (volume.sop_instance_uids[4], 1)
    assert [(o["segmentNumber"], o["key"], o["sliceNumber"]) for o in answer["outlines"]] == [
        (1, "lung_right", 5),
        (2, "lung_nodule", 5),
    ]
    x, y = np.array(answer["outlines"][1]["rings"][0]).T
    assert [x.min(), x.max(), y.min(), y.max()] == pytest.approx([8.5, 12.5, 6.5, 9.5], abs=0.5)
    empty = client.get(path, params={"sopInstanceUid": volume.sop_instance_uids[11]})
    assert (empty.status_code, empty.json()["outlines"]) == (200, [])


def test_the_polygons_of_a_frame(world: World, client: TestClient):
    made = files([enhanced([(0, 0, z) for z in range(22, -2, -2)])])
    _, analysis, volume = outlined(world, made)
    path = f"/api/image-analysis/{analysis}/outlines"
    uid = volume.sop_instance_uids[0]
    # The frames run from the head down, the volume from the feet up: slice 5 of 12 is frame 8.
    answer = client.get(path, params={"sopInstanceUid": uid, "frame": 8}).json()
    assert [(o["segmentNumber"], o["sliceNumber"]) for o in answer["outlines"]] == [(1, 5), (2, 5)]
    assert client.get(path, params={"sopInstanceUid": uid, "frame": 1}).json()["outlines"] == []


@pytest.mark.parametrize("query", [{"frame": 2}, {"sopInstanceUid": "1.2", "frame": 0}, {"sopInstanceUid": "1" * 65}])
def test_questions_that_make_no_sense(world: World, client: TestClient, query: dict[str, Any]):
    _, analysis, _ = outlined(world, SLICES)
    answer = client.get(f"/api/image-analysis/{analysis}/outlines", params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")


def test_an_analysis_that_outlined_nothing(world: World, client: TestClient):
    _, analysis, _ = world.read_study()
    assert client.get(f"/api/image-analysis/{analysis}/outlines").json()["segments"] == []
    assert client.get(f"/api/image-analysis/{uuid4()}/outlines").status_code == 404


def test_the_seg_is_a_file_and_its_download_is_recorded(world: World, client: TestClient):
    _, analysis, _ = outlined(world, SLICES)
    world.objects.put(ALPHA, "seg/x.dcm", b"DICM bytes")
    with world.db.unit(ALPHA) as uow:
        uow.analyses.attach_seg(analysis, "seg/x.dcm", 2)
    answer = client.get(f"/api/image-analysis/{analysis}/seg")
    assert (answer.content, answer.headers["content-type"]) == (b"DICM bytes", "application/dicom")
    assert f"overread-seg-{analysis}.dcm" in answer.headers["content-disposition"]
    assert [action for action, *_ in world.db.state(ALPHA).audit if action == "seg.download"] == ["seg.download"]


def test_without_a_seg_the_reason_is_said(world: World, client: TestClient):
    _, pending = send(world, SLICES)
    assert "when the analysis is completed" in client.get(f"/api/image-analysis/{pending}/seg").json()["error"]
    _, nothing, _ = world.read_study()
    answer = client.get(f"/api/image-analysis/{nothing}/seg")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert "outlined nothing" in answer.json()["error"]
    _, refused, uid = world.receive(PatientID="P-9")
    said = "No segmentation was written: the images have no usable FrameOfReferenceUID."
    problem = InstanceProblem(instance="series 1.2", code="NO_SEGMENTATION", message=said)
    world.complete(refused, replace(outcome(uid), problems=(problem,)))
    assert said in client.get(f"/api/image-analysis/{refused}/seg").json()["error"]


def test_measurements_have_their_metadata(world: World, client: TestClient):
    _, analysis, _ = outlined(world, SLICES)
    measured = client.get(f"/api/image-analysis/{analysis}").json()["measurements"]
    assert [m["measurementType"] for m in measured] == [
        "nodule_longest_diameter",
        "lung_volume_right",
        "laa_950_right",
        "lung_volume_total",
    ]
    assert measured[2]["metadata"] == {"site": "lung_right", "threshold_hu": -950}
    assert "metadata" not in measured[3]


def grey(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("L")).astype(int)


def test_a_ct_slice_is_shown_with_the_window_that_was_asked_for(world: World, client: TestClient):
    hu = np.full((40, 40), -1000, np.int16)
    hu[:, 10:20], hu[:, 20:30], hu[:, 30:] = -600, 40, 400
    study, _ = send(world, files([ct(0.0, hu=hu, PixelSpacing=["1", "1"])]))
    uid = next(iter(world.db.state(ALPHA).instances))
    path = f"/api/studies/{study}/instances/{uid}/image.png"

    def columns(window: str | None) -> list[int]:
        shown = grey(client.get(path, params={"window": window} if window else {}))
        return [int(shown[20, at]) for at in (5, 15, 25, 35)]

    assert columns("lung") == pytest.approx([59, 128, 236, 255], abs=2)
    assert columns("mediastinum") == pytest.approx([0, 0, 128, 255], abs=2)
    assert columns("bone") == pytest.approx([0, 0, 77, 128], abs=2)
    assert columns("-600/1500") == columns("lung") == columns("-600,1500")
    tags = {client.get(path, params={"window": w} if w else {}).headers["etag"] for w in (None, "lung", "bone", "0/1")}
    assert len(tags) == 4
    assert client.get(path, params={"window": "-600/1500"}).headers["etag"] in tags, "the same picture"
    # Nothing to see is what one sees: all of it is brighter than white.
    assert set(grey(client.get(path, params={"window": "-3000/10"})).ravel()) == {255}


@pytest.mark.parametrize("window", ["brain", "-600", "40/0", "40/-5", "nan/10", "1e9/5", "40/400/3"])
def test_windows_that_are_none(world: World, client: TestClient, window: str):
    study, _ = send(world, SLICES[:1])
    uid = next(iter(world.db.state(ALPHA).instances))
    answer = client.get(f"/api/studies/{study}/instances/{uid}/image.png", params={"window": window})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert answer.json()["details"]["parameter"] == "window"


def test_a_radiograph_has_no_hounsfield_units(world: World, client: TestClient):
    study, _, uid = world.receive()
    answer = client.get(f"/api/studies/{study}/instances/{uid}/image.png", params={"window": "lung"})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")


def test_each_frame_is_a_picture_of_its_own(world: World, client: TestClient):
    study, _ = send(world, files([enhanced([(0, 0, 0), (0, 0, 60), (0, 0, 120)])]))
    uid = next(iter(world.db.state(ALPHA).instances))
    path = f"/api/studies/{study}/instances/{uid}/image.png"
    shown = [client.get(path, params={"frame": n, "window": "0/2000"}) for n in (1, 2, 3)]
    # The world grows by 5 HU a mm: 60 mm are 300 HU.
    means = [grey(answer).mean() for answer in shown]
    assert np.diff(means) == pytest.approx([300 / 2000 * 255] * 2, abs=1.5)
    assert len({answer.headers["etag"] for answer in shown}) == 3
    assert client.get(path).headers["etag"] == client.get(path, params={"frame": 1}).headers["etag"]
    beyond = client.get(path, params={"frame": 4})
    assert (beyond.status_code, beyond.json()["code"]) == (404, "FRAME_NOT_FOUND")
    assert client.get(path, params={"frame": 0}).status_code == 400


def test_findings_of_an_enhanced_image_are_drawn_on_their_own_frames(world: World, client: TestClient):
    study, _, volume = outlined(world, files([enhanced([(0, 0, z) for z in range(0, 24, 2)])]))
    path = f"/api/studies/{study}/instances/{volume.sop_instance_uids[0]}/image.png"

    def coloured(frame: int) -> bool:
        answer = client.get(path, params={"frame": frame, "boxes": "all"})
        assert answer.status_code == 200
        return Image.open(io.BytesIO(answer.content)).mode == "RGB"

    assert coloured(5)
    assert coloured(6)
    assert not coloured(4)
    assert not coloured(12)
