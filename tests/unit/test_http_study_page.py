"""The study page of series and frames, its fragment for one picture, and the repeat list, on fakes."""

from __future__ import annotations

import html
import io
import json
import re
from dataclasses import replace
from typing import Any
from uuid import UUID

import pydicom
import pytest
from tests.app_on_fakes import ALPHA, BETA, World, make_dicom, make_finding, make_outcome, make_world

from overread.domain.analysis import Measurement, QualityAssessment, QualityIssue, QualityLevel
from overread.domain.ids import uuid7
from overread.domain.priority import Level
from overread.domain.study import Sender
from overread.render.outlines import SliceOutline

US = "1.2.840.10008.5.1.4.1.1.3.1"
SQUARE = ((10.0, 12.0), (20.0, 12.0), (20.0, 22.0), (10.0, 22.0))


@pytest.fixture
def world() -> World:
    return make_world()


def _get(world: World, path: str, role: str = "radiologist") -> Any:
    return world.client().get(path, headers={**world.bearer(role), "Accept": "text/html"})


def _cine(world: World, frames: int) -> tuple[UUID, UUID, str]:
    ds = pydicom.dcmread(io.BytesIO(make_dicom(Modality="US", SOPClassUID=US)))
    ds.NumberOfFrames = frames
    ds.PixelData = ds.PixelData * frames
    buffer = io.BytesIO()
    ds.save_as(buffer)
    sender = Sender(channel="dicom", name="US1", address="10.0.0.9")
    filed = world.services.receive.receive(ALPHA, buffer.getvalue(), sender, name="x.dcm")
    assert filed.study_id is not None
    with world.db.unit(ALPHA) as uow:
        row = uow.analyses.latest_for_study(filed.study_id)
    assert row is not None
    return filed.study_id, row.id, str(ds.SOPInstanceUID)


def _outline(uid: str, frame: int, finding: UUID | None, number: int = 1) -> SliceOutline:
    return SliceOutline(
        segment_number=number,
        key="x",
        name="Left lung",
        finding_id=finding,
        sop_instance_uid=uid,
        frame_number=frame,
        slice_index=frame - 1,
        rings=(SQUARE,),
    )


def _scroll(text: str) -> dict[str, Any]:
    found = re.search(r'data-scroll="([^"]*)"', text)
    assert found
    value: dict[str, Any] = json.loads(html.unescape(found[1]))
    return value


def test_a_cine_has_a_picture_for_each_frame_and_opens_where_the_finding_is_outlined(world: World) -> None:
    study, analysis, uid = _cine(world, 5)
    finding = make_finding("pleural_effusion", uid, bounding_box=None)
    world.complete(analysis, make_outcome((finding,), Level.ROUTINE, "x"))
    with world.db.unit(ALPHA) as uow:
        uow.outlines.save(analysis, [_outline(uid, 3, finding.id), _outline(uid, 4, finding.id)])
    text = _get(world, f"/studies/{study}").text
    scroll = _scroll(text)
    assert [(p["frame"], p["text"]) for p in scroll["pictures"]][:2] == [(1, "Frame 1 of 5"), (2, "Frame 2 of 5")]
    assert (scroll["findings"][0]["at"], scroll["findings"][0]["span"]) == (3, [3, 4])
    assert "Frame 3 of 5" in text and "image.png?frame=3" in text
    # Pixel centres are whole numbers in the ring, pixel corners in SVG.
    assert 'd="M10.50 12.50L20.50 12.50L20.50 22.50L10.50 22.50Z"' in text
    assert "Frame 5 of 5" in _get(world, f"/studies/{study}?image=5").text


def test_what_lies_over_one_picture_by_itself(world: World) -> None:
    study, analysis, uid = world.read_study()
    with world.db.unit(ALPHA) as uow:
        uow.outlines.save(analysis, [_outline(uid, 1, None, 2)])
    answer = _get(world, f"/studies/{study}/stage?instance={uid}&analysis={analysis}")
    assert answer.status_code == 200 and "<html" not in answer.text
    assert 'class="box critical" data-finding="1"' in answer.text
    assert 'class="anatomy" data-segment="2"' in answer.text and "<title>Left lung</title>" in answer.text
    bare = _get(world, f"/studies/{study}/stage?instance={uid}").text
    assert "data-finding" not in bare


