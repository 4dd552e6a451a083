"""What goes over the wire of files as they are published: without file meta, or with an empty one."""

from __future__ import annotations

import io

import pytest
from pydicom import dcmread
from tests.odd_files import radiograph

from overread.dicom.read import index
from overread.dicom.send import Readable, with_meta


def without(data: bytes, *keywords: str) -> bytes:
    """The file without these elements of its meta; written as they come, without any check."""
    ds = dcmread(io.BytesIO(data))
    for keyword in keywords:
        delattr(ds.file_meta, keyword)
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=False)
    return out.getvalue()


def readable(data: bytes) -> Readable:
    return Readable(name="x.dcm", data=data, record=index(data, name="x.dcm"))


def test_a_whole_file_goes_as_it_is() -> None:
    data = radiograph()
    assert with_meta(readable(data)) is data


@pytest.mark.parametrize(
    "missing", [("MediaStorageSOPInstanceUID",), ("MediaStorageSOPInstanceUID", "MediaStorageSOPClassUID")]
)
def test_missing_meta_is_completed_and_the_data_set_untouched(missing: tuple[str, ...]) -> None:
    whole = radiograph()
    sent = with_meta(readable(without(whole, *missing)))
    before, after = dcmread(io.BytesIO(whole)), dcmread(io.BytesIO(sent))
    assert after.file_meta.MediaStorageSOPInstanceUID == before.SOPInstanceUID
    assert after.file_meta.MediaStorageSOPClassUID == before.SOPClassUID
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    assert sent.endswith(whole[-2000:])
    assert after == before


def test_an_instance_without_a_uid_gets_one_in_the_meta_only() -> None:
    ds = dcmread(io.BytesIO(radiograph()))
    ds.SOPInstanceUID = ""
    ds.file_meta.MediaStorageSOPInstanceUID = ""
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=False)
    sent = dcmread(io.BytesIO(with_meta(readable(out.getvalue()))))
    assert sent.file_meta.MediaStorageSOPInstanceUID.startswith("2.25.")
    assert sent.SOPInstanceUID == ""
