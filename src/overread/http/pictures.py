"""PNGs of instances, kept a while: one decoded image is looked at several times in a row."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

#: Bytes of PNG kept in one process.
_ROOM = 96 * 1024 * 1024


class PictureCache:
    """Least recently used ones go first. The key must hold the tenant and what the picture is made from."""

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._used = 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The picture of `key`, made if it is not there. Raises what `make` raises, and keeps nothing then."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        picture = make()
        with self._lock:
            if key not in self._kept and len(picture) <= self._room:
                self._kept[key] = picture
                self._used += len(picture)
                while self._used > self._room:
                    self._used -= len(self._kept.popitem(last=False)[1])
        return picture
