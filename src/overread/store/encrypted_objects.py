"""Objects encrypted with their tenant's data key. Implements `services.object_ports.ObjectStore` over a plain store.

An object is a header of 32 bytes and chunks of 1 MiB (STREAM: Hoang, Reyhanitabar, Rogaway, Vizár 2015), each sealed
by AES-256-GCM with 16 bytes of tag:

    magic 8 | version of the data key 4 | chunk size 4 | salt 16 || chunk | tag || ... || last chunk | tag

The key of each object is its own: HKDF-SHA256 of the data key with the object's random salt. The nonce is the chunk's
number and whether it is the last; header, tenant and key of the object are authenticated with every chunk. So a chunk
that is changed, missing, doubled, in another place, or of another object or tenant does not open: `ObjectDamaged`.
Nothing is handed out before it is authenticated. Not more than the object and one chunk are in memory.
"""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from overread.domain.errors import ObjectDamaged
from overread.domain.study import TenantId
from overread.services.object_ports import KeptObject
from overread.store.cipher import Ciphers, derive
from overread.store.objects import PieceStore, Readable

MAGIC: Final = b"\x93OVRENC\x01"
_HEADER: Final = struct.Struct(">8sII16s")
_NONCE: Final = struct.Struct(">7xIB")
CHUNK: Final = 1 << 20
_LARGEST_CHUNK: Final = 1 << 24
_TAG: Final = 16


class EncryptedObjects:
    """See the module. Objects from before encryption are read as they are, until the tenant has none of them left."""

    def __init__(self, inner: PieceStore, ciphers: Ciphers) -> None:
        self._inner = inner
        self._ciphers = ciphers

    def put(self, tenant: TenantId, key: str, data: bytes | memoryview) -> None:
        """Raises what the store raises, and `KeyUnavailable`."""
        cipher = self._ciphers.of(tenant)
        version = cipher.keys.active
        header = _HEADER.pack(MAGIC, version, CHUNK, os.urandom(16))
        aead = _aead(cipher.objects(version), header)
        bound = _bound(header, tenant, key)
        view = memoryview(data).cast("B")

        def pieces() -> Iterator[bytes | memoryview]:
            # The same header, key and nonces at each call: the bytes are the same too.
            yield header
            room = _room()
            last = max(0, -(-len(view) // CHUNK) - 1)
            for number in range(last + 1):
                chunk = view[number * CHUNK : (number + 1) * CHUNK]
                sealed = room[: len(chunk) + _TAG]
                aead.encrypt_into(_NONCE.pack(number, number == last), chunk, bound, sealed)
                yield sealed

        self._inner.put_pieces(tenant, key, pieces)

    def get(self, tenant: TenantId, key: str) -> bytes:
        """Raises `ObjectMissing`, `ObjectDamaged`, `KeyUnavailable`, `StoreUnavailable`."""
        with self._inner.reader(tenant, key) as stream:
            header = stream.read(_HEADER.size)
            if not header.startswith(MAGIC):
                return self._plain(tenant, key, header, stream)
            if len(header) < _HEADER.size:
                raise ObjectDamaged(f"The object {key} is cut off.")
            _, version, size, _ = _HEADER.unpack(header)
            if not 0 < size <= _LARGEST_CHUNK:
                raise ObjectDamaged(f"The object {key} has a damaged header.")
            aead = _aead(self._ciphers.for_version(tenant, version).objects(version), header)
            return _opened(stream, aead, size, _bound(header, tenant, key), key)

    def exists(self, tenant: TenantId, key: str) -> bool:
        """Raises `StoreUnavailable`, `InvalidRequest`."""
        return self._inner.exists(tenant, key)

    def delete(self, tenant: TenantId, key: str) -> None:
        """What is not there is fine. Raises `StoreUnavailable`, `InvalidRequest`."""
        self._inner.delete(tenant, key)

    def list(self, tenant: TenantId, prefix: str = "") -> Iterator[KeptObject]:
        """Sizes are those of the encrypted objects. Raises `StoreUnavailable`."""
        return self._inner.list(tenant, prefix)

    def move(self, tenant: TenantId, source: str, target: str) -> None:
        """As it lies there: it is read only under the key that it was put under. Raises `ObjectMissing`."""
        self._inner.move(tenant, source, target)

    def version(self, tenant: TenantId, key: str) -> int:
        """Of the data key that encrypted the object; 0: it is plain. Raises `ObjectMissing`."""
        with self._inner.reader(tenant, key) as stream:
            header = stream.read(_HEADER.size)
        if not header.startswith(MAGIC) or len(header) < _HEADER.size:
            return 0
        version: int = _HEADER.unpack(header)[1]
        return version

    def _plain(self, tenant: TenantId, key: str, head: bytes, stream: Readable) -> bytes:
        if not self._ciphers.of(tenant).keys.plain_readable:
            raise ObjectDamaged(f"The object {key} is not encrypted, and no object of this tenant is left so.")
        found = io.BytesIO()
        found.write(head)
        while piece := stream.read(CHUNK):
            found.write(piece)
        return found.getvalue()


_rooms = threading.local()


def _room() -> memoryview:
    """For one sealed chunk, once for each thread: fresh memory for each object costs more than its encryption."""
    found: memoryview | None = getattr(_rooms, "room", None)
    if found is None or len(found) < CHUNK + _TAG:
        found = _rooms.room = memoryview(bytearray(CHUNK + _TAG))
    return found


def _opened(stream: Readable, aead: AESGCM, size: int, bound: bytes, key: str) -> bytes:
    found = io.BytesIO()  # its value is handed out without a copy
    number, chunk = 0, stream.read(size + _TAG)
    while True:
        following = stream.read(size + _TAG) if len(chunk) == size + _TAG else b""
        try:
            opened = aead.decrypt(_NONCE.pack(number, not following), chunk, bound)
        except (InvalidTag, ValueError) as error:
            raise ObjectDamaged(f"The object {key} is not what was stored (chunk {number + 1}).") from error
        if not following and number == 0:
            return opened
        found.write(opened)
        if not following:
            return found.getvalue()
        number, chunk = number + 1, following


def _aead(secret: bytes, header: bytes) -> AESGCM:
    return AESGCM(derive(secret, "object", salt=header[-16:]))


def _bound(header: bytes, tenant: TenantId, key: str) -> bytes:
    return header + f"{tenant.slug}/{key}".encode()
