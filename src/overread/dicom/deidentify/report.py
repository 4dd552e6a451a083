"""What an export removed: JSON for programs, HTML for the person who answers for it. Never a value, never a file name.

Names of files and folders are often those of patients, so a source is named by its number in the order of the folder.
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from overread.dicom.deidentify.file import CleanFile
from overread.dicom.deidentify.options import Options

_FILES_SHOWN = 2000
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0}"
    "td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d0d7de}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}code{font-size:.9em}"
)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file that was not exported."""

    #: Its place among all files read, from 1.
    number: int
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was."""

    number: int
    #: Below the export's folder.
    path: PurePosixPath
    file: CleanFile


@dataclass(kw_only=True)
class ExportReport:
    """Grows while files are written; their bytes are not kept."""

    options: Options
    #: Whether OCR was installed.
    ocr: bool
    files: list[dict[str, Any]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    #: No DICOM, no ZIP: read-me files and viewers of a disc.
    left_out: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    emptied: Counter[str] = field(default_factory=Counter)
    patients: set[str] = field(default_factory=set)
    studies: set[str] = field(default_factory=set)
    boxes: int = 0

    @property
    def done(self) -> int:
        """Files written."""
        return len(self.files)

    @property
    def not_done(self) -> int:
        """Files refused."""
        return len(self.refused)

    def add(self, done: Exported) -> None:
        """One file is written."""
        file = done.file
        self.patients.add(file.patient)
        self.studies.add(file.study_uid)
        self.removed.update(file.removed)
        self.replaced.update(file.replaced)
        self.emptied.update(file.emptied)
        self.boxes += len(file.boxes)
        self.files.append(
            {
                "number": done.number,
                "file": str(done.path),
                "removed": file.removed.total(),
                "replaced": file.replaced.total(),
                "emptied": file.emptied.total(),
                "kept": file.kept,
                "removedAttributes": sorted(file.removed),
                "replacedAttributes": sorted(file.replaced),
                "emptiedAttributes": sorted(file.emptied),
                "textLookedFor": file.looked,
                "blackened": [[box.top, box.left, box.bottom, box.right] for box in file.boxes],
            }
        )

    def as_json(self) -> dict[str, Any]:
        """Totals first, then each file."""
        return {
            "standard": "DICOM PS3.15 2026c, Annex E",
            "methods": [{"code": code, "meaning": meaning} for code, meaning in self.options.methods],
            "dates": self.options.dates.value,
            "ocr": self.ocr,
            "totals": {
                "files": len(self.files),
                "refused": len(self.refused),
                "leftOut": self.left_out,
                "patients": len(self.patients),
                "studies": len(self.studies),
                "removed": self.removed.total(),
                "replaced": self.replaced.total(),
                "emptied": self.emptied.total(),
                "kept": sum(file["kept"] for file in self.files),
                "blackened": self.boxes,
            },
            "attributes": {
                "removed": dict(sorted(self.removed.items())),
                "replaced": dict(sorted(self.replaced.items())),
                "emptied": dict(sorted(self.emptied.items())),
            },
            "refusedFiles": [{"number": r.number, "code": r.code, "reason": r.reason} for r in self.refused],
            "files": self.files,
        }

    def to_json(self) -> str:
        """Indented."""
        return json.dumps(self.as_json(), indent=1) + "\n"

    def to_html(self) -> str:
        """One page that needs nothing else."""
        return "\n".join(self._html()) + "\n"

    def _html(self) -> Iterator[str]:
        totals = self.as_json()["totals"]
        yield '<!doctype html><html lang="en"><meta charset="utf-8"><title>De-identified export</title>'
        yield f"<style>{_STYLE}</style>"
        yield "<h1>De-identified export</h1><p>DICOM PS3.15 2026c, Annex E: "
        yield "; ".join(html.escape(meaning) for _, meaning in self.options.methods) + ".</p>"
        yield (
            "<p>Words in pictures were looked for by OCR.</p>"
            if self.ocr
            else ("<p>No OCR was installed: pictures that may carry words were refused.</p>")
        )
        labels = {
            "files": "Files exported",
            "refused": "Files refused",
            "leftOut": "Other files left out",
            "patients": "Patients",
            "studies": "Studies",
            "removed": "Attributes removed",
            "replaced": "Attributes replaced",
            "emptied": "Attributes emptied",
            "kept": "Attributes kept",
            "blackened": "Places blackened",
        }
        rows = [(labels[key], f"{value:,}") for key, value in totals.items()]
        yield from _table(("", "Number"), rows)
        if self.refused:
            yield "<h2>Refused</h2>"
            yield from _table(("Reason", "File"), [(r.reason, str(r.number)) for r in self.refused])
        for title, counts in (
            ("Removed", self.removed),
            ("Replaced", self.replaced),
            ("Emptied", self.emptied),
        ):
            yield f"<h2>{title}</h2>"
            yield from _table(("Attribute", "Times"), [(name, f"{n:,}") for name, n in sorted(counts.items())])
        yield "<h2>Files</h2>"
        shown = self.files[:_FILES_SHOWN]
        words = [(f["file"], f"{f['removed']} / {f['replaced']} / {f['emptied']} / {f['kept']}") for f in shown]
        yield from _table(("File", "Removed / replaced / emptied / kept"), words)
        if len(self.files) > len(shown):
            yield f"<p>And {len(self.files) - len(shown):,} more, in the JSON report.</p>"
        yield "</html>"


def _table(heads: tuple[str, str], rows: list[tuple[str, str]]) -> Iterator[str]:
    yield f'<table><tr><th>{heads[0]}</th><th class="n">{heads[1]}</th></tr>'
    for left, right in rows:
        yield f'<tr><td>{html.escape(left)}</td><td class="n">{html.escape(right)}</td></tr>'
    yield "</table>"