def test_the_segmentation_can_be_had_before_the_report(world: World) -> None:
    study, analysis, _ = world.read_study()
    assert "DICOM SEG" not in _get(world, f"/studies/{study}").text
    with world.db.unit(ALPHA) as uow:
        uow.analyses.attach_seg(analysis, "seg/1.dcm", 3)
    text = _get(world, f"/studies/{study}").text
    assert "DICOM SR is being written" in text
    assert f'href="/api/image-analysis/{analysis}/seg" download>DICOM SEG</a>' in text


def test_the_fragment_gives_nothing_of_another_study(world: World) -> None:
    study, _, uid = world.read_study()
    _, other, other_uid = world.receive(PatientID="P-2")
    for query in (
        f"instance={other_uid}",
        f"instance={uid}&frame=2",
        f"instance={uid}&analysis={other}",
        f"instance={uid}&analysis=nonsense",
    ):
        answer = _get(world, f"/studies/{study}/stage?{query}")
        assert answer.status_code == 404, query
    beta = world.client().get(f"/studies/{study}/stage?instance={uid}", headers=world.bearer(tenant=BETA))
    assert beta.status_code == 404


def test_sizes_stand_beside_findings_and_the_rest_in_a_table(world: World) -> None:
    study, analysis, uid = world.receive()
    finding = make_finding("lung_nodule", uid, sensitivity=None, specificity=None)
    sizes = (("nodule_longest_diameter", 6.14), ("nodule_perpendicular_diameter", 5.2))

    def measured(kind: str, value: float, unit: str, owner: UUID | None) -> Measurement:
        return Measurement(
            id=uuid7(), measurement_type=kind, value=value, unit=unit, method="voxels <counted>", finding_id=owner
        )

    outcome = replace(
        make_outcome((finding,), Level.ROUTINE, "x"),
        measurements=(
            *(measured(kind, mm, "mm", finding.id) for kind, mm in sizes),
            measured("lung_volume_right", 2100, "mL", None),
            measured("lung_volume_total", 4000, "mL", None),
        ),
    )
    world.complete(analysis, outcome)
    text = _get(world, f"/studies/{study}").text
    assert '<span class="size">6.1 × 5.2 mm</span>' in text
    assert (
        '<th scope="row">Lung volume</th><td title="voxels &lt;counted&gt;">2100 <small>mL</small></td><td></td>'
        in text
    )
    # No measured figures: how sure the method is looks like no probability.
    assert "<meter" not in text and "no measured probability" in text


@pytest.mark.parametrize("window", ["lung", "nonsense"])
def test_a_window_is_for_ct_only(world: World, window: str) -> None:
    study, _, _ = world.receive()
    assert (
        "window="
        not in (re.search(r'id="pixels" src="([^"]*)"', _get(world, f"/studies/{study}?window={window}").text) or [""])[
            1
        ]
    )


def test_the_repeat_list(world: World) -> None:
    assert "No repeat is suggested" in _get(world, "/?repeat=1", "technician").text
    assert 'data-count="0">0<' in _get(world, "/", "technician").text
    poor = QualityAssessment(
        level=QualityLevel.INADEQUATE,
        score=0.2,
        issues=(QualityIssue(type="motion_artifact", severity="severe", description="Edges are smeared."),),
        recommendations="Take the image again.",
        flagged_for_repeat=True,
    )
    for number, quality in enumerate((poor, poor, None)):
        _, analysis, _ = world.receive(PatientID=f"P-{number}", PatientName=f"Name{number}^Given")
        outcome = make_outcome((), Level.ROUTINE, "x")
        world.complete(analysis, outcome if quality is None else replace(outcome, quality=quality))
        world.clock.advance(minutes=5)
    for path in ("/?repeat=1", "/worklist/rows?repeat=1"):
        text = _get(world, path, "technician").text
        names = re.findall(r'<td class="patient"><a [^>]*>([^<]+)</a>', text)
        assert names == ["Name1, Given", "Name0, Given"]
        for said in ("Motion artifact", "severe", "Edges are smeared.", "Take the image again.", "10 min"):
            assert said in text, said
        assert '<span id="repeat-count" data-count="2" hidden>' in text
    text = _get(world, "/", "technician").text
    assert 'data-count="2">2<' in text and text.count("repeat suggested</small>") == 2
    searched = world.client().post("/?repeat=1", data={"q": "nobody"}, headers=world.bearer("technician"))
    assert "No repeat is suggested among these" in searched.text
    assert _get(world, "/worklist?repeat=1").headers["location"] == "/?repeat=1"
    assert 'name="repeat" value="1"' in _get(world, "/?repeat=1").text
