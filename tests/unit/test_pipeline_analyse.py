"""The whole pipeline with small fake models: who is read, who is not and why, and what a failure costs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from overread.domain import catalogue
from overread.domain.analysis import InstanceProblem, TriageDecision
from overread.domain.errors import InferenceError, InvalidDicom, ModelTimeout, OverreadError, UnsupportedTransferSyntax
from overread.domain.evidence import EvidenceBar, InputSpec, Interval, ModelIdentity, OutputEvidence
from overread.domain.image import GreyImage, ImageHeader, ImageInstance
from overread.domain.modality import Modality
from overread.domain.priority import Level
from overread.pipeline.analyse import ImageReading, analyse
from overread.pipeline.ports import Model, Prediction
from overread.pipeline.recognise import Recognition, recognise
from overread.pipeline.triage import TriageTable

SPEC = InputSpec(name="image", rows=32, columns=32, channels=1, mean=(0.0,), std=(1.0,))
VIEWS = ("chest_frontal", "chest_lateral", "other_radiograph", "not_radiograph")
GOOD, WEAK = Interval(value=0.95, low=0.92, high=0.98), Interval(value=0.71, low=0.62, high=0.79)


def output(finding: str, measured: Interval = GOOD, *, show: float = 0.5, raise_: float = 0.7) -> OutputEvidence:
    return OutputEvidence(
        finding=finding,
        threshold_show=show,
        threshold_raise=raise_,
        slope=1.0,
        intercept=0.0,
        sensitivity=measured,
        specificity=measured,
        auc=measured,
        cues_auc=0.6,
        patients=100,
        images=120,
        positives=40,
    )


class FakeModel:
    """Answers by the brightness of the corner pixel: `answers[round(10 * value)]` are its confidences."""

    def __init__(self, name: str, outputs: Sequence[OutputEvidence], answers: Mapping[int, Sequence[float]]) -> None:
        self.identity = ModelIdentity(name=name, version="1.0.0", sha256="ab")
        self.input = SPEC
        self.outputs = tuple(outputs)
        self.answers = answers
        self.error: OverreadError | None = None
        #: Where the evidence lies, for each output; float32 (F, h, w).
        self.maps: NDArray[np.float32] | None = None

    def predict(self, tensor: NDArray[np.float32]) -> Prediction:
        assert tensor.shape == (1, 1, 32, 32)
        assert tensor.dtype == np.float32
        if self.error is not None:
            raise self.error
        key = round(10 * float(np.median(tensor)))
        if key not in self.answers:
            raise InferenceError("The model failed.")
        p = np.asarray(self.answers[key], dtype=np.float64).clip(1e-6, 1 - 1e-6)
        return Prediction(logits=np.log(p / (1 - p)).astype(np.float32), maps=self.maps)


class Shelf:
    def __init__(self, **models: Model) -> None:
        self.models = models

    def find(self, task: str) -> Model | None:
        return self.models.get(task)


def image(kind: int, uid: str = "1.2.1", *, colour: bool = False, side: int = 64, **header: object) -> ImageInstance:
    """An image whose median after stretching to 0..1 is `kind` / 10: what the fake models answer to."""
    pixels = np.full((side, side), kind / 10, dtype=np.float32)
    pixels[0], pixels[-1] = 0.0, 1.0
    fields: dict[str, object] = {"modality": "DX", **header}
    return ImageInstance(
        header=ImageHeader(sop_instance_uid=uid, **fields),  # type: ignore[arg-type]
        image=GreyImage(pixels=pixels, was_colour=colour),
    )


#: By kind of image: 1 frontal with pneumothorax, 2 frontal without, 3 lateral, 4 hand, 5 photograph, 6 uncertain.
FRONTAL_PTX, FRONTAL, LATERAL, HAND, PHOTO, UNSURE = 1, 2, 3, 4, 5, 6


def view_model() -> FakeModel:
    return FakeModel(
        "radiograph_view",
        [output(view, show=0.8) for view in VIEWS],
        {
            FRONTAL_PTX: (0.97, 0.01, 0.01, 0.01),
            FRONTAL: (0.96, 0.02, 0.01, 0.01),
            LATERAL: (0.02, 0.96, 0.01, 0.01),
            HAND: (0.01, 0.01, 0.97, 0.01),
            PHOTO: (0.01, 0.01, 0.01, 0.97),
            UNSURE: (0.61, 0.2, 0.1, 0.09),
        },
    )


def chest_model(measured: Interval = GOOD) -> FakeModel:
    outputs = [output("cardiomegaly", measured), output("pneumothorax", measured), output("pleural_effusion", measured)]
    return FakeModel("chest_xray", outputs, {FRONTAL_PTX: (0.6, 0.91, 0.1), FRONTAL: (0.2, 0.1, 0.3)})


def run(images: Sequence[ImageInstance], problems: Sequence[InstanceProblem] = (), **changes: object):
    shelf = changes.pop("shelf", None) or Shelf(chest_xray=chest_model(), radiograph_view=view_model())
    ids = (UUID(int=n) for n in itertools.count(1))
    return analyse(
        images,
        problems,
        shelf,
        bar=EvidenceBar(),
        triage_table=TriageTable.from_catalogue(),
        new_id=lambda: next(ids),
        **changes,
    )


def reasons(outcome) -> list[str]:
    return [n.reason for n in outcome.not_assessed if not n.finding_type]


def test_a_frontal_chest_radiograph_is_read():
    told: list[TriageDecision] = []
    seen: list[ImageReading] = []
    outcome = run(
        [image(FRONTAL_PTX, body_part="CHEST", view_position="PA")], on_triage=told.append, on_image=seen.append
    )
    assert (outcome.modality, outcome.body_part) == (Modality.XRAY, "CHEST")
    assert [f.finding_type for f in outcome.findings] == ["pneumothorax", "cardiomegaly"], "most pressing first"
    finding = outcome.findings[0]
    assert finding.id == UUID(int=2)
    assert finding.severity is Level.CRITICAL
    assert finding.confidence == pytest.approx(0.91, abs=1e-4)
    assert finding.sop_instance_uid == "1.2.1"
    assert (finding.exploratory, finding.above_raise_threshold) == (False, True)
    assert "sensitivity 0.95 [0.92–0.98]" in finding.description
    assert outcome.assessed == ("cardiomegaly", "pneumothorax", "pleural_effusion")
    assert outcome.triage.urgency is Level.CRITICAL
    assert outcome.triage.reason == "Critical: pneumothorax 0.91 (chest_xray 1.0.0)"
    assert told == [outcome.triage]
    assert [str(m) for m in outcome.models] == ["radiograph_view 1.0.0", "chest_xray 1.0.0"]
    assert outcome.quality.level is not None
    assert outcome.quality.score is not None
    (reading,) = seen
    assert reading.view == "chest_frontal"
    assert reading.scores["pleural_effusion"] == pytest.approx(0.1, abs=1e-4), "also below the threshold"
    assert reading.not_assessed == ""


def test_each_finding_without_a_model_is_not_assessed_by_name():
    outcome = run([image(FRONTAL)])
    named = {n.finding_type: n.reason for n in outcome.not_assessed}
    assert set(named) == {e.key for e in catalogue.CHEST_XRAY} - set(outcome.assessed)
    assert set(named.values()) == {"no installed model looks for it"}
    assert outcome.findings == ()
    assert outcome.triage.reason == "Routine: no finding among those assessed"


def test_an_exploratory_finding_is_shown_and_changes_no_order():
    told: list[TriageDecision] = []
    shelf = Shelf(chest_xray=chest_model(WEAK), radiograph_view=view_model())
    outcome = run([image(FRONTAL_PTX)], shelf=shelf, on_triage=told.append)
    assert outcome.findings[0].exploratory
    assert outcome.findings[0].description.startswith("Pneumothorax, confidence 0.91 (chest_xray 1.0.0). Exploratory")
    assert outcome.triage.urgency is Level.ROUTINE
    assert "is exploratory (sensitivity 0.71 [0.62–0.79] is below the bar of 0.90" in outcome.triage.reason
    assert told == []


def test_a_box_comes_from_the_outputs_own_map():
    model = chest_model()
    model.maps = np.zeros((3, 8, 8), dtype=np.float32)
    model.maps[1, 1:3, 5:7] = 1.0
    outcome = run([image(FRONTAL_PTX, side=128)], shelf=Shelf(chest_xray=model, radiograph_view=view_model()))
    pneumothorax, cardiomegaly = outcome.findings
    box = pneumothorax.bounding_box
    assert box is not None
    assert box.x == pytest.approx(5 * 16, abs=10)
    assert box.y == pytest.approx(1 * 16, abs=10)
    assert cardiomegaly.bounding_box is None, "a flat map says nothing of where"


def test_a_lateral_beside_a_frontal_is_not_assessed_and_all_frontals_are_read():
    outcome = run([image(LATERAL, "1.1"), image(FRONTAL_PTX, "1.2"), image(FRONTAL_PTX, "1.3")])
    (lateral,) = [n for n in outcome.not_assessed if not n.finding_type]
    assert lateral.sop_instance_uid == "1.1"
    assert lateral.reason == "a lateral view, and only frontal chest radiographs are read"
    assert [f.sop_instance_uid for f in outcome.findings] == ["1.2", "1.2", "1.3", "1.3"]
    assert (outcome.modality, outcome.body_part) == (Modality.XRAY, "CHEST")


def test_the_first_critical_triage_is_told_once_and_early():
    order: list[str] = []
    run(
        [image(FRONTAL_PTX, "1.1"), image(FRONTAL_PTX, "1.2")],
        on_triage=lambda d: order.append(f"triage {d.urgency}"),
        on_image=lambda r: order.append(r.sop_instance_uid),
    )
    assert order == ["1.1", "triage critical", "1.2"]


def test_a_study_of_another_modality_has_one_entry():
    outcome = run([image(PHOTO, f"1.{n}", modality="MR", body_part="HEAD") for n in range(3)])
    assert [(n.finding_type, n.name, n.reason) for n in outcome.not_assessed] == [
        ("", "Study", "no analyser is installed for MRI yet")
    ]
    assert (outcome.modality, outcome.body_part) == (Modality.MRI, "HEAD")
    assert outcome.models == ()
    assert outcome.triage.reason == "Routine: not assessed, no analyser is installed for MRI yet"


def test_only_a_lateral_names_every_finding_as_not_assessed():
    outcome = run([image(LATERAL)])
    assert outcome.assessed == ()
    assert len(outcome.not_assessed) == 1 + len(catalogue.CHEST_XRAY)
    assert "no frontal chest radiograph" in outcome.not_assessed[-1].reason


def test_without_a_chest_model_it_says_so():
    outcome = run([image(FRONTAL)], shelf=Shelf(radiograph_view=view_model()))
    assert reasons(outcome) == ["no model is installed for chest radiographs"]
    assert len(outcome.not_assessed) == 1 + len(catalogue.CHEST_XRAY)
    assert outcome.triage.reason == "Routine: not assessed, no model is installed for chest radiographs"


def test_an_image_on_which_the_model_fails_is_a_problem_and_the_rest_is_read():
    outcome = run([image(9, "1.1"), image(FRONTAL_PTX, "1.2")])
    (problem,) = outcome.problems
    assert (problem.instance, problem.code) == ("1.1", "INFERENCE_ERROR")
    assert {f.sop_instance_uid for f in outcome.findings} == {"1.2"}
    beside = run([image(9, "1.1"), image(LATERAL, "1.2")])
    assert beside.not_assessed[-1].reason == "the model failed on the image"


def test_a_model_that_fails_on_every_image_fails_the_study():
    with pytest.raises(InferenceError):
        run([image(9, "1.1"), image(9, "1.2")])


def test_a_transient_error_is_for_the_caller():
    model = chest_model()
    model.error = ModelTimeout("Too slow.")
    with pytest.raises(ModelTimeout):
        run([image(LATERAL), image(FRONTAL)], shelf=Shelf(chest_xray=model, radiograph_view=view_model()))


def test_unreadable_instances_are_kept_beside_the_result():
    problem = InstanceProblem(instance="b.dcm", code="INVALID_DICOM", message="b.dcm is cut off.")
    assert run([image(FRONTAL)], [problem]).problems == (problem,)


def test_a_study_without_a_readable_image_fails_with_the_first_reason():
    problem = InstanceProblem(instance="b.dcm", code="UNSUPPORTED_TRANSFER_SYNTAX", message="b.dcm cannot be decoded.")
    with pytest.raises(UnsupportedTransferSyntax, match=r"only image of the study could not be read: b\.dcm cannot"):
        run([], [problem])
    with pytest.raises(InvalidDicom, match=r"None of the 2 images"):
        run([], [replace(problem, code="SOMETHING_NEW")] * 2)


def test_an_empty_study_is_not_assessed():
    outcome = run([])
    assert outcome.modality is None
    assert outcome.triage.reason == "Routine: not assessed, there is no image in the study"


def test_a_flat_image_is_inadequate():
    flat = image(FRONTAL)
    pixels = np.full((64, 64), 0.5, dtype=np.float32)
    pixels[::2] += 0.01
    shelf = Shelf(chest_xray=chest_model(), radiograph_view=view_model())
    shelf.models["radiograph_view"].answers = dict.fromkeys(range(11), (0.97, 0.01, 0.01, 0.01))  # type: ignore[attr-defined]
    shelf.models["chest_xray"].answers = dict.fromkeys(range(11), (0.1, 0.1, 0.1))  # type: ignore[attr-defined]
    quality = run([replace(flat, image=GreyImage(pixels=pixels))], shelf=shelf).quality
    assert quality.level == "inadequate"
    assert quality.issues[0].type == "inadequate_contrast"
    assert quality.flagged_for_repeat


@pytest.mark.parametrize(
    ("kind", "header", "task", "reason"),
    [
        (FRONTAL, {"modality": None}, "chest_xray", ""),
        (FRONTAL, {"modality": "OT"}, "chest_xray", ""),
        (FRONTAL, {"body_part": "CHEST", "view_position": "AP"}, "chest_xray", ""),
        (
            FRONTAL,
            {"body_part": "HAND"},
            None,
            "tags say modality DX, body part HAND, but its pixels show a frontal chest",
        ),
        (FRONTAL, {"body_part": "CHEST", "view_position": "LL"}, None, "view LL, but its pixels show a frontal view"),
        (FRONTAL, {"body_part": "PORTABLE CHEST", "view_position": "AP SUPINE"}, "chest_xray", ""),
        (FRONTAL, {"body_part": "TORAX", "view_position": "ERECT"}, "chest_xray", ""),
        (FRONTAL, {"series_description": "Chest PA and LAT"}, "chest_xray", ""),
        (FRONTAL, {"series_description": "Chest LAT"}, None, "series Chest LAT, but its pixels show a frontal view"),
        (FRONTAL, {"view_position": "PA", "series_description": "Chest LAT"}, "chest_xray", ""),
        (FRONTAL, {"body_part": "CHEST ABDOMEN"}, None, "body part CHEST ABDOMEN, but its pixels show a frontal chest"),
        (FRONTAL, {"view_position": "LPO"}, None, "view LPO, but its pixels show a frontal view"),
        (LATERAL, {"view_position": "PA"}, None, "view PA, but its pixels show a lateral chest radiograph"),
        (LATERAL, {"modality": None}, None, "a lateral view"),
        (HAND, {"body_part": "HAND"}, None, "a radiograph of HAND, and no analyser is installed for it yet"),
        (HAND, {}, None, "a radiograph of another body part, or a chest that is turned, inverted or cropped"),
        (
            HAND,
            {"body_part": "CHEST", "view_position": "PA"},
            None,
            "its pixels do not show an upright frontal chest",
        ),
        (HAND, {"view_position": "LATERAL"}, None, "a lateral view"),
        (PHOTO, {"modality": None}, None, "it does not look like a radiograph"),
        (PHOTO, {}, None, "its tags say modality DX, but its pixels do not look like a radiograph"),
        (
            UNSURE,
            {"modality": None},
            None,
            "not certain enough that it shows a frontal chest",
        ),
        (FRONTAL, {"modality": "MG"}, None, "no analyser is installed for mammography yet"),
        (FRONTAL, {"modality": "US"}, None, "no analyser is installed for ultrasound yet"),
        (FRONTAL, {"modality": "MR"}, None, "no analyser is installed for MRI yet"),
        (FRONTAL, {"modality": "XA"}, None, "no analyser is installed for modality XA yet"),
        (FRONTAL, {"colour": True}, None, "a colour image"),
        (FRONTAL, {"number_of_frames": 30}, None, "30 frames"),
        (FRONTAL, {"side": 40}, None, "only 40 x 40 pixels"),
    ],
)
def test_pixels_and_tags_decide_together(kind, header, task, reason):
    known = recognise(image(kind, **header), view_model())
    assert known.task == task
    assert reason in known.reason
    if task:
        assert (known.modality, known.body_part, known.view) == (Modality.XRAY, "CHEST", "chest_frontal")
        assert known.reason == ""


def test_without_a_view_model_only_complete_tags_are_believed():
    assert recognise(image(PHOTO, body_part="CHEST", view_position="PA"), None) == Recognition(
        modality=Modality.XRAY, body_part="CHEST", task="chest_xray"
    )
    for tags in ({}, {"body_part": "CHEST"}, {"body_part": "CHEST", "view_position": "PA", "modality": "OT"}):
        known = recognise(image(FRONTAL, **tags), None)
        assert known.task is None
        assert "no model is installed" in known.reason
