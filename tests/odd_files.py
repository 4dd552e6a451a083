"""Makes DICOM files for tests: a small radiograph, and everything that can be odd about one.

Nothing is read from disk. Pixels are given by the caller, so that tests can state what has to come out of them.
"""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

CR_CLASS = "1.2.840.10008.5.1.4.1.1.1"
SC_CLASS = "1.2.840.10008.5.1.4.1.1.7"
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"
DEFLATED = "1.2.840.10008.1.2.1.99"


def ramp(rows: int = 16, columns: int = 16, dtype: str = "<u2", start: int = 0, step: int = 1) -> NDArray[Any]:
    """Counting pixels: each value once."""
    return (start + step * np.arange(rows * columns)).astype(dtype).reshape(rows, columns)


def dataset(pixels: NDArray[Any] | None = None, *, remove: tuple[str, ...] = (), **attributes: Any) -> Dataset:
    """A CR image of `pixels` (rows, columns[, 3]): 12 of 16 bits, no window, unless `attributes` says else."""
    ds = Dataset()
    ds.SOPClassUID = CR_CLASS
    ds.SOPInstanceUID = "1.2.826.0.1.3680043.10.999.3"
    ds.SeriesInstanceUID = "1.2.826.0.1.3680043.10.999.2"
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.10.999.1"
    ds.Modality = "CR"
    ds.PatientID = "P1"
    ds.PatientName = "Doe^Jane"
    ds.StudyDate = "20260102"
    ds.StudyTime = "030405"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    if pixels is not None:
        ds.Rows, ds.Columns = pixels.shape[:2]
        ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
        ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
        if pixels.ndim == 3:
            ds.PlanarConfiguration = 0
        bits = pixels.dtype.itemsize * 8
        ds.BitsAllocated = bits
        ds.BitsStored = 12 if bits == 16 else bits
        ds.HighBit = ds.BitsStored - 1
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        ds.PixelData = pixels.tobytes() + b"\x00" * (pixels.nbytes % 2)
        ds["PixelData"].VR = "OB" if bits == 8 else "OW"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
    for keyword in remove:
        delattr(ds, keyword)
    return ds


def to_bytes(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """`ds` as a DICOM file. What pydicom has against its values is not heard: they are meant to be odd."""
    meta = FileMetaDataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CR_CLASS)
        meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID") or "1.2.3"
        meta.TransferSyntaxUID = syntax
        ds.file_meta = meta
        out = io.BytesIO()
        dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def radiograph(pixels: NDArray[Any] | None = None, syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """A CR file; see `dataset`."""
    return to_bytes(dataset(ramp() if pixels is None else pixels, **attributes), syntax)


def compressed(ds: Dataset, syntax: str) -> bytes:
    """`ds`, whose pixels are native, compressed by an encoder of pydicom's."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.compress(syntax, generate_instance_uid=False)
    return to_bytes(ds, syntax)


def lut_item(entries: list[int], first: int, bits: int) -> Sequence:
    """A Modality or VOI LUT Sequence of one table."""
    item = Dataset()
    item.add_new(0x00283002, "US", [len(entries), first & 0xFFFF, bits])
    item.add_new(0x00283006, "OW", np.array(entries, "<u2").tobytes())
    return Sequence([item])


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """One explicit little-endian element, its length field as one likes."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    size = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return head + b"\x00\x00" + struct.pack("<I", size) + value
    return head + struct.pack("<H", size) + value


def nested(depth: int) -> bytes:
    """A radiograph whose header holds sequences of undefined length, `depth` deep."""
    whole = radiograph()
    opened = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + element(0x00081140, b"SQ", b"", 0xFFFFFFFF)
    body = element(0x00081140, b"SQ", b"", 0xFFFFFFFF) + opened * depth
    at = whole.index(b"\x10\x00\x10\x00PN")
    return whole[:at] + body + whole[at:]


def deflate_bomb(size: int) -> bytes:
    """A deflated data set that inflates to `size` bytes."""
    whole = radiograph(syntax=DEFLATED)
    # The data set follows the file meta information, whose length is in its first element.
    start = 132 + 12 + struct.unpack_from("<I", whole, 140)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    chunk = bytes(1 << 20)
    body = b"".join(packer.compress(chunk) for _ in range(size >> 20)) + packer.flush()
    return whole[:start] + body


def declares_two_gigabytes() -> bytes:
    """A file of about 1 kB whose PixelData says that it is 2 GB long."""
    ds = dataset(ramp())
    ds.Rows = ds.Columns = 32768
    whole = to_bytes(ds)
    at = whole.index(b"\xe0\x7f\x10\x00OW")
    return whole[: at + 8] + struct.pack("<I", 0x7FFFFFFE) + whole[at + 12 :]


def zip_of(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP of these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()
