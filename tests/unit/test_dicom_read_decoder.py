"""Decoder processes: they may crash, hang and lie, and the caller goes on."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import get_frame
from tests.odd_files import compressed, dataset, ramp

from overread.dicom import decode_child, decoder
from overread.dicom.codestream import frame_size
from overread.dicom.decoder import DecodeError, DecoderPool
from overread.dicom.pipes import read_message, write_message
from overread.dicom.read import image
from overread.domain.errors import PixelDataMismatch

RLE = "1.2.840.10008.1.2.5"
PIXELS = ramp(32, 32)


def encoded(uid: str = RLE) -> tuple[bytes, dict[str, Any]]:
    """One frame and pydicom's options for it."""
    ds = dataset(PIXELS)
    compressed(ds, uid)
    options = {
        "rows": 32,
        "columns": 32,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "planar_configuration": 0,
        "bits_allocated": 16,
        "bits_stored": 12,
        "pixel_representation": 0,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    return get_frame(ds.PixelData, 0, number_of_frames=1), options


FRAME, OPTIONS = encoded()
LIMIT = 4 * 32 * 32


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    found = DecoderPool(size=2, timeout_s=20)
    yield found
    found.close()


def test_decodes(pool: DecoderPool) -> None:
    array, photometric = pool.decode(RLE, FRAME, OPTIONS, LIMIT)
    np.testing.assert_array_equal(array, PIXELS)
    assert photometric == "MONOCHROME2"
    with pytest.raises(DecodeError):
        pool.decode(RLE, b"\xff" * 100, OPTIONS, LIMIT)
    # The same process goes on after it.
    np.testing.assert_array_equal(pool.decode(RLE, FRAME, OPTIONS, LIMIT)[0], PIXELS)


def test_many_threads(pool: DecoderPool) -> None:
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: pool.decode(RLE, FRAME, OPTIONS, LIMIT)[0], range(30)))
    assert all(np.array_equal(array, PIXELS) for array in found)
    assert len(pool._idle) <= 2


def test_process_that_died_while_it_waited(pool: DecoderPool) -> None:
    pool.decode(RLE, FRAME, OPTIONS, LIMIT)
    (waiting,) = pool._idle
    waiting._process.kill()
    waiting._process.wait()
    np.testing.assert_array_equal(pool.decode(RLE, FRAME, OPTIONS, LIMIT)[0], PIXELS)


def test_warm(pool: DecoderPool) -> None:
    pool.warm()
    (waiting,) = pool._idle
    pool.decode(RLE, FRAME, OPTIONS, LIMIT)
    assert pool._idle == [waiting]


@pytest.mark.parametrize(
    ("program", "timeout_s"),
    [
        pytest.param("import os; os.kill(os.getpid(), 11)", 20, id="crash"),
        pytest.param("import time; time.sleep(60)", 0.5, id="hang"),
        pytest.param("import sys; sys.stdout.write('x' * 100)", 20, id="nonsense"),
        pytest.param("import sys; sys.stdout.buffer.write(b'\\x02\\0\\0\\0' + b'\\xff' * 8)", 20, id="too much"),
        pytest.param(
            "import sys; sys.stdout.buffer.write(b'\\x02\\0\\0\\0' + bytes(8) + b'{}')", 20, id="nothing said"
        ),
        pytest.param("import sys; sys.stdout.buffer.write(b'\\x01\\0\\0\\0' + bytes(8) + b'{')", 20, id="no JSON"),
    ],
)
def test_misbehaviour_is_an_error_of_the_frame(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch, program: str, timeout_s: float
) -> None:
    monkeypatch.setattr(decoder, "COMMAND", (sys.executable, "-c", program))
    pool._timeout_s = timeout_s
    begun = time.monotonic()
    with pytest.raises(DecodeError):
        pool.decode(RLE, FRAME, OPTIONS, LIMIT)
    assert time.monotonic() - begun < 15


