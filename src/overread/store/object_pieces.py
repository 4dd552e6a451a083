"""What object stores have in common: keys, pieces, what can be asked of them.

A key is a path of one to eight segments of `A-Z a-z 0-9 . _ -` joined by `/`, at most 200 characters, and no segment
starts with a dot: so no key can leave its tenant's folder, and none needs escaping on disk or on S3.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from overread.domain.errors import InvalidRequest, ObjectMissing
from overread.domain.study import TenantId
from overread.services.object_ports import KeptObject

MAX_KEY_LENGTH = 200
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*){0,7}")

Pieces = Callable[[], Iterable[bytes | memoryview]]
"""Makes the bytes of an object, piece by piece, from the start at each call. A piece is good until the next one."""


class Readable(Protocol):
    """What an object is read from."""

    def read(self, size: int, /) -> bytes:
        """Exactly `size` bytes, fewer only at the end."""
        ...


class PieceStore(Protocol):
    """Objects in pieces: none need be whole in memory. `LocalObjects` and `S3Objects`."""

    def put_pieces(self, tenant: TenantId, key: str, pieces: Pieces) -> None:
        """Durable when it returns. Raises `StorageFull`, `ObjectStoreUnavailable`, `InvalidRequest`."""
        ...

    def reader(self, tenant: TenantId, key: str) -> contextlib.AbstractContextManager[Readable]:
        """Raises `ObjectMissing`, `ObjectStoreUnavailable`, `InvalidRequest`."""
        ...

    def exists(self, tenant: TenantId, key: str) -> bool: ...

    def delete(self, tenant: TenantId, key: str) -> None:
        """What is not there is fine."""
        ...

    def list(self, tenant: TenantId, prefix: str = "") -> Iterator[KeptObject]:
        """In any order. Raises `ObjectStoreUnavailable`."""
        ...

    def move(self, tenant: TenantId, source: str, target: str) -> None:
        """Raises `ObjectMissing`."""
        ...


def check_key(key: str) -> str:
    """`key` itself. Raises `InvalidRequest` if it could name anything but an object of its tenant."""
    if len(key) > MAX_KEY_LENGTH or not _KEY.fullmatch(key):
        raise InvalidRequest(f"Not an object key: {key[:80]!r}.")
    return key


def move_pieces(store: PieceStore, tenant: TenantId, source: str, target: str) -> None:
    """Copied, then deleted: killed in between, both are there."""

    def pieces() -> Iterator[bytes]:
        with store.reader(tenant, source) as stream:
            while piece := stream.read(1 << 20):
                yield piece

    if not store.exists(tenant, source):
        raise ObjectMissing(f"The object {source} is not in the object store.")
    store.put_pieces(tenant, target, pieces)
    store.delete(tenant, source)
