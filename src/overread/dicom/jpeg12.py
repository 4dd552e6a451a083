"""JPEG Extended (process 4) with 12 bits, by GDCM, as a plugin of pydicom's decoder.

pydicom refuses to give such frames to GDCM and to Pillow and wants a GPL library for them. GDCM decodes them as DCMTK
does, pixel for pixel (seen with pydicom's JPEG-lossy.dcm against `dcmdjpeg`; tests hold its figures).
"""

from __future__ import annotations

from typing import Any

import gdcm  # type: ignore[import-untyped]
from pydicom.pixels.decoders.base import JPEGExtended12BitDecoder
from pydicom.uid import JPEGExtended12Bit

PLUGIN = "gdcm12"
#: Asked for by `Decoder.add_plugin`.
DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("python-gdcm",)}


def is_available(uid: str) -> bool:
    """Asked by `Decoder.add_plugin`."""
    return uid == JPEGExtended12Bit


def decode_frame(frame: bytes, runner: Any) -> bytes:
    """The decoded frame of one grey 12-bit JPEG: 16-bit little-endian words."""
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    bits = (runner.bits_allocated, runner.bits_stored, runner.bits_stored - 1, runner.pixel_representation)
    image.SetPixelFormat(gdcm.PixelFormat(runner.samples_per_pixel, *bits))
    decoded = image.GetBuffer()
    if not decoded:
        raise ValueError("GDCM cannot decode the frame")
    # GDCM hands a char* out as str.
    return bytes(decoded.encode("utf-8", "surrogateescape"))


def install() -> None:
    """Make the plugin known to pydicom; again is harmless."""
    if PLUGIN not in JPEGExtended12BitDecoder.available_plugins:
        JPEGExtended12BitDecoder.add_plugin(PLUGIN, ("overread.dicom.jpeg12", "decode_frame"))
