"""What is switched off does not run, and is named: images by their own modality, series as CT."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.unit.test_pipeline_analyse import FRONTAL_PTX, GOOD, Shelf, chest_model, image, run, view_model
from tests.unit.test_pipeline_series import Analyser, Loads, series, volume

from overread.domain.features import ALL_ON, Feature, Features, Switch
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.domain.series import StackedSeries


def without(feature: Feature, modality: Modality | None = None) -> Features:
    switch = Switch(
        feature=feature,
        modality=modality,
        enabled=False,
        changed_by="admin",
        changed_at=datetime(2026, 1, 1, tzinfo=UTC),
        reason="x",
    )
    return Features(switches={(feature, modality): switch}, otherwise=True)


def ct_series() -> tuple[Loads, list[object]]:
    load = Loads(StackedSeries(volumes=(volume(20),)))
    return load, [series(load)]


def test_everything_on_is_as_before() -> None:
    assert run([image(FRONTAL_PTX)], features=ALL_ON) == run([image(FRONTAL_PTX)])


def test_flagging_off_shows_findings_and_moves_nothing() -> None:
    heard: list[object] = []
    on = run([image(FRONTAL_PTX)])
    off = run([image(FRONTAL_PTX)], features=without(Feature.PRIORITY_FLAGGING, Modality.XRAY), on_triage=heard.append)
    assert on.triage.urgency is Level.CRITICAL
    assert off.findings == on.findings and off.findings
    assert off.triage.urgency is Level.ROUTINE
    assert off.triage.reason == (
        "Routine: priority flagging is switched off for X-ray; findings are shown and change no order"
    )
    assert heard == []
    other = run([image(FRONTAL_PTX)], features=without(Feature.PRIORITY_FLAGGING, Modality.CT))
    assert other.triage == on.triage


def test_quality_off_is_not_assessed() -> None:
    off = run([image(FRONTAL_PTX)], features=without(Feature.QUALITY_ASSESSMENT))
    assert (off.quality.level, off.quality.score, off.quality.issues) == (None, None, ())
    assert off.quality.recommendations == "Image quality was not assessed: quality assessment is switched off."
    assert off.findings == run([image(FRONTAL_PTX)]).findings
    _, listed = ct_series()
    ct = run([], series=listed, analysers=[Analyser()], features=without(Feature.QUALITY_ASSESSMENT, Modality.CT))
    assert ct.quality.recommendations == off.quality.recommendations


def test_measurements_off_there_are_none() -> None:
    load, listed = ct_series()
    off = run([], series=listed, analysers=[Analyser()], features=without(Feature.AUTOMATED_MEASUREMENTS, Modality.CT))
    assert load.calls == 1
    assert off.findings and off.measurements == ()
    assert run([], series=ct_series()[1], analysers=[Analyser()]).measurements


def test_detection_off_for_one_modality_of_a_study_leaves_its_images_alone() -> None:
    model = chest_model(GOOD)
    asked: list[int] = []
    original = model.predict
    model.predict = lambda tensor: (asked.append(1), original(tensor))[1]  # type: ignore[method-assign]
    shelf = Shelf(chest_xray=model, radiograph_view=view_model())
    load, listed = ct_series()
    off = run(
        [image(FRONTAL_PTX)],
        series=listed,
        analysers=[Analyser()],
        shelf=shelf,
        features=without(Feature.ABNORMALITY_DETECTION, Modality.XRAY),
    )
    assert asked == [] and load.calls == 1
    assert [f.finding_type for f in off.findings] == ["lung_nodule"]
    assert [(n.name, n.reason, n.sop_instance_uid) for n in off.not_assessed][:1] == [
        ("Image", "abnormality detection is switched off for X-ray", "1.2.1")
    ]
    load, listed = ct_series()
    off = run(
        [image(FRONTAL_PTX)],
        series=listed,
        analysers=[Analyser()],
        features=without(Feature.ABNORMALITY_DETECTION, Modality.CT),
    )
    assert load.calls == 0
    assert {f.finding_type for f in off.findings} == {"cardiomegaly", "pneumothorax"}
    assert "abnormality detection is switched off for CT" in {n.reason for n in off.not_assessed}


def test_an_image_without_modality_obeys_what_its_pixels_show() -> None:
    off = run([image(FRONTAL_PTX, modality="OT")], features=without(Feature.ABNORMALITY_DETECTION, Modality.XRAY))
    assert off.findings == ()
    assert "abnormality detection is switched off for X-ray" in {n.reason for n in off.not_assessed}
