"""Words in pictures, read by another process (`ocr_child`): a `burned_in.TextFinder`.

Only with the extra `overread[ocr]`; `finder` is None without it. Its pictures come from strangers' files, so the reader
runs under a memory limit, and its end or a wait of more than two minutes refuses the picture, never the export.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.deidentify.burned_in import Box, Word
from overread.dicom.deidentify.ocr_child import MAX_PICTURE_BYTES
from overread.dicom.pipes import read_message, write_message
from overread.domain.errors import BurnedInText

COMMAND = (sys.executable, "-m", "overread.dicom.deidentify.ocr_child")
_TIMEOUT_S = 120.0
_MAX_REPLY = 1 << 20
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "TMPDIR")


def installed() -> bool:
    """Whether the extra `overread[ocr]` is there."""
    return importlib.util.find_spec("rapidocr_onnxruntime") is not None


@contextmanager
def finder() -> Iterator[OcrProcess | None]:
    """A reader for the length of an export; None if none is installed."""
    if not installed():
        yield None
        return
    reader = OcrProcess()
    try:
        yield reader
    finally:
        reader.close()


class OcrProcess:
    """One reader at a time, started with the first picture and again after it broke."""

    def __init__(self, command: tuple[str, ...] = COMMAND, timeout_s: float = _TIMEOUT_S) -> None:
        self._command = command
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def find(self, picture: NDArray[Any]) -> list[Word]:
        """See `burned_in.TextFinder`. Raises `BurnedInText` if it cannot be told what stands in the picture."""
        if picture.nbytes * (3 if picture.ndim == 2 else 1) > MAX_PICTURE_BYTES:
            raise _unread("it is too large")
        with self._lock:
            try:
                head, body = self._ask(picture)
                rows = json.loads(body)
            except (EOFError, OSError, ValueError) as error:
                self._end()
                raise _unread("the reader broke on it, or took too long") from error
        if head.get("many"):
            raise _unread("it is full of text")
        try:
            return [
                Word(box=Box(top=t, bottom=b, left=le, right=r), text=str(text), confidence=float(confidence))
                for t, b, le, r, text, confidence in rows
            ]
        except (TypeError, ValueError) as error:
            raise _unread("the reader made no sense of it") from error

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ask(self, picture: NDArray[Any]) -> tuple[dict[str, Any], bytes]:
        if self._process is None:
            environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise OSError("the reader has no pipes")
        timer = threading.Timer(self._timeout_s, process.kill)
        timer.start()
        try:
            pixels = np.ascontiguousarray(picture, dtype=np.uint8)
            write_message(process.stdin, {"shape": list(pixels.shape)}, pixels.tobytes())
            return read_message(process.stdout, _MAX_REPLY)
        finally:
            timer.cancel()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                continue
        process.wait()


def _unread(why: str) -> BurnedInText:
    return BurnedInText(f"Nobody can tell whether words are in the picture: {why}.", remedy="Leave this image out.")