def test_crash_is_reported_by_name(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "COMMAND", (sys.executable, "-c", "import os; os.abort()"))
    monkeypatch.setattr("overread.dicom.pixels.pool", pool)
    with pytest.raises(PixelDataMismatch, match=r"^a\.dcm has compressed pixels .* crashed"):
        image(compressed(dataset(PIXELS), RLE), name="a.dcm")


def test_decoder_is_told_no_secret(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERREAD_DATABASE_URL", "postgresql://secret")
    pool.warm()
    (process,) = pool._idle
    path = f"/proc/{process._process.pid}/environ"
    if os.path.exists(path):  # noqa: PTH110
        pool.decode(RLE, FRAME, OPTIONS, LIMIT)
        with open(path, "rb") as stream:  # noqa: PTH123
            assert b"OVERREAD" not in stream.read()


# --- the child's side --------------------------------------------------------------------------------------


def test_serve() -> None:
    requests, replies = io.BytesIO(), io.BytesIO()
    write_message(requests, {"uid": RLE, "options": OPTIONS}, FRAME)
    write_message(requests, {"uid": RLE, "options": OPTIONS}, b"no frame")
    requests.seek(0)
    decode_child.serve(requests, replies)
    replies.seek(0)
    head, body = read_message(replies, LIMIT)
    assert head == {"shape": [32, 32], "dtype": "uint16", "photometric": "MONOCHROME2"}
    np.testing.assert_array_equal(np.frombuffer(body, np.uint16).reshape(32, 32), PIXELS)
    assert "error" in read_message(replies, LIMIT)[0]
    with pytest.raises(EOFError):
        read_message(replies, LIMIT)


def test_every_preferred_decoder_is_installed() -> None:
    """What `pixels` calls compressed has a decoder, and the preferred one comes with the product."""
    from pydicom.pixels.decoders.base import get_decoder

    decode_child.jpeg12.install()
    for uid, plugin in decode_child.PREFERRED.items():
        assert plugin in get_decoder(uid).available_plugins, uid


def test_twelve_bit_jpeg_in_the_child() -> None:
    """Stored values as `dcmdjpeg` 3.6.7 gives them; see `jpeg12`."""
    ds = dcmread(str(get_testdata_file("JPEG-lossy.dcm")))
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    options = {**OPTIONS, "rows": 1024, "columns": 256}
    array, _ = decode_child.decode("1.2.840.10008.1.2.4.51", frame, options)
    assert array[420:450:10, 120:124].tolist() == [[81, 73, 73, 80], [56, 56, 58, 63], [33, 34, 35, 38]]
    with pytest.raises(ValueError, match=r"."):
        decode_child.decode("1.2.840.10008.1.2.4.51", b"\xff\xd8\xff\xd9", options)


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        (encoded("1.2.840.10008.1.2.4.80")[0], (32, 32)),
        (encoded("1.2.840.10008.1.2.4.90")[0], (32, 32)),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + encoded("1.2.840.10008.1.2.4.90")[0], (32, 32)),
        (b"\xff\xd8\xff\x01\xff\xff\xe0\0\x04ab\xff\xc0\0\x0b\x08\0\x10\0\x20\x01", (16, 32)),
        (b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\x20\x01", None),
        (b"\xff\xd8\xff\xe0\0\x02" + bytes(20), None),
        (b"\xff\xd8\xff", None),
        (b"\xff\x4f\xff\x51\0", None),
        (FRAME, None),
        (b"", None),
    ],
)
def test_size_that_a_frame_gives_itself(frame: bytes, size: tuple[int, int] | None) -> None:
    assert frame_size(frame) == size


def test_panic_in_rust_is_a_reason() -> None:
    """pylibjpeg-rle panics on a segment that is longer than the frame; PanicException is no Exception."""
    long_run = FRAME[:64] + b"\x7f" + bytes(128) + FRAME[66:] + b"\x7f" * 4000
    try:
        decode_child.decode(RLE, long_run, OPTIONS)
    except ValueError as error:
        assert str(error)
