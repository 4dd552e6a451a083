"""The process that a model runs in: `python -m overread.inference.host --memory-bytes N`. Started by `runtime_onnx`.

It reads frames (`overread.inference.frames`) from standard input and answers on standard output. It is given the
model's bytes, opens no file for it, and may not use more memory than it is told. When its input ends, it ends.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from overread.inference import frames

#: What a failure is called in an answer; `runtime_onnx` makes an error of it.
OUT_OF_MEMORY, FAILED = "out_of_memory", "failed"
#: Exit status of a host that cannot even load its libraries, or read a frame, within its memory.
NO_MEMORY_STATUS = 71


class Host:
    """One model, loaded once."""

    def __init__(self) -> None:
        self._session: Any = None
        #: Until the runtime is loaded: its libraries may not fit.
        self._errors: tuple[type[Exception], ...] = (MemoryError, ImportError, OSError)

    def answer(
        self, request: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The reply to one request: `load` (threads, array model) or `run` (outputs, arrays = inputs)."""
        try:
            if request["op"] == "load":
                lean = bool(request.get("lean"))
                return self._load(arrays["model"].tobytes(), int(request["threads"]), lean=lean), {}
            names = [str(name) for name in request["outputs"]]
            results = self._session.run(names, dict(arrays))
            return {"ok": True}, {n: np.asarray(r, dtype=np.float32) for n, r in zip(names, results, strict=True)}
        except self._errors as e:
            kind = OUT_OF_MEMORY if isinstance(e, MemoryError) or _is_memory(str(e)) else FAILED
            return {"ok": False, "kind": kind, "message": str(e)[:500]}, {}

    def _load(self, model: bytes, threads: int, *, lean: bool) -> dict[str, Any]:
        from onnxruntime.capi import onnxruntime_pybind11_state as state
        from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession

        names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException",
                 "EPFail", "NoModel", "NoSuchFile", "ModelLoaded", "EngineError")  # fmt: skip
        known = tuple(getattr(state, n) for n in names if hasattr(state, n))
        self._errors = (MemoryError, ValueError, TypeError, KeyError, RuntimeError, *known)
        options = state.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if lean:  # what is computed is given back at once, instead of kept for the next image
            options.enable_cpu_mem_arena = False
            options.enable_mem_pattern = False
            options.enable_mem_reuse = True
        # A waiting thread that spins takes a core from the rest of the machine; it gains nothing between images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads > 1 else "1")
        self._session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return {
            "ok": True,
            "inputs": [{"name": i.name, "type": i.type} for i in self._session.get_inputs()],
            "outputs": [o.name for o in self._session.get_outputs()],
        }


def _is_memory(message: str) -> bool:
    text = message.lower()
    return any(words in text for words in _NO_MEMORY)


#: What ONNX Runtime, the C++ library, the dynamic loader and the kernel say.
_NO_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "failed to allocate",
    "out of memory",
    "cannot allocate memory",
    "failed to map segment",
)


def reader(stream: BinaryIO) -> frames.Read:
    """Reads exactly as many bytes as asked for; EOFError if the stream ends before."""

    def read(size: int) -> bytes:
        data = stream.read(size)
        if len(data) < size:
            raise EOFError
        return data

    return read


def limit_memory(size: int) -> None:
    """Cap this process's address space, and leave no core file (it would hold pixels of patients)."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory-bytes", type=int, required=True)
    limit_memory(parser.parse_args().memory_bytes)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to standard error, not between the frames
    read = reader(sys.stdin.buffer)
    host = Host()
    while True:
        try:
            request, arrays = frames.unpack(read)
        except EOFError:
            return
        except MemoryError:
            sys.exit(NO_MEMORY_STATUS)
        for piece in frames.pack(*host.answer(request, arrays)):
            replies.write(piece)
        replies.flush()


if __name__ == "__main__":
    main()
