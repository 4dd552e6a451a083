"""Silence for pydicom's warnings, which tell a developer what `overread` tells its user by an error or a value."""

from __future__ import annotations

import logging
import threading
import warnings
from types import TracebackType

# pydicom also logs each of them.
logging.getLogger("pydicom").setLevel(logging.ERROR)


class _Quiet:
    """Silences pydicom's warnings while any thread decodes.

    `warnings.catch_warnings` alone is not safe with threads: the last to leave would restore another one's filters.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._saved is not None:
                self._saved.__exit__(kind, error, trace)
                self._saved = None


quiet = _Quiet()
