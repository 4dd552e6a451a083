"""What a user or key may still do, remembered for a few seconds: what is taken away is gone within them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Final, Generic, TypeVar

from overread.services.access.tokens import REMEMBERED_S

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_REMEMBERED_AT_MOST: Final = 20_000


class Missing(Exception):
    """Nothing is remembered: it has to be looked up."""


class ShortMemory(Generic[Key, Value]):
    """A cache with a short time-to-live; the oldest entry goes first."""

    def __init__(self, *, ticks: Callable[[], float] = time.monotonic, seconds: float = REMEMBERED_S) -> None:
        self._ticks = ticks
        self._seconds = seconds
        self._entries: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self._lock = Lock()

    def recall(self, key: Key) -> Value:
        """Raises `Missing`."""
        entry = self._entries.get(key)
        if entry is None or self._ticks() - entry[0] >= self._seconds:
            raise Missing
        return entry[1]

    def get(self, key: Key, look_up: Callable[[], Value]) -> Value:
        """What is remembered, else what `look_up` says; its errors go through."""
        try:
            return self.recall(key)
        except Missing:
            pass
        asked = self._ticks()  # before the question: what changes meanwhile is not remembered for longer
        value = look_up()
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = (asked, value)
            while len(self._entries) > _REMEMBERED_AT_MOST:
                self._entries.popitem(last=False)
        return value

    def forget(self, key: Key) -> None:
        """Ask again next time."""
        with self._lock:
            self._entries.pop(key, None)
