"""The figures as a page of its own (HTML with inline SVG, nothing loaded from elsewhere) and as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from overread.cli_validate.figures import Json

#: Side of a plot's area, in its own units; the page scales it.
SIDE: Final = 240.0
#: A cue is named as confounding from this AUC on, if its interval does not reach 0.5.
STRONG_CUE: Final = 0.6
_UNREADABLE_AT_MOST = 50


def html(result: Json) -> str:
    """The report of a validation or a comparison."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "number": number, "sentence": sentence, "points": points}
    name = "comparison.html.j2" if "a" in result else "validation.html.j2"
    return environment.get_template(name).render(
        r=result,
        side=SIDE,
        confounding=confounding,
        most=_UNREADABLE_AT_MOST,
        froc_points=froc_points,
        bland_altman=bland_altman,
    )


def confounding(finding: Json) -> list[Json]:
    """The cues that tell this finding by themselves, strongest first."""
    return [c for c in finding["cues"] if c["auc"]["value"] >= STRONG_CUE and c["auc"]["low"] > 0.5]


def figure(value: Json | None) -> str:
    """0.758 [0.660, 0.837], or a dash."""
    return "–" if value is None else f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def number(value: float | None, digits: int = 3) -> str:
    """With so many digits, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def sentence(counts: Json) -> str:
    """AP 505, PA 993."""
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def points(pairs: Iterable[Sequence[float]], most_x: float = 1.0) -> str:
    """(x, y) in 0..`most_x` and 0..1 as the points of an SVG polyline; y goes up."""
    return " ".join(f"{x / most_x * SIDE:.1f},{(1 - y) * SIDE:.1f}" for x, y in pairs)


def froc_points(froc: Sequence[Json]) -> tuple[list[tuple[float, float]], float]:
    """The curve, from (0, 0), and the end of its x axis."""
    curve = [(0.0, 0.0), *((f["false_positives_per_image"], f["sensitivity"]) for f in froc)]
    return curve, max(0.1, max(x for x, _ in curve))


def bland_altman(measured: Json) -> Json:
    """Dots, and lines of the bias, both limits and zero, in the units of the plot; and the ends of both axes."""
    pairs = [((float(t) + float(o)) / 2, float(o) - float(t)) for t, o in measured["points"]]
    at = {key: float(measured[key]["value"]) for key in ("bias", "lower", "upper")}
    xs, ys = [x for x, _ in pairs], [*(y for _, y in pairs), *at.values(), 0.0]
    (x0, x1), (y0, y1) = ((low, high if high > low else low + 1.0) for low, high in
                          ((min(v), max(v)) for v in (xs, ys)))  # fmt: skip

    def down(y: float) -> float:
        return round((y1 - y) / (y1 - y0) * SIDE, 1)

    return {
        "dots": [(round((x - x0) / (x1 - x0) * SIDE, 1), down(y)) for x, y in pairs],
        "lines": [
            (down(0.0), "even"),
            (down(at["bias"]), "bias"),
            *((down(at[k]), "limit") for k in ("lower", "upper")),
        ],
        "x": (x0, x1),
        "y": (y0, y1),
    }


# --- terminal -----------------------------------------------------------------------------------------------------


def words(result: Json) -> RenderableType:
    """A table with a row a finding; what could not be used; the disclaimer."""
    parts = list(_compared(result) if "a" in result else _validated(result))
    return Group(*parts, "", escape(result["disclaimer"]))


def _validated(result: Json) -> Iterable[RenderableType]:
    model, data, method = result["model"], result["dataset"], result["method"]
    people = f" of {data['patients']} patients" if data["patients"] is not None else ", patients unknown"
    yield f"[bold]{escape(model['name'])} {escape(model['version'])}[/] on {escape(data['name'])}: "
    yield f"{data['scored']} of {data['images']} images scored{people}; intervals are 95%, by {method['drawn_by']}."
    if result["findings"]:
        yield _findings(result)
    for found in result["findings"].values():
        if "boxes" in found:
            boxes = found["boxes"]
            yield (
                f"Boxes of {escape(found['name'])}: hit rate {figure(boxes['hit_rate'])} at IoU {boxes['least_iou']}, "
                f"{boxes['images']} images."
            )
    yield from _quantities(result)
    if result["not_labelled"]:
        yield f"Not in the labels: {', '.join(result['not_labelled'])}."
    yield from _left_out(data)


def _findings(result: Json) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("Finding", "n", "With it", "AUC", "Sensitivity (show)", "Specificity (show)",
                    "Sensitivity (raise)", "Specificity (raise)"):  # fmt: skip
        table.add_column(heading, overflow="fold")
    for found in result["findings"].values():
        cells = [_cell(found[at], which) for at in ("at_show", "at_raise") for which in ("sensitivity", "specificity")]
        auc = figure(found["auc"]) if found["auc"] is not None else f"– ({found['reason']})"
        table.add_row(escape(found["name"]), str(found["n"]), str(found["positives"]), auc, *cells)
    return table


def _quantities(result: Json) -> Iterable[RenderableType]:
    for key, o in result["outlines"].items():
        far = o["hd95_mm"] or o["hd95_px"]
        unit = "mm" if o["hd95_mm"] else "pixels"
        text = f"Outlines, {key}: n {o['n']}, Dice {figure(o['dice'])}, missed {o['missed']}"
        if far:
            text += f", HD95 {figure(far['mean'])} {unit}"
        if o["without"]:
            text += f"; drawn where there is none: {o['drawn_where_none']} of {o['without']}"
        yield escape(f"{text}.")
    for name, q in result["measurements"].items():
        if q["reason"]:
            yield escape(f"Measured, {name}: n {q['n']}, missed {q['missed']}: {q['reason']}.")
        else:
            limits = f"limits of agreement {number(q['lower']['value'], 2)} to {number(q['upper']['value'], 2)}"
            yield escape(
                f"Measured, {name}: n {q['n']}, missed {q['missed']}, bias {figure(q['bias'])}, {limits}, mean "
                f"absolute error {figure(q['mean_absolute_error'])} {q['unit']}."
            )
    if result["measured"] and not result["measurements"]:
        yield "There are no true values for what was measured: it is told, not judged."
        for image, values in result["measured"].items():
            yield escape(f"{image}: {', '.join(f'{name} {value:.1f}' for name, value in values.items())}")


def _cell(at: Json | None, which: str) -> str:
    return "–" if at is None else figure(at[which])


def _left_out(data: Json) -> Iterable[str]:
    if data["not_assessed"]:
        yield f"Not assessed: {len(data['not_assessed'])} images that the view gate refused (--no-gate scores them)."
    if data["unreadable"]:
        yield f"[red]Unreadable: {len(data['unreadable'])} images.[/]"


def _compared(result: Json) -> Iterable[RenderableType]:
    names = " against ".join(f"{result[s]['name']} {result[s]['version']}" for s in ("a", "b"))
    yield f"[bold]{escape(names)}[/]: {result['scored_by_both']} images; A less B."
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("Finding", "n", "With it", "AUC A", "AUC B", "Difference", "DeLong p",
                    "McNemar p (sensitivity, specificity; at show)"):  # fmt: skip
        table.add_column(heading, overflow="fold")
    for found in result["findings"].values():
        delong: dict[str, Any] = found["delong"] or {"p": None}
        tests = [found["at_show"][which] for which in ("sensitivity", "specificity")]
        table.add_row(
            escape(found["name"]), str(found["n"]), str(found["positives"]), figure(found["auc_a"]),
            figure(found["auc_b"]), figure(found["difference"]), number(delong["p"], 4),
            ", ".join(number(None if test is None else test["p"], 4) for test in tests),
        )  # fmt: skip
    yield table
    yield from _left_out(result["a"]["dataset"])
