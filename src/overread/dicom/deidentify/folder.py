"""A folder, ZIP or file of DICOM to a folder of copies without names, with the report of what was removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from overread.dicom.deidentify.burned_in import TextFinder
from overread.dicom.deidentify.file import deidentify_file
from overread.dicom.deidentify.options import Options
from overread.dicom.deidentify.pseudonyms import Pseudonyms
from overread.dicom.deidentify.report import Exported, ExportReport, Refused
from overread.domain.errors import InvalidRequest, OverreadError, StorageFull
from overread.services.unpack import Member

REPORT_JSON, REPORT_HTML = "deidentification.json", "deidentification.html"
Write = Callable[[PurePosixPath, bytes], None]


def deidentify(
    members: Iterable[Member],
    write: Write,
    *,
    options: Options,
    pseudonyms: Pseudonyms,
    finder: TextFinder | None,
    progress: Callable[[int], None] = lambda _done: None,
    refused: Callable[[str, OverreadError], None] = lambda _name, _error: None,
) -> ExportReport:
    """Write a copy of each DICOM file by `write`, under patient/study/series/instance.dcm; the same instance once.

    A file that cannot be cleaned is in the report's `refused`, and the others go on. `progress` is told how many files
    were read; `refused` gets the true name of a refused one, for the eyes of who started it.
    """
    report = ExportReport(options=options, ocr=finder is not None)
    written: set[PurePosixPath] = set()
    for number, member in enumerate(members, start=1):
        # The error would quote the file's name, and that may be the patient's.
        name = f"File {number}"
        try:
            done = deidentify_file(member.read(), name=name, options=options, pseudonyms=pseudonyms, finder=finder)
        except OverreadError as error:
            if error.details.get("left_out"):
                report.left_out += 1
            else:
                reason = str(error).replace(member.name, name)
                report.refused.append(Refused(number=number, code=error.code, reason=reason))
                refused(member.name, error)
        else:
            path = PurePosixPath(done.patient, done.study_uid, done.series_uid, f"{done.instance_uid}.dcm")
            if path not in written:
                written.add(path)
                write(path, done.data)
                report.add(Exported(number=number, path=path, file=done))
        progress(number)
    return report


class NewFolder:
    """A folder that was empty or not there. Raises `InvalidRequest` if it is neither: no export joins another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InvalidRequest(f"{path} is not empty.", remedy="Name a new folder for the copies.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be made ({error.strerror}).") from error

    def write(self, name: PurePosixPath, data: bytes) -> None:
        """One file, whole or not at all. Raises `StorageFull`."""
        target = self.path / name
        part = target.with_name(target.name + ".part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            part.replace(target)
        except OSError as error:
            raise StorageFull(f"{target.name} cannot be written ({error.strerror}).") from error
