"""`overread validate` from end to end, with a tiny model package on synthetic images."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score
from tests.unit import onnx_builder as onnx
from tests.unit.card_text import card
from tests.unit.test_cli_analyze import dicom
from typer.testing import CliRunner

from overread import bootstrap
from overread.cli_validate import EPILOG, validate
from overread.cli_validate import score as scoring
from overread.cli_validate.dataset import load
from overread.cli_validate.figures import AGES, age_bands, validation
from overread.cli_validate.labels import for_card
from overread.cli_validate.report import froc_points, points
from overread.domain.errors import InferenceError, ModelTimeout, OverreadError
from overread.domain.evidence import InputSpec, Interval, ModelIdentity, OutputEvidence
from overread.domain.texts import DISCLAIMER
from overread.inference.card import parse
from overread.pipeline.ports import Prediction

#: Images: every third has a pneumothorax; brighter ones get a higher confidence from the toy model.
COUNT = 36


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with "toy", whose logits are the mean of the image and its negative."""
    folder = tmp_path_factory.mktemp("models")
    model = onnx.pooled()
    for version in ("1.2.3", "1.2.4"):
        at = folder / "toy" / version
        at.mkdir(parents=True)
        (at / "model.onnx").write_bytes(model)
        (at / "card.toml").write_text(card(hashlib.sha256(model).hexdigest()).replace("1.2.3", version))
    return folder


