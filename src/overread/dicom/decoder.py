"""Decoding of compressed frames by processes that may crash: see `decode_child` for why.

A process is started when one is needed (0.3 s, once) and kept; as many as there are threads that decode at the same
time, at most one for each core. They end with this process.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from overread.dicom.pipes import read_message, write_message

#: A frame that takes longer was made to. The largest take 3 s.
TIMEOUT_S = 60.0
COMMAND = (sys.executable, "-P", "-m", "overread.dicom.decode_child")
#: What a decoder is told of the environment: no password, no token, no database.
_ENVIRONMENT = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "LANG",
)


class DecodeError(Exception):
    """The frame cannot be decoded; `str` says why."""


class DecoderPool:
    """Decoder processes, one for each call at a time. Safe to share between threads and across a fork."""

    def __init__(self, size: int | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._size = size or os.cpu_count() or 1
        self._timeout_s = timeout_s
        self.forget()

    def forget(self) -> None:
        """Start anew without touching any process: after a fork they are the parent's."""
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(self._size)
        self._idle: list[_Process] = []

    def decode(self, uid: str, frame: bytes, options: Mapping[str, Any], limit: int) -> tuple[NDArray[Any], str]:
        """As `decode_child.decode`, at most `limit` bytes of array.

        Raises `DecodeError`, also if the decoder crashed or took longer than allowed.
        """
        request = {"uid": uid, "options": dict(options)}
        with self._room:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            # One that waited may have been ended meanwhile, by no fault of this frame: a fresh one decides.
            reply = self._ask(process, request, frame, limit) if process else None
            reply = reply or self._ask(_Process(), request, frame, limit)
        if reply is None:
            raise DecodeError("the decoder crashed on it, or took too long")
        found, body = reply
        if "error" in found:
            raise DecodeError(str(found["error"]))
        try:
            return np.frombuffer(body, str(found["dtype"])).reshape(found["shape"]), str(found["photometric"])
        except (KeyError, TypeError, ValueError) as error:
            raise DecodeError("the decoder made no sense of it") from error

    def _ask(
        self, process: _Process, request: Mapping[str, Any], frame: bytes, limit: int
    ) -> tuple[dict[str, Any], bytes] | None:
        """The reply of `process`, which then waits for the next frame; None if it crashed, and it is ended."""
        try:
            reply = process.ask(request, frame, limit, self._timeout_s)
        except (EOFError, OSError, ValueError):
            process.end()
            return None
        with self._lock:
            self._idle.append(process)
        return reply

    def warm(self) -> None:
        """Start a process now, so that the first image need not wait for it. Returns before it is ready."""
        with self._lock:
            if not self._idle:
                self._idle.append(_Process())

    def close(self) -> None:
        """End all idle processes."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()


class _Process:
    """One decoder process."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        # One thread each: as many frames at once as there are cores, and no pool of threads under a memory limit.
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def ask(self, head: Mapping[str, Any], body: bytes, limit: int, timeout_s: float) -> tuple[dict[str, Any], bytes]:
        """Send a request and wait for its reply. Raises `EOFError` or `OSError` if the process is gone."""
        requests, replies = self._pipes()
        # A reply longer than a pipe holds is read while it is written, so only this side's waiting needs an end.
        timer = threading.Timer(timeout_s, self._process.kill)
        timer.start()
        try:
            write_message(requests, head, body)
            return read_message(replies, limit)
        finally:
            timer.cancel()

    def end(self) -> None:
        """End the process and wait for it."""
        self._process.kill()
        for pipe in self._pipes():
            try:
                pipe.close()
            except OSError:
                continue
        self._process.wait()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._process.stdin is None or self._process.stdout is None:
            raise OSError("the decoder has no pipes")
        return self._process.stdin, self._process.stdout


pool = DecoderPool()
atexit.register(pool.close)
os.register_at_fork(after_in_child=pool.forget)
