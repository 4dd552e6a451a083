"""The machinery of `make prove`: matching, figures, goals, and what counts as a drop. No phantom is rendered here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.accuracy import __main__ as prove
from benchmarks.accuracy import cases, page, phantoms, records, summary, xray
from benchmarks.accuracy.matching import match
from benchmarks.accuracy.records import Record, Section

from overread.phantom.nodules import Contact, Density, Nodule


def test_the_nearest_candidate_within_the_radius_is_the_hit() -> None:
    true = [((0.0, 0.0, 0.0), 10.0), ((20.0, 0.0, 0.0), 4.0), ((50.0, 0.0, 0.0), 8.0)]
    candidates = [(4.9, 0.0, 0.0), (1.0, 0.0, 0.0), (22.9, 0.0, 0.0), (54.1, 0.0, 0.0)]
    found = match(true, candidates)
    # The first candidate lies in the first nodule, which has a nearer one: no hit of its own and no false one either.
    assert found.hits == (1, 2, None) and found.false == (3,)
    assert match([], candidates).false == (0, 1, 2, 3) and match(true, []).hits == (None, None, None)


def test_two_nodules_do_not_share_a_candidate() -> None:
    found = match([((0.0, 0.0, 0.0), 10.0), ((3.0, 0.0, 0.0), 10.0)], [(1.0, 0.0, 0.0)])
    assert found.hits == (0, None)


def record(value: float, low: float, high: float, better: Any = "higher", **more: Any) -> Record:
    return Record(key="k", name="what", value=value, low=low, high=high, n=9, better=better, **more)


@pytest.mark.parametrize(
    ("old", "new", "drops"),
    [
        (record(0.95, 0.90, 0.98), record(0.91, 0.85, 0.95), False),
        (record(0.95, 0.90, 0.98), record(0.89, 0.85, 0.95), True),
        (record(0.95, 0.90, 0.98), record(0.99, 0.97, 1.0), False),
        (record(3.0, 2.0, 4.0, "lower"), record(4.1, 3.0, 5.0, "lower"), True),
        (record(3.0, 2.0, 4.0, "lower"), record(1.0, 0.5, 2.0, "lower"), False),
        (record(30.0, 29.0, 31.0, "told"), record(90.0, 90.0, 90.0, "told"), False),
    ],
)
def test_a_drop_is_a_value_beyond_the_kept_interval_on_the_worse_side(old: Record, new: Record, drops: bool) -> None:
    assert bool(records.dropped([new], [old])) is drops


def test_a_figure_that_is_gone_is_a_drop() -> None:
    assert "is not measured any more" in records.dropped([], [record(0.9, 0.8, 1.0)])[0]


def test_goals() -> None:
    assert record(0.95, 0.9, 1.0, goal=0.95).met is True and record(0.94, 0.9, 1.0, goal=0.95).met is False
    assert (
        record(2.5, 2.0, 3.0, "lower", goal=2.0).met is False and record(2.0, 1.0, 3.0, "lower", goal=2.0).met is True
    )
    assert record(41.0, 41.0, 41.0, "told", goal=40.0, goal_is_most=True).met is False
    assert record(0.9, 0.8, 1.0).met is None


def test_figures_are_kept_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    assert records.load(file) == {}
    kept = {"xray": Section(heading="X", text="How.", figures=(record(0.9, 0.8, 1.0, goal=0.5),))}
    records.save(file, kept)
    assert records.load(file) == kept
    file.write_text('{"format": "x"}')
    with pytest.raises(ValueError, match="has the format 'x'"):
        records.load(file)


def scan(
    seed: int, found: int, false: int, *, fluid: float = 0.0, error: float = 1.0, refused: str = ""
) -> dict[str, Any]:
    """A result with four nodules of 5, 7, 12 and 20 mm, the last `found` of which were found."""
    nodules = [
        {
            "diameter_mm": d, "perpendicular_mm": d - 1, "volume_ml": d**3 / 2000, "density": density,
            "contact": contact, "centre_mm": [0, 0, 0],
            "ours": {"diameter_mm": d * 1.05, "perpendicular_mm": d - 1, "volume_ml": d**3 / 2000 * 1.1}
            if number >= 4 - found else None,
        }
        for number, (d, density, contact) in enumerate(
            ((5.0, "solid", "none"), (7.0, "solid", "vessel"), (12.0, "part_solid", "pleura"), (20.0, "solid", "none"))
        )
    ]  # fmt: skip
    return {
        "seed": seed, "refused": refused, "nodules": nodules,
        "false": [{"where": "consolidation" if i else "right_lung", "diameter_mm": 5.0 + i} for i in range(false)],
        "findings": ["pleural_effusion"] if fluid else [], "true_findings": ["pleural_effusion"] if fluid else [],
        "assessed": ["pleural_effusion"],
        "amounts": {
            "lung_right_ml": [2000.0, 2000.0 * error], "lung_left_ml": [1800.0, 1800.0],
            "pleural_effusion_ml": [fluid, fluid * 0.9], "pneumothorax_ml": [0.0, 0.0],
            "consolidation_ml": [0.0, 0.0], "laa_percent": [1.0, 1.5],
        },
    }  # fmt: skip


def test_figures_of_the_phantoms() -> None:
    results = [scan(1, 3, 0), scan(2, 2, 2, fluid=100.0), scan(3, 4, 1, error=1.04)]
    found = {r.key: r for r in summary.summarise(results)}
    whole = found["phantoms.nodules.sensitivity"]
    assert (whole.value, whole.n, whole.met) == (8 / 9, 9, False) and whole.low < 8 / 9 < whole.high
    assert found["phantoms.nodules.sensitivity.6_8_mm"].value == pytest.approx(2 / 3)
    assert found["phantoms.nodules.sensitivity.4_6_mm"].value == pytest.approx(1 / 3)
    assert found["phantoms.nodules.sensitivity.contact_vessel"].value == pytest.approx(2 / 3)
    assert found["phantoms.nodules.sensitivity.density_part_solid"].value == 1.0
    assert found["phantoms.nodules.false_per_scan"].value == 1.0
    assert found["phantoms.nodules.false_per_scan_outside_disease"].value == pytest.approx(2 / 3)
    assert found["phantoms.nodules.false_per_scan_6_mm"].value == pytest.approx(1 / 3)
    assert found["phantoms.nodules.diameter_mm.within"].value == 1.0
    assert found["phantoms.nodules.diameter_mm.bias"].value == pytest.approx((2 * 0.35 + 3 * 0.6 + 3 * 1.0) / 8)
    assert found["phantoms.nodules.volume_ml.error"].value == pytest.approx(10.0)
    assert found["phantoms.pleural_effusion_ml.error"].value == pytest.approx(10.0)
    assert found["phantoms.pleural_effusion_ml.error"].met is True
    assert found["phantoms.lung_right_ml.within"].value == pytest.approx(2 / 3)
    assert found["phantoms.laa.error"].value == pytest.approx(0.5)
    assert found["phantoms.pleural_effusion.sensitivity"].value == 1.0
    assert found["phantoms.pleural_effusion.specificity"].n == 2
    assert "phantoms.pneumothorax_ml.error" not in found
    refused = {r.key: r for r in summary.summarise([*results, scan(4, 4, 0, refused="it is no chest")])}
    assert refused["phantoms.read"].value == 0.75 and refused["phantoms.nodules.sensitivity"].n == 9


def test_the_page_lists_goals_that_are_missed_first() -> None:
    text = page.page(
        [
            Section(
                heading="One",
                text="How.",
                figures=(record(0.97, 0.9, 1.0, goal=0.95), record(2.5, 2.0, 3.0, "lower", goal=2.0)),
            ),
            Section(heading="Two", text="", figures=()),
        ]
    )
    goals = text.split("## One")[0]
    assert goals.index("**no**") < goals.index("| yes |") and "what ≤ 2.000 | 2.500 [2.000, 3.000]" in goals
    assert "## Two" in text and "Nothing was measured." in text


def test_the_plan_of_the_proof() -> None:
    plans = cases.plans()
    assert [p.seed for p in plans] == list(range(1000, 1040)) and cases.plans()[7] == plans[7]
    nodules = [n for p in plans for n in p.arguments["nodules"]]
    assert {n.density for n in nodules} == {Density.SOLID, Density.PART_SOLID}
    assert {n.contact for n in nodules} == set(Contact)
    assert min(n.diameter_mm for n in nodules) < 5 and max(n.diameter_mm for n in nodules) > 28
    for key in ("effusion_ml", "pneumothorax_ml", "consolidation_ml", "emphysema_percent"):
        assert sum(key in p.arguments for p in plans) == 8
    assert all(p.seed < 100 for p in cases.quick())


def test_one_phantom_from_voxels_to_figures_and_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodule = Nodule(diameter_mm=24.0, centre_mm=None, shape_seed=1)
    plan = cases.Plan(
        seed=31, arguments={"nodules": [nodule], "effusion_ml": 300.0, "dose": 4.0, "size": 128, "slice_mm": 5.0}
    )
    result = phantoms.run(plan, tmp_path)
    assert result["seed"] == 31 and result["refused"] == ""
    assert [n["ours"] is not None for n in result["nodules"]] == [True]
    assert result["nodules"][0]["diameter_mm"] == pytest.approx(24.0, abs=0.3)
    for key in ("lung_right_ml", "lung_left_ml", "pleural_effusion_ml"):
        truth, ours = result["amounts"][key]
        assert ours == pytest.approx(truth, rel=0.15)
    assert result["true_findings"] == ["lung_nodule", "pleural_effusion"]
    assert {r.key: r for r in summary.summarise([result])}["phantoms.nodules.sensitivity"].value == 1.0
    monkeypatch.setattr(phantoms, "measure", None)
    assert phantoms.run(plan, tmp_path) == result


def test_xray_from_the_report_of_training_when_the_data_are_elsewhere() -> None:
    figures, how = xray.measure(None)
    found = {r.key: r for r in figures}
    assert "was not run again" in how and found["chest_xray.pneumothorax.auc"].value == pytest.approx(0.753, abs=1e-3)
    assert "chest_xray.emphysema.auc" not in found


def test_only_a_part_keeps_the_others_and_a_drop_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, report = tmp_path / "a.json", tmp_path / "a.md"
    other = Record(key="phantoms.x", name="x", value=1.0, low=1.0, high=1.0, n=1, better="higher")
    records.save(file, {"phantoms": Section(heading="Phantoms", text="Before.", figures=(other,))})
    arguments = ["--quick", "--part", "xray", "--json", str(file), "--report", str(report)]
    assert prove.main(arguments) == 0
    assert records.load(file)["phantoms"].figures == (other,)
    page_text = report.read_text()
    assert "Pneumothorax: AUC" in page_text and "Before." in page_text
    raw = json.loads(file.read_text())
    for figure in raw["parts"]["xray"]["figures"]:
        if figure["key"] == "chest_xray.pneumothorax.auc":
            figure |= {"value": 0.99, "low": 0.98, "high": 1.0}
    file.write_text(json.dumps(raw))
    before = file.read_text()
    assert prove.main(arguments) == 1
    assert "DROP: chest_xray.pneumothorax.auc: 0.753 is below the interval" in capsys.readouterr().err
    assert file.read_text() == before
