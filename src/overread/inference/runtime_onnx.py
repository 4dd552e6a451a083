"""`pipeline.ports.Model` on ONNX Runtime, in a subprocess with a memory cap that is started again when it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from overread.domain.errors import (
    InferenceError,
    InvalidPackage,
    ModelOutOfMemory,
    ModelStartTimeout,
    ModelTimeout,
    OverreadError,
)
from overread.domain.evidence import InputSpec, ModelIdentity, OutputEvidence
from overread.inference import frames, host
from overread.inference.package import Package
from overread.pipeline.ports import Prediction

log = structlog.get_logger(__name__)

#: Address space of a host. ONNX Runtime reserves about 1 GiB before it does anything.
MEMORY_BYTES = 4 << 30
#: For one image. The first also waits for the process and the weights.
TIMEOUT_S = 30.0
START_TIMEOUT_S = 60.0
#: As much as Linux gives to anybody; an image of a model takes 50 to 600 kB.
_PIPE_BYTES = 1 << 20
#: What a host needs of our environment, and no more: settings hold passwords.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")


def half_of_the_cores() -> int:
    """How many threads run a model if nothing else is said: half of the cores that this process may use.

    The other half decodes, prepares and judges the next image meanwhile. On two cores a second thread takes two fifths
    more processor time for an image and gives it 3 ms earlier; studies that wait are read later for it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2)


