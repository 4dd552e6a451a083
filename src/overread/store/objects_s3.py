"""Objects in a bucket: S3, or whatever obstore speaks."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from overread.domain.errors import ObjectMissing, ObjectStoreUnavailable, SetupError
from overread.domain.study import TenantId
from overread.services.object_ports import KeptObject
from overread.store.object_pieces import Pieces, Readable, check_key

if TYPE_CHECKING:
    from obstore.store import ObjectStore as ObstoreStore

#: How long a bucket is tried: a DICOM sender waits meanwhile, and obstore's own 180 s outlast its patience.
PATIENCE: Final[dict[str, Any]] = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}


#: Bytes that are sent whole.
_ONE_REQUEST: Final = 5 << 20


class S3Objects:
    """Objects in a bucket, `PREFIX/tenant/key`, through obstore; `put` returns when the service acknowledged it."""

    def __init__(self, store: ObstoreStore) -> None:
        self._store = store

    @classmethod
    def from_url(cls, url: str, **options: Any) -> S3Objects:
        """`s3://bucket/prefix` (or gs://, az://, memory:///). Credentials come from the usual AWS_* variables.

        Another S3 server: `AWS_ENDPOINT_URL` (and `AWS_ALLOW_HTTP=true` without TLS). `options` are obstore's.
        Raises `SetupError` for a URL that obstore does not know.
        """
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        if not url.startswith("memory:"):
            options = {"retry_config": PATIENCE} | options
        try:
            return cls(from_url(url, **options))
        except (BaseError, ValueError) as error:
            raise SetupError(f"OVERREAD_OBJECTS_URL is not a usable address: {_first_line(error)}.") from error

    def put(self, tenant: TenantId, key: str, data: bytes | memoryview) -> None:
        """Raises `ObjectStoreUnavailable`, `InvalidRequest`."""
        import obstore

        with _translated(key):
            obstore.put(self._store, _s3_path(tenant, key), data)

    def get(self, tenant: TenantId, key: str) -> bytes:
        """Raises `ObjectMissing`, `ObjectStoreUnavailable`, `InvalidRequest`."""
        import obstore

        with _translated(key):
            return bytes(obstore.get(self._store, _s3_path(tenant, key)).bytes())

    def put_pieces(self, tenant: TenantId, key: str, pieces: Pieces) -> None:
        """As `put`, from pieces: in one request if they are short, else part by part (5 MiB), which takes three."""
        import obstore

        stream = map(bytes, pieces())
        first, size = [], 0
        for piece in stream:
            first.append(piece)
            size += len(piece)
            if size > _ONE_REQUEST:
                break
        with _translated(key):
            if size <= _ONE_REQUEST:
                obstore.put(self._store, _s3_path(tenant, key), b"".join(first), use_multipart=False)
            else:
                obstore.put(self._store, _s3_path(tenant, key), itertools.chain(first, stream))

    @contextlib.contextmanager
    def reader(self, tenant: TenantId, key: str) -> Iterator[Readable]:
        """Raises `ObjectMissing`, `ObjectStoreUnavailable`, `InvalidRequest`."""
        import obstore

        with _translated(key):
            yield _Buffered(iter(obstore.get(self._store, _s3_path(tenant, key)).stream(min_chunk_size=1 << 20)))

    def delete(self, tenant: TenantId, key: str) -> None:
        """What is not there is fine. Raises `ObjectStoreUnavailable`, `InvalidRequest`."""
        import obstore

        with contextlib.suppress(ObjectMissing), _translated(key):
            obstore.delete(self._store, _s3_path(tenant, key))

    def list(self, tenant: TenantId, prefix: str = "") -> Iterator[KeptObject]:
        """In any order. Raises `ObjectStoreUnavailable`."""
        import obstore

        folder = prefix.rpartition("/")[0]
        root = f"{tenant.slug}/{folder}/" if folder else f"{tenant.slug}/"  # S3 lists whole folders
        with _translated(tenant.slug):
            for batch in obstore.list(self._store, root, chunk_size=1000):
                for found in batch:
                    key = found["path"].removeprefix(f"{tenant.slug}/")
                    if key.startswith(prefix):
                        modified = found["last_modified"]
                        tag = found.get("e_tag") or str(modified)
                        yield KeptObject(key=key, size=found["size"], modified=modified, tag=tag)

    def move(self, tenant: TenantId, source: str, target: str) -> None:
        """The service copies it; killed in between, both are there.

        Raises `ObjectMissing`, `ObjectStoreUnavailable`, `InvalidRequest`.
        """
        import obstore

        with _translated(source):
            obstore.copy(self._store, _s3_path(tenant, source), _s3_path(tenant, target))
        self.delete(tenant, source)

    def delete_all(self, tenant: TenantId) -> None:
        """Everything of a tenant, for good. Raises `ObjectStoreUnavailable`; it can be done again."""
        import obstore

        with _translated(tenant.slug):
            for batch in obstore.list(self._store, f"{tenant.slug}/", chunk_size=1000):
                obstore.delete(self._store, [found["path"] for found in batch])

    def exists(self, tenant: TenantId, key: str) -> bool:
        """Raises `ObjectStoreUnavailable`, `InvalidRequest`."""
        import obstore

        try:
            with _translated(key):
                obstore.head(self._store, _s3_path(tenant, key))
        except ObjectMissing:
            return False
        return True


class _Buffered:
    """`Readable` of a stream of buffers of any length."""

    def __init__(self, stream: Iterator[Any]) -> None:
        self._stream = stream
        self._left = b""

    def read(self, size: int, /) -> bytes:
        parts, have = [self._left], len(self._left)
        while have < size and (piece := next(self._stream, None)) is not None:
            parts.append(bytes(piece))
            have += len(parts[-1])
        data = b"".join(parts)
        self._left = data[size:]
        return data[:size]


def _s3_path(tenant: TenantId, key: str) -> str:
    return f"{tenant.slug}/{check_key(key)}"


class _translated(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as a verb at its use
    """obstore's errors as ours. Its messages carry a debug dump after the first line, which is left out."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from obstore.exceptions import BaseError

        if isinstance(error, FileNotFoundError):  # obstore raises the built-in one
            raise ObjectMissing(f"The object {self._key} is not in the object store.") from error
        if isinstance(error, (BaseError, OSError)):
            raise ObjectStoreUnavailable(f"The object store cannot be reached: {_first_line(error)}.") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
