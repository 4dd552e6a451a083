"""Measure accuracy and speed, compare with the figures that are kept, and write docs/reference/accuracy.md.

Phantoms that were read already are not read again (see --cache), so a run that was stopped goes on where it was. Exit
status 1 if a figure is worse than its kept interval; goals that are not met are listed, and are no failure.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.accuracy import cases, inserted, page, phantoms, records, speed, summary, xray
from benchmarks.accuracy.records import Record, Section

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("xray", "phantoms", "inserted", "speed")


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 after a drop."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--report", type=Path, help="write the page there")
    parser.add_argument("--json", type=Path, help="compare with, then keep the figures there")
    parser.add_argument("--quick", action="store_true", help="two small phantoms: whether it works, not how well")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this (may be given again)")
    parser.add_argument("--cache", type=Path, default=ROOT / ".state" / "prove", help="where read phantoms are kept")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--phantoms", type=int, default=cases.CASES, help="how many")
    options = parser.parse_args(arguments)
    kept = records.load(options.json) if options.json else {}
    now = {part: _section(part, options) for part in PARTS if part in (options.part or PARTS)}
    drops = [
        drop
        for part, section in now.items()
        if part in kept
        for drop in records.dropped(section.figures, kept[part].figures)
    ]
    merged = {part: (now | {p: s for p, s in kept.items() if p not in now}).get(part) for part in PARTS}
    sections = {part: section for part, section in merged.items() if section is not None}
    text = page.page(sections.values())
    if options.report and not drops:
        options.report.write_text(text, encoding="utf-8")
    if options.json and not drops:
        records.save(options.json, sections)
    print(text)
    for drop in drops:
        print(f"DROP: {drop}", file=sys.stderr)
    return 1 if drops else 0


def _section(part: str, options: argparse.Namespace) -> Section:
    data = data_folder()
    match part:
        case "xray":
            figures, how = xray.measure(None if options.quick else data)
            return _made("Chest X-ray, patients that training held back", how, figures)
        case "phantoms":
            plans = cases.quick() if options.quick else cases.plans(options.phantoms)
            results = _all(plans, lambda plan: (phantoms.run, plan, options.cache), options.jobs, "Phantoms")
            return _made("Chest CT, phantoms", _about(results), summary.summarise(results))
        case "inserted":
            series = data / "chest_ct" / "covid001" if data is not None else None
            figures, how = inserted.measure(None if options.quick else series)
            return _made("Chest CT, a real series with disease", how, figures)
        case _:
            real = data / "chest_ct" / "covid001" if data is not None and not options.quick else None
            slices, size = ((40, 80), 128) if options.quick else (speed.SLICES, 512)
            figures = speed.measure(real, slices=slices, size=size)
            return _made("Chest CT, speed", f"A process of its own for each series; {speed.load()}.", figures)


def _made(heading: str, text: str, figures: list[Record]) -> Section:
    return Section(heading=heading, text=text, figures=tuple(figures))


def data_folder() -> Path | None:
    """Where the images for testing lie: OVERREAD_DATA, else ../shared/data; None if there are none."""
    named = os.environ.get("OVERREAD_DATA")
    for path in [Path(named)] if named else [ROOT.parent / "shared" / "data"]:
        if path.is_dir():
            return path
    return None


def _about(results: list[dict[str, Any]]) -> str:
    seeds = sorted(r["seed"] for r in results)
    refused = [f"{r['seed']}: {r['refused']}" for r in results if r["refused"]]
    spacings = [r["spacing_mm"] for r in results]
    thin, thick, fine, coarse = (f(s[axis] for s in spacings) for axis in (0, 1) for f in (min, max))
    text = (
        f"{len(results)} phantoms, seeds {seeds[0]} to {seeds[-1]}, with airways, vessels, fissures, noise and partial "
        f"volume; slices of {thin:.2g} to {thick:.2g} mm, pixels of {fine:.2f} to {coarse:.2f} mm, soft and sharp "
        "kernels, half to one and a half of the dose. In each nodules of 4 to 30 mm, solid and part-solid, free, at a "
        "vessel and at the pleura; every fifth has fluid, free air, consolidation or emphysema of known volume. A "
        "nodule is found if a candidate's middle lies within its radius (at least 3 mm). Amounts are of the scans that "
        "have 20 mL or more; one that was not measured is zero."
    )
    where: dict[str, int] = {}
    for result in results:
        for false in result["false"] if not result["refused"] else ():
            where[false["where"]] = where.get(false["where"], 0) + 1
    if where:
        text += " Candidates that are no nodule lie in: " + ", ".join(
            f"{name.replace('_', ' ')} {count}" for name, count in sorted(where.items(), key=lambda item: -item[1])
        )
        text += "."
    text += f" State of the code: `{results[0]['code']}`."
    return text + (f" Not read: {'; '.join(refused)}." if refused else "")


def _all(plans: Iterable[Any], task: Callable[[Any], tuple[Any, ...]], jobs: int, words: str) -> list[dict[str, Any]]:
    """Run each plan in one of `jobs` processes; results in the order of the plans."""
    todo = list(plans)
    found: dict[int, dict[str, Any]] = {}
    bar = Progress(
        TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    )
    with bar, ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        shown = bar.add_task("", total=len(todo))
        waiting = {pool.submit(*task(plan)): number for number, plan in enumerate(todo)}
        for done in as_completed(waiting):
            found[waiting[done]] = done.result()
            bar.advance(shown)
    if len({result["code"] for result in found.values()}) > 1:
        raise SystemExit("The code changed while it was measured. Run it again: what was rendered is kept.")
    return [found[number] for number in range(len(todo))]


if __name__ == "__main__":
    sys.exit(main())
