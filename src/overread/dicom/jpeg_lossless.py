"""JPEG Lossless (process 14, selection value 1): pydicom has no encoder for it, so GDCM does it, through files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gdcm  # type: ignore[import-untyped]  # the wheel has no stubs
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLosslessSV1


def encode_jpeg_lossless(dataset: Dataset) -> None:
    """Replace the native pixels of ``dataset`` (with its file meta information, Explicit VR Little Endian) in place.

    Raises ValueError when GDCM refuses the pixels.
    """
    with tempfile.TemporaryDirectory(prefix="overread-") as folder:
        source, target = Path(folder, "in.dcm"), Path(folder, "out.dcm")
        dataset.save_as(source, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        if not reader.Read():
            raise ValueError("GDCM could not read these pixels")
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise ValueError("GDCM could not encode these pixels as JPEG Lossless")
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise ValueError("GDCM could not write JPEG Lossless")
        encoded = dcmread(target)
    dataset.PixelData = encoded.PixelData
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
