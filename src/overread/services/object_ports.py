"""Bytes by key, of one tenant each: what `store` keeps in a folder or a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from overread.domain.study import TenantId


class ObjectStore(Protocol):
    """Bytes by key. `put` returns only after they are durable (fsynced, or acknowledged by S3)."""

    def put(self, tenant: TenantId, key: str, data: bytes | memoryview) -> None:
        """Raises `StorageFull`."""
        ...

    def get(self, tenant: TenantId, key: str) -> bytes:
        """Raises `ObjectMissing`."""
        ...

    def exists(self, tenant: TenantId, key: str) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class KeptObject:
    """An object as a listing shows it."""

    key: str
    #: Bytes as they lie there: encrypted ones are a little longer.
    size: int
    #: When it was put last, aware.
    modified: datetime
    #: Another one whenever the object was written again.
    tag: str


class KeptObjects(ObjectStore, Protocol):
    """What retention needs besides."""

    def list(self, tenant: TenantId, prefix: str = "") -> Iterator[KeptObject]:
        """Objects whose key starts with `prefix`, in any order. Raises `StoreUnavailable`."""
        ...

    def delete(self, tenant: TenantId, key: str) -> None:
        """For good when it returns; what is not there is fine. Raises `StoreUnavailable`, `InvalidRequest`."""
        ...

    def move(self, tenant: TenantId, source: str, target: str) -> None:
        """Replaces what lies there. Killed in between, both are there. Raises `ObjectMissing`, `StoreUnavailable`."""
        ...