@pytest.fixture(autouse=True)
def setting(models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OVERREAD_MODELS", str(models))
    monkeypatch.setenv("OVERREAD_MODEL_THREADS", "1")
    monkeypatch.setattr(bootstrap, "analysers", lambda: ())
    monkeypatch.chdir(tmp_path)


def bright(share: float) -> NDArray[np.uint8]:
    """The left `share` of the image is white."""
    pixels = np.zeros((96, 96), np.uint8)
    pixels[:, : max(2, round(96 * share))] = 255
    pixels[:2] = 0
    return pixels


def shares() -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    there = np.arange(COUNT) % 3 == 0
    return np.where(there, rng.uniform(0.4, 0.95, COUNT), rng.uniform(0.05, 0.7, COUNT))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    lines = ["image,findings,patient,age,sex,view"]
    for i, share in enumerate(shares()):
        Image.fromarray(bright(share)).save(folder / "images" / f"{i:02}.png")
        word = "Pneumothorax|Mass" if i % 3 == 0 else "No Finding"
        lines.append(f"{i:02}.png,{word},{i // 2},{20 + i},{'FM'[i // 2 % 2]},{('PA', 'AP')[i // 18]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    """(exit status, standard output, standard error)."""
    app = typer.Typer()
    app.command(epilog=EPILOG)(validate)
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(done.exception, OverreadError):
        # What `overread.cli.main` does with it.
        return 2, done.stdout, f"{done.exception.code}: {done.exception}"
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def figures(*arguments: object) -> dict[str, Any]:
    status, out, err = run(*arguments, "--no-gate", "--json")
    assert (status, err) == (0, "")
    return dict(json.loads(out))


def test_figures_are_those_of_the_models_confidences(data: Path, tmp_path: Path) -> None:
    result = figures(data, "--model", "toy", "--scores", tmp_path / "s.json", "--rounds", "200")
    assert result["format"] == "overread-validation/1" and result["disclaimer"] == DISCLAIMER
    assert (result["model"]["name"], result["model"]["version"]) == ("toy", "1.2.4")
    assert len(result["model"]["sha256"]) == 64
    assert (result["dataset"]["images"], result["dataset"]["scored"], result["dataset"]["patients"]) == (36, 36, 18)
    assert result["dataset"]["unused_words"] == {"No Finding": 24, "Mass": 12}
    assert result["method"]["drawn_by"] == "patient" and result["method"]["gate"] is False
    found = result["findings"]["pneumothorax"]
    y, kept = np.arange(COUNT) % 3 == 0, json.loads((tmp_path / "s.json").read_text())["confidence"]
    p = np.array([kept[f"{i:02}.png"]["pneumothorax"] for i in range(COUNT)])
    assert (np.argsort(p) == np.argsort(shares())).mean() > 0.8
    assert (found["n"], found["positives"], found["reason"]) == (36, 12, None)
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(y, p))
    assert found["auc"]["low"] < found["auc"]["value"] < found["auc"]["high"]
    assert found["at_show"]["threshold"] == 0.4 and found["at_raise"]["threshold"] == 0.6
    assert found["at_raise"]["sensitivity"]["value"] == pytest.approx((p[y] >= 0.6).mean())
    assert found["at_show"]["specificity"]["value"] == pytest.approx((p[~y] < 0.4).mean())
    assert found["card"]["auc"] == {"value": 0.8, "low": 0.7, "high": 0.9}
    by_cards = [row for row in found["thresholds"] if row["why"].startswith("card")]
    assert [row["threshold"] for row in by_cards] == [0.4, 0.6]
    nine_tenths = next(row for row in found["thresholds"] if "90%" in row["why"])
    assert nine_tenths["specificity"] >= 0.9
    # The toy model sees nothing but brightness, and the report says that brightness does as well.
    assert found["cues"][0]["cue"] in ("mean brightness", "contrast", "bytes per pixel", "brightness of the border")
    assert {c["cue"] for c in found["cues"]} >= {"mean brightness", "age", "view PA", "sex F"}


def test_a_card_is_written_from_the_figures(data: Path, tmp_path: Path) -> None:
    labels = (data / "labels.csv").read_text().replace("Pneumothorax|Mass", "Pneumothorax|Effusion", 5)
    (data / "labels.csv").write_text(labels)
    result = figures(data, "--model", "toy", "--card", tmp_path / "card.toml", "--rounds", "100")
    written = parse((tmp_path / "card.toml").read_text())
    before = parse(card(hashlib.sha256(onnx.pooled()).hexdigest()).replace("1.2.3", "1.2.4"))
    assert written.identity == before.identity and written.input == before.input and written.views == before.views
    for output, old in zip(written.outputs, before.outputs, strict=True):
        found, evidence = result["findings"][output.evidence.finding], output.evidence
        for mine, theirs in (
            (evidence.auc, found["auc"]),
            (evidence.sensitivity, found["at_raise"]["sensitivity"]),
            (evidence.specificity, found["at_raise"]["specificity"]),
        ):
            assert [mine.value, mine.low, mine.high] == pytest.approx(
                [theirs["value"], theirs["low"], theirs["high"]], abs=5e-4
            )
        assert (evidence.images, evidence.positives, evidence.patients) == (36, found["positives"], 18)
        assert (evidence.threshold_show, evidence.slope) == (old.evidence.threshold_show, old.evidence.slope)
        assert {s.by for s in output.subgroups} == {"age", "sex", "view"}
        group = next(s for s in output.subgroups if s.group == "AP")
        assert (group.images, group.positives) == (
            18,
            sum(g["positives"] for g in found["subgroups"] if g["group"] == "AP"),
        )
    assert written.outputs[0].evidence.positives == 12 and written.outputs[1].evidence.positives == 5


def test_a_card_keeps_the_figures_that_the_data_cannot_judge(data: Path, tmp_path: Path) -> None:
    lines = [",".join(line.split(",")[:3]) for line in (data / "labels.csv").read_text().splitlines()]
    (data / "labels.csv").write_text("\n".join(lines))
    figures(data, "--model", "toy", "--card", tmp_path / "card.toml", "--rounds", "100")
    known, unknown = parse((tmp_path / "card.toml").read_text()).outputs
    # Neither age nor sex nor view: the card says so instead of leaving them out.
    assert [(s.by, s.group, s.images) for s in known.subgroups] == [
        (by, "all, or unknown", 36) for by in ("age", "sex", "view")
    ]
    assert unknown.evidence.auc.value == 0.8
    assert "set cannot judge it" in (tmp_path / "card.toml").read_text()


def test_a_finding_that_nobody_has_is_null_with_the_reason(data: Path) -> None:
    found = figures(data, "--model", "toy", "--rounds", "100")["findings"]["pleural_effusion"]
    assert found["auc"] is None and found["reason"] == "no image with it" and found["roc"] == []
    assert found["at_show"]["sensitivity"] is None and found["at_show"]["specificity"]["value"] >= 0


def test_subgroups(data: Path) -> None:
    found = figures(data, "--model", "toy", "--rounds", "100")["findings"]["pneumothorax"]
    groups = {(g["by"], g["group"]): g for g in found["subgroups"]}
    # The age band is that of the toy's card.
    assert set(groups) == {("view", "PA"), ("view", "AP"), ("sex", "F"), ("sex", "M"), ("age", "0-39")}
    assert groups["view", "PA"]["n"] == 18 and groups["view", "PA"]["positives"] == 6
    assert groups["view", "PA"]["auc"] is not None and groups["age", "0-39"]["n"] == 20
    few = figures(data, "--model", "toy", "--images", _names(data, range(9)), "--rounds", "100")
    small = {(g["by"], g["group"]): g for g in few["findings"]["pneumothorax"]["subgroups"]}["sex", "M"]
    assert small["auc"] is None and small["reason"] == "only 2 with it; only 2 without it"


def _names(data: Path, numbers: range) -> Path:
    file = data.parent / "names.txt"
    file.write_text("\n".join(f"{i:02}.png" for i in numbers))
    return file


def test_scores_from_a_file_give_the_same_figures(data: Path, tmp_path: Path) -> None:
    first = figures(data, "--model", "toy@1.2.4", "--scores", tmp_path / "s.json", "--rounds", "100")
    again = figures(data, "--model", tmp_path / "s.json", "--rounds", "100")
    assert again == first


def test_unreadable_images_are_named_and_the_rest_is_measured(data: Path) -> None:
    (data / "images" / "01.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (data / "images" / "02.png").unlink()
    (data / "images" / "04.png").write_bytes(b"no image at all")
    status, out, err = run(data, "--model", "toy", "--no-gate", "--json", "--rounds", "100")
    assert status == 2
    assert [line.split(":")[0] for line in err.splitlines()] == ["INVALID_DICOM", "NOT_FOUND", "INVALID_DICOM"]
    result = json.loads(out)
    assert [p["image"] for p in result["dataset"]["unreadable"]] == ["01.png", "02.png", "04.png"]
    assert result["dataset"]["images"] == 36 and result["findings"]["pneumothorax"]["n"] == 33


def test_dicom_images_are_read(data: Path) -> None:
    for name in ("00.png", "01.png"):
        dicom(data / "images" / name, 60)
    assert figures(data, "--model", "toy", "--rounds", "100")["dataset"]["scored"] == 36


def test_boxes_are_met_where_the_evidence_is(data: Path, tmp_path: Path) -> None:
    wide = {i: round(96 * shares()[i]) for i in (0, 3, 6)}
    lines = ["image,finding,x,y,width,height"]
    lines += [f"{i:02}.png,Pneumothorax,0,2,{width},94" for i, width in wide.items()]
    lines[-1] = "06.png,Pneumothorax,90,90,4,4"
    (data / "boxes.csv").write_text("\n".join(lines) + "\n")
    found = figures(data, "--model", "toy", "--report", tmp_path / "r.html", "--rounds", "100")["findings"]
    boxes = found["pneumothorax"]["boxes"]
    assert (boxes["images"], boxes["boxes"], boxes["positives_without_box"], boxes["least_iou"]) == (3, 3, 9, 0.2)
    assert boxes["hit_rate"]["value"] == pytest.approx(2 / 3) or boxes["hit_rate"]["value"] == pytest.approx(1 / 3)
    assert boxes["froc"][-1]["sensitivity"] == pytest.approx(boxes["hit_rate"]["value"])
    assert "boxes" not in found["pleural_effusion"]
    assert "FROC" in (tmp_path / "r.html").read_text()


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not any(name in ("src", "href") for name, _ in attrs)
        if tag not in ("meta", "line", "circle", "rect", "polyline", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_whole_page(data: Path, tmp_path: Path) -> None:
    (data / "images" / "03.png").write_bytes(b"<script>")
    labels = (data / "labels.csv").read_text()
    (data / "labels.csv").write_text(labels.replace("No Finding", "<b>none</b>").replace("03.png", "03.png", 1))
    status, out, _ = run(data, "--model", "toy", "--no-gate", "--report", tmp_path / "r.html", "--rounds", "100")
    assert status == 2 and "Pneumothorax" in out and " ".join(out.split()).endswith(DISCLAIMER)
    text = (tmp_path / "r.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.open == [] and page.seen.count("svg") >= 2 and "script" not in page.seen
    assert "&lt;b&gt;none&lt;/b&gt;" in text and "03.png" in text and DISCLAIMER in text
    assert "What is confounded" in text and "mean brightness" in text and "nan" not in text
    assert hashlib.sha256(onnx.pooled()).hexdigest() in text


def test_two_are_compared(data: Path, tmp_path: Path) -> None:
    figures(data, "--model", "toy", "--scores", tmp_path / "a.json", "--rounds", "100")
    turned = json.loads((tmp_path / "a.json").read_text())
    turned["model"]["name"] = "turned"
    for said in turned["confidence"].values():
        said["pneumothorax"] = 1 - said["pneumothorax"]
    (tmp_path / "b.json").write_text(json.dumps(turned))
    page = tmp_path / "r.html"
    result = figures(data, "--compare", "toy", tmp_path / "b.json", "--rounds", "100", "--report", page)
    found = result["findings"]["pneumothorax"]
    assert found["auc_a"]["value"] == pytest.approx(1 - found["auc_b"]["value"])
    assert found["difference"]["low"] > 0 and found["delong"]["p"] < 0.01
    test = found["at_raise"]["sensitivity"]
    assert test["only_a_right"] > test["only_b_right"] and 0 < test["p"] <= 1
    assert result["findings"]["pleural_effusion"]["reason"] == "no image with it"
    assert "toy 1.2.4 against turned" in page.read_text()
    status, out, _ = run(data, "--compare", tmp_path / "a.json", tmp_path / "b.json", "--rounds", "100")
    assert status == 0 and "toy 1.2.4 against turned 1.2.4" in out


def test_a_file_of_scores_lacks_an_image(data: Path, tmp_path: Path) -> None:
    names = _names(data, range(30))
    figures(data, "--model", "toy", "--images", names, "--scores", tmp_path / "s.json", "--rounds", "100")
    status, out, err = run(data, "--model", tmp_path / "s.json", "--json", "--rounds", "100")
    assert status == 2 and err.count("is not in the file of scores") == 6
    assert json.loads(out)["findings"]["pneumothorax"]["n"] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give either --model or --compare"),
        (("--model", "toy", "--compare", "toy", "toy"), "Give either --model or --compare"),
        (("--compare", "toy", "toy", "--scores", "s.json"), "--scores and --card go with --model"),
        (("--model", "head_ct"), "There is no model package 'head_ct' and no such path. Installed: chest_xray, "),
        (("--model", "head_ct"), "The data set was understood: set holds 36 images; labels: findings (Mass, No Findin"),
        (("--compare", "toy", "toy", "--card", "c.toml"), "--scores and --card go with --model"),
        (("--model", "toy", "--no-gate", "--images", "few.txt", "--card", "c.toml"), "judges none of the model's"),
        (("--model", "toy@9.9.9"), "There is no model package 'toy@9.9.9'"),
        (("--model", "set"), "has no card.toml"),
        (("--model", "other.json"), "is no file of scores"),
        (("--model", "format.json"), "has the format 'x', not"),
        (("--model", "toy", "--labels", "nowhere.toml"), "The mapping nowhere.toml cannot be read"),
        (("--model", "radiograph_view", "--labels", "views.toml"), "has no label that the model's findings go by"),
        (("--model", "toy", "--no-gate", "--report", "nowhere/r.html"), "Cannot write to nowhere/r.html"),
    ],
)
def test_what_cannot_be_done_is_said(data: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "other.json").write_text("[1]")
    (tmp_path / "few.txt").write_text("01.png\n02.png\n")
    (tmp_path / "format.json").write_text('{"format": "x"}')
    (tmp_path / "views.toml").write_text('[findings]\nchest_frontal = ["frontal"]\n')
    if "views.toml" in arguments:
        (data / "labels.csv").write_text("image,age\n00.png,3\n")
    status, out, err = run(data, *arguments, "--rounds", "100")
    assert (status, out) == (2, "") and message in err


def test_the_view_gate_refuses_what_is_no_chest(data: Path) -> None:
    status, out, err = run(data, "--model", "toy", "--images", _names(data, range(2)))
    assert (status, out) == (2, "")
    assert re.match(r"INVALID_REQUEST: No image of .* could be scored. The view gate refused every image: ", err)


class FakeModel:
    """Answers by how bright the image is: brightness > 0.5 fails, and counts calls."""

    identity = ModelIdentity(name="fake", version="1.0.0")
    input = InputSpec(name="image", rows=32, columns=32, channels=1, mean=(0.0,), std=(1.0,))

    def __init__(self, names: tuple[str, ...], error: OverreadError | None = None) -> None:
        weak = Interval(value=0.7, low=0.6, high=0.8)
        self.outputs = tuple(
            OutputEvidence(
                finding=name, threshold_show=0.5, threshold_raise=0.6, slope=1.0, intercept=0.0, sensitivity=weak,
                specificity=weak, auc=weak, cues_auc=0.5, patients=9, images=9, positives=4,
            )
            for name in names
        )  # fmt: skip
        self.error = error

    def predict(self, tensor: NDArray[np.float32]) -> Prediction:
        if self.error is not None and tensor.mean() > 0.5:
            raise self.error
        # The first output is likely where the image is dark.
        value = 4.0 if tensor.mean() <= 0.5 else -4.0
        return Prediction(logits=np.array([value] + [-value] * (len(self.outputs) - 1), np.float32))


FINDINGS = ("pneumothorax", "pleural_effusion")
VIEWS = ("chest_frontal", "other_radiograph")


def test_refused_images_are_counted_apart(data: Path) -> None:
    toy = parse(card("0" * 64))
    dataset = load(data, for_card(toy, None))
    seen: list[int] = []
    scores = scoring.score(
        dataset, toy, FakeModel(FINDINGS), FakeModel(VIEWS), gate=True, on_image=lambda: seen.append(1)
    )
    refused = {f"{i:02}.png" for i in range(COUNT) if round(96 * shares()[i]) > 50}
    assert len(seen) == COUNT and scores.gated and refused <= set(scores.not_assessed)
    result = validation(dataset, scores, toy, rounds=100)
    found = result["findings"]["pneumothorax"]
    positives = sum(int(name[:2]) % 3 == 0 for name in scores.not_assessed)
    assert found["not_assessed"] == {"n": len(scores.not_assessed), "positives": positives}
    assert found["n"] == COUNT - len(scores.not_assessed) and found["reason"] is None
    # A constant score: every pair is a tie.
    assert found["auc"]["value"] == 0.5 and found["auc"]["low"] < 0.5 < found["auc"]["high"]


def test_a_model_that_fails_on_an_image_or_altogether(data: Path) -> None:
    toy = parse(card("0" * 64))
    dataset = load(data, for_card(toy, None))
    scores = scoring.score(dataset, toy, FakeModel(FINDINGS, InferenceError("It fails.")), None, gate=False)
    assert 0 < len(scores.problems) < COUNT and {p.code for p in scores.problems} == {"INFERENCE_ERROR"}
    with pytest.raises(ModelTimeout):
        scoring.score(dataset, toy, FakeModel(FINDINGS, ModelTimeout("Too slow.")), None, gate=False)


def test_age_bands() -> None:
    assert age_bands(None) == AGES
    toy = card("0" * 64).replace("0-39", "80+", 1)
    assert age_bands(parse(toy)) == ((0.0, 39.0), (80.0, 150.0))
    assert age_bands(parse(toy.replace("0-39", "children"))) == AGES


def test_points_of_a_plot() -> None:
    assert points([(0.0, 0.0), (0.5, 1.0)]) == "0.0,240.0 120.0,0.0"
    curve, end = froc_points([{"false_positives_per_image": 0.25, "sensitivity": 0.5}])
    assert curve == [(0.0, 0.0), (0.25, 0.5)] and end == 0.25
