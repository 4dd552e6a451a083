"""How quiet the quality checks are on real images, and how well they see images that were spoiled by known amounts.

`python -m benchmarks.quality [--half report|development] [--limit N] [--report FILE]` reads the folders in
`OVERREAD_DATA` (default `../shared/data`). Thresholds were chosen on the development half only; patients (files, where
the patient is unknown) are split by the hash of their name. Prints Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import quality_degrade
from overread.domain.image import FloatImage, GreyImage, ImageHeader, ImageInstance
from overread.domain.modality import Modality
from overread.pipeline.quality import ImageQuality, assess_image

DATA = Path(os.environ.get("OVERREAD_DATA", "../shared/data"))
SETS = {
    "chest_xray": Modality.XRAY,
    "fracture_xray": Modality.XRAY,
    "breast_ultrasound": Modality.ULTRASOUND,
    "fetal_ultrasound": Modality.ULTRASOUND,
    "brain_mri": Modality.MRI,
    "head_ct": Modality.CT,
    "head_ct_slices": Modality.CT,
}
#: What a file's name says of its patient; elsewhere every file stands for itself.
_PATIENT = {"chest_xray": r"^\d+", "head_ct_slices": r"^p\d+", "fetal_ultrasound": r"^\d+"}
GOOD = ("as published", 0.0)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one image."""

    name: str
    amount: float
    quality: ImageQuality
    #: Whether an expected type of issue was named.
    named: bool


def is_development(data_set: str, name: str) -> bool:
    """Whether thresholds may be chosen on this image."""
    found = re.search(_PATIENT.get(data_set, r"^.*$"), name)
    patient = found.group() if found else name
    return hashlib.sha256(f"{data_set}/{patient}".encode()).digest()[0] % 2 == 0


def files(data_set: str, half: str, limit: int) -> list[Path]:
    """A random part of one half of a set, the same every time."""
    every = [
        path
        for path in sorted((DATA / data_set / "images").iterdir())
        if is_development(data_set, path.name) == (half == "development")
    ]
    np.random.default_rng(0).shuffle(every)  # type: ignore[arg-type]
    return every[:limit] if limit else every


def assess(data_set: str, pixels: FloatImage) -> ImageQuality:
    """As the pipeline does it."""
    instance = ImageInstance(header=ImageHeader(sop_instance_uid="1.2"), image=GreyImage(pixels=pixels))
    return assess_image(instance, SETS[data_set], frontal_chest=data_set == "chest_xray")


def rows_of(job: tuple[str, Path, bool]) -> list[Row]:
    """One image as it is and, if asked for, spoiled in every way."""
    data_set, path, spoil = job
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"), np.float32) / 255
    rows = [Row(name=GOOD[0], amount=GOOD[1], quality=assess(data_set, pixels), named=False)]
    for way in quality_degrade.ALL if spoil else ():
        if data_set in way.without or (way.chest and data_set != "chest_xray"):
            continue
        for amount in way.amounts:
            found = assess(data_set, way.apply(pixels, amount))
            named = any(check.type in way.expected for check in found.issues)
            rows.append(Row(name=way.name, amount=amount, quality=found, named=named))
    return rows


def share(hits: int, count: int) -> str:
    """A proportion in % with its 95% interval (Wilson)."""
    if not count:
        return "-"
    z, p = 1.96, hits / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * np.sqrt(p * (1 - p) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    return f"{100 * p:.1f} ({100 * max(middle - half, 0):.1f} to {100 * min(middle + half, 1):.1f})"


def auc(good: Sequence[float], bad: Sequence[float]) -> str:
    """That a spoiled image scores below a good one (ties half), with its 95% interval by bootstrap over images."""
    g, b = np.asarray(good), np.asarray(bad)
    below = (b[:, None] < g).astype(np.float32) + (b[:, None] == g) / 2
    rng = np.random.default_rng(0)
    repeats = [below[rng.integers(0, len(b), len(b))][:, rng.integers(0, len(g), len(g))].mean() for _ in range(200)]
    low, high = np.percentile(repeats, (2.5, 97.5))
    return f"{below.mean():.3f} ({low:.3f} to {high:.3f})"


def quiet_table(results: dict[str, list[Row]]) -> Iterator[str]:
    """Of the images as published."""
    yield "| set | n | flagged for repeat, % | any moderate issue, % | any mild issue, % | most frequent (moderate) |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for data_set, rows in results.items():
        good = [row.quality for row in rows if row.name == GOOD[0]]
        if not good:
            continue
        columns = [share(sum(1 for quality in good if quality.grade >= grade), len(good)) for grade in (3.0, 2.0, 1.0)]
        kinds = [kind for quality in good for kind in {c.type.value for c in quality.issues if c.grade >= 2}]
        often = sorted(set(kinds), key=lambda kind: -kinds.count(kind))[:2]
        named = ", ".join(f"{kind} {kinds.count(kind)}" for kind in often) or "-"
        yield f"| {data_set} | {len(good)} | {' | '.join(columns)} | {named} |"


def spoiled_table(rows: Sequence[Row]) -> Iterator[str]:
    """Of one set."""
    yield "| spoiled by | amount | AUC of the score | flagged for repeat, % | moderate or worse, % | type named, % |"
    yield "| --- | --- | --- | --- | --- | --- |"
    good = [row.quality.score for row in rows if row.name == GOOD[0]]
    for way in quality_degrade.ALL:
        for amount in way.amounts:
            bad = [row for row in rows if (row.name, row.amount) == (way.name, amount)]
            if not bad:
                continue
            n = len(bad)
            yield " | ".join(
                [
                    f"| {way.name}",
                    f"{amount:g} {way.unit}".strip(),
                    auc(good, [row.quality.score for row in bad]),
                    share(sum(row.quality.grade >= 3 for row in bad), n),
                    share(sum(row.quality.grade >= 2 for row in bad), n),
                    share(sum(row.named for row in bad), n) + " |",
                ]
            )


def main() -> int:
    """Exit status 0 whatever the figures are: they are for people to judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("report", "development"), default="report")
    parser.add_argument("--limit", type=int, default=0, help="images of each set; 0 is all")
    parser.add_argument("--spoil", type=int, default=120, help="of these, how many are spoiled")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    results: dict[str, list[Row]] = {}
    with ProcessPoolExecutor(options.workers) as pool:
        for data_set in SETS:
            if not (DATA / data_set / "images").is_dir():
                print(f"{data_set}: not in {DATA}", file=sys.stderr)
                continue
            chosen = files(data_set, options.half, options.limit)
            jobs = [(data_set, path, index < options.spoil) for index, path in enumerate(chosen)]
            results[data_set] = [row for rows in pool.map(rows_of, jobs, chunksize=8) for row in rows]
    lines = [f"Half: {options.half}.", "", *quiet_table(results)]
    for data_set, rows in results.items():
        if options.spoil:
            spoiled = min(options.spoil, sum(row.name == GOOD[0] for row in rows))
            lines += ["", f"### {data_set}, {spoiled} images spoiled", "", *spoiled_table(rows)]
    print("\n".join(lines))
    if options.report:
        options.report.write_text("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
