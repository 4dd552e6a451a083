"""Copies with a set of options and a key: `services.export.Copier`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from overread.dicom.deidentify.burned_in import TextFinder
from overread.dicom.deidentify.folder import REPORT_HTML, REPORT_JSON, Write, deidentify
from overread.dicom.deidentify.ocr import finder
from overread.dicom.deidentify.options import Options
from overread.dicom.deidentify.pseudonyms import KEY_BYTES, Pseudonyms
from overread.dicom.deidentify.report import ExportReport
from overread.domain.errors import OverreadError
from overread.services.unpack import Member


@dataclass(frozen=True, kw_only=True)
class Copier:
    """By default the key is a new one, which is forgotten with the copier."""

    options: Options = field(default_factory=Options)
    key: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES), repr=False)
    #: Opens what sees text in pictures, or None where nothing does.
    words: Callable[[], AbstractContextManager[TextFinder | None]] = finder
    progress: Callable[[int], None] = lambda _done: None
    refused: Callable[[str, OverreadError], None] = lambda _name, _error: None

    def __call__(self, members: Iterable[Member], write: Write) -> ExportReport:
        """Writes the copies, then the reports beside them: there is nothing in them that could not travel along."""
        with self.words() as words:
            report = deidentify(
                members,
                write,
                options=self.options,
                pseudonyms=Pseudonyms(self.key),
                finder=words,
                progress=self.progress,
                refused=self.refused,
            )
        write(PurePosixPath(REPORT_JSON), report.to_json().encode())
        write(PurePosixPath(REPORT_HTML), report.to_html().encode())
        return report