def _widen(descriptor: int) -> None:
    """Let a pipe hold a whole image, so that writing one does not wait for the reader again and again (Linux)."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # a smaller limit is set for this user: it works as it is
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class OnnxModel:
    """A package's model. Thread-safe: one image at a time goes through the one process."""

    def __init__(
        self,
        package: Package,
        *,
        threads: int | None = None,
        memory_bytes: int = MEMORY_BYTES,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._package = package
        self._card = package.card
        self._threads = threads or half_of_the_cores()
        self._memory_bytes = memory_bytes
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: _Process | None = None
        #: Once memory ran out: one thread, no arena, no memory plan. Slower, and of the smallest peak.
        self._lean = False

    @property
    def lean(self) -> bool:
        """Whether it runs with as little memory as it can."""
        return self._lean

    @property
    def identity(self) -> ModelIdentity:
        return self._card.identity

    @property
    def input(self) -> InputSpec:
        return self._card.input

    @property
    def outputs(self) -> tuple[OutputEvidence, ...]:
        return tuple(output.evidence for output in self._card.outputs)

    @property
    def pid(self) -> int | None:
        """Process id of the host, None while none runs."""
        return self._process.pid if self._process else None

    def predict(self, tensor: NDArray[np.float32]) -> Prediction:
        """Run on one image, float32 (1, channels, rows, columns).

        Raises `InferenceError` (also for another shape, or numbers that are not finite), `ModelOutOfMemory`,
        `ModelTimeout`; `InvalidPackage` if the model file is not what the card says. After each of them the next call
        works again if it can.

        A batch is one image already. So where memory runs out, the same image is tried once more in a process that
        keeps nothing between steps (`lean`), and the model stays so; only what does not fit then fails, alone.
        """
        spec = self.input
        expected = (1, spec.channels, spec.rows, spec.columns)
        if tensor.shape != expected or tensor.dtype != np.float32:
            raise InferenceError(f"{self.identity} takes float32 {expected}, not {tensor.dtype} {tensor.shape}.")
        names = [self._card.logits_name, *([self._card.maps_name] if self._card.maps_name else [])]
        with self._lock:
            try:
                arrays = self._run(names, tensor)
            except ModelOutOfMemory as error:
                if self._lean:
                    raise
                log.warning("model out of memory, tried again with less", model=str(self.identity), reason=str(error))
                self._lean = True
                arrays = self._run(names, tensor)
        return self._prediction(arrays)

    def _run(self, names: list[str], tensor: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        process = self._started()
        try:
            return process.ask({"op": "run", "outputs": names}, {self.input.name: tensor}, self._timeout_s)[1]
        except OverreadError:
            self._stop()
            raise

    def warm_up(self) -> None:
        """Start the process, load the weights and run once on an empty image, so that the first image does not wait."""
        spec = self.input
        self.predict(np.zeros((1, spec.channels, spec.rows, spec.columns), dtype=np.float32))

    def close(self) -> None:
        """End the process. The next `predict` starts another."""
        with self._lock:
            self._stop()

    def _started(self) -> _Process:
        if self._process is not None and self._process.is_alive():
            return self._process
        self._stop()
        model = np.frombuffer(self._package.read_model(), dtype=np.uint8)
        process = _Process(self._memory_bytes)
        try:
            load = {"op": "load", "threads": 1 if self._lean else self._threads, "lean": self._lean}
            reply, _ = process.ask(load, {"model": model}, START_TIMEOUT_S)
            self._check_names(reply)
        except ModelTimeout as error:
            process.stop()
            raise ModelStartTimeout(f"The model did not start within {START_TIMEOUT_S:g} s.") from error
        except OverreadError:
            process.stop()
            raise
        self._process = process
        return process

    def _check_names(self, reply: dict[str, Any]) -> None:
        missing = {self._card.logits_name, *filter(None, [self._card.maps_name])} - set(reply["outputs"])
        if missing or self.input.name not in {i["name"] for i in reply["inputs"]}:
            raise InvalidPackage(f"The model file of {self.identity} has other inputs or outputs than its card says.")

    def _prediction(self, arrays: dict[str, NDArray[Any]]) -> Prediction:
        count = len(self._card.outputs)
        logits = arrays[self._card.logits_name]
        maps = arrays.get(self._card.maps_name) if self._card.maps_name else None
        if logits.shape != (1, count) or (maps is not None and (maps.ndim != 4 or maps.shape[:2] != (1, count))):
            raise InferenceError(f"{self.identity} answered with another shape than its card says: {logits.shape}.")
        if not np.isfinite(logits).all() or (maps is not None and not np.isfinite(maps).all()):
            raise InferenceError(f"{self.identity} answered with numbers that are not finite.")
        return Prediction(logits=logits[0], maps=None if maps is None else maps[0])

    def _stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None


class _Process:
    """A running host."""

    def __init__(self, memory_bytes: int) -> None:
        environment = {k: os.environ[k] for k in _ENVIRONMENT if k in os.environ}
        environment["MALLOC_ARENA_MAX"] = "2"
        self._child = subprocess.Popen(
            [sys.executable, "-m", "overread.inference.host", "--memory-bytes", str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        if self._child.stdin is None or self._child.stdout is None:
            raise InferenceError("The model's process has no pipes.")
        self._in, self._out = self._child.stdin.fileno(), self._child.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        _widen(self._in)
        _widen(self._out)

    @property
    def pid(self) -> int:
        return self._child.pid

    def is_alive(self) -> bool:
        return self._child.poll() is None

    def ask(
        self, header: dict[str, Any], arrays: frames.Arrays, timeout_s: float
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        deadline = time.monotonic() + timeout_s
        try:
            for piece in frames.pack(header, arrays):
                self._write(memoryview(piece), deadline)
            reply, results = frames.unpack(lambda size: self._read(size, deadline))
        except TimeoutError as e:
            raise ModelTimeout(f"The model did not answer within {timeout_s:g} s.") from e
        except (EOFError, BrokenPipeError, frames.BrokenFrame) as e:
            raise self._death() from e
        if not reply.get("ok"):
            message = str(reply.get("message", ""))
            if reply.get("kind") == host.OUT_OF_MEMORY:
                raise ModelOutOfMemory("The model needs more memory than it may use.", reason=message)
            raise InferenceError(f"The model could not be run: {message}")
        return reply, results

    def stop(self) -> None:
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _death(self) -> InferenceError:
        try:
            code = self._child.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return InferenceError("The model's process answered nonsense.")
        # SIGKILL is the kernel's when memory ends; SIGABRT is what an uncaught std::bad_alloc leads to.
        if code in (-9, -6, host.NO_MEMORY_STATUS):
            return ModelOutOfMemory("The model's process was ended, probably for want of memory.", signal=-code)
        return InferenceError(f"The model's process ended with status {code}.")

    def _write(self, data: memoryview, deadline: float) -> None:
        while data:
            try:
                data = data[os.write(self._in, data) :]
            except BlockingIOError:
                _wait(self._in, select.POLLOUT, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        chunks, left = [], size
        while left:
            try:
                chunk = os.read(self._out, min(left, 1 << 20))
            except BlockingIOError:
                _wait(self._out, select.POLLIN, deadline)
                continue
            if not chunk:
                raise EOFError
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    left = deadline - time.monotonic()
    waiter = select.poll()
    waiter.register(descriptor, event)
    if left <= 0 or not waiter.poll(left * 1000):
        raise TimeoutError
