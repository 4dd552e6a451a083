"""Objects on disk: unreadable without the key, and every way to tamper with them is noticed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.domain.errors import KeyUnavailable, ObjectDamaged, ObjectMissing
from overread.domain.study import TenantId
from overread.services.values import TenantKeys
from overread.store import encrypted_objects
from overread.store.cipher import Ciphers
from overread.store.encrypted_objects import CHUNK, EncryptedObjects
from overread.store.objects import LocalObjects, S3Objects

ALPHA, BETA = TenantId(slug="alpha"), TenantId(slug="beta")


class Ring:
    """Keys that a test chooses."""

    def __init__(self) -> None:
        self.held = {tenant: self.made(tenant, {1: os.urandom(32)}) for tenant in (ALPHA, BETA)}

    @staticmethod
    def made(tenant: TenantId, data: dict[int, bytes], *, plain: bool = False) -> TenantKeys:
        return TenantKeys(tenant=tenant, active=max(data), data=data, index=b"i" * 32, plain_readable=plain)

    def keys(self, tenant: TenantId) -> TenantKeys:
        return self.held[tenant]

    reload = keys


@pytest.fixture
def ring() -> Ring:
    return Ring()


@pytest.fixture
def plain(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "objects")


@pytest.fixture
def objects(plain: LocalObjects, ring: Ring) -> EncryptedObjects:
    return EncryptedObjects(plain, Ciphers(ring))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Chunks of 64 bytes, so that many chunks are few bytes."""
    monkeypatch.setattr(encrypted_objects, "CHUNK", 64)
    yield 64


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_comes_back_as_it_went_in(objects: EncryptedObjects, plain: LocalObjects, size: int) -> None:
    data = os.urandom(size)
    objects.put(ALPHA, "a/b.dcm", memoryview(data))
    assert objects.get(ALPHA, "a/b.dcm") == data
    stored = plain.get(ALPHA, "a/b.dcm")
    assert len(stored) == 32 + size + 16 * max(1, -(-size // CHUNK))
    assert size < 16 or data[:16] not in stored


def test_over_an_object_store_too(ring: Ring) -> None:
    objects = EncryptedObjects(S3Objects.from_url("memory:///"), Ciphers(ring))
    data = os.urandom(7 * CHUNK + 3)
    objects.put(ALPHA, "a.dcm", data)
    assert objects.get(ALPHA, "a.dcm") == data
    assert objects.version(ALPHA, "a.dcm") == 1
    objects.delete(ALPHA, "a.dcm")
    objects.delete(ALPHA, "a.dcm")
    with pytest.raises(ObjectMissing):
        objects.get(ALPHA, "a.dcm")


def test_twice_the_same_key_is_the_newer(objects: EncryptedObjects) -> None:
    objects.put(ALPHA, "k", b"first")
    objects.put(ALPHA, "k", b"second")
    assert objects.get(ALPHA, "k") == b"second"


def test_equal_objects_do_not_look_equal(objects: EncryptedObjects, plain: LocalObjects) -> None:
    objects.put(ALPHA, "k1", b"the same" * 100)
    objects.put(ALPHA, "k2", b"the same" * 100)
    one, two = (plain.get(ALPHA, key)[32:] for key in ("k1", "k2"))
    assert one != two


def tampered(plain: LocalObjects, key: str, data: bytes) -> None:
    plain.put(ALPHA, key, data)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("a bit", lambda s: s[:40] + bytes([s[40] ^ 1]) + s[41:]),
        ("the tag", lambda s: s[:-1] + bytes([s[-1] ^ 1])),
        ("the salt", lambda s: s[:20] + bytes([s[20] ^ 1]) + s[21:]),
        ("the chunk size", lambda s: s[:15] + bytes([s[15] ^ 1]) + s[16:]),
        ("no chunk size", lambda s: s[:12] + b"\0\0\0\0" + s[16:]),
        ("a huge chunk size", lambda s: s[:12] + b"\xff\xff\xff\xff" + s[16:]),
        ("the last chunk left out", lambda s: s[: 32 + 2 * 80]),
        ("cut within a chunk", lambda s: s[:-5]),
        ("cut within a tag", lambda s: s[: 32 + 80 - 3]),
        ("cut after the header", lambda s: s[:32]),
        ("cut within the header", lambda s: s[:20]),
        ("two chunks swapped", lambda s: s[:32] + s[112:192] + s[32:112] + s[192:]),
        ("a chunk doubled", lambda s: s[:112] + s[32:112] + s[112:]),
        ("a chunk left out", lambda s: s[:32] + s[112:]),
        ("something added", lambda s: s + b"x"),
        ("a chunk added", lambda s: s + s[32:112]),
        ("no magic", lambda s: b"\0" * 8 + s[8:]),
        ("nothing", lambda s: b""),
    ],
)
def test_tampering_is_noticed(objects: EncryptedObjects, plain: LocalObjects, small_chunks: int, what, change) -> None:
    objects.put(ALPHA, "k", os.urandom(2 * small_chunks + 10))
    stored = plain.get(ALPHA, "k")
    changed = change(stored)
    assert changed != stored
    plain.put(ALPHA, "k", changed)
    with pytest.raises(ObjectDamaged):
        objects.get(ALPHA, "k")


@settings(max_examples=100, deadline=None)
@given(position=st.integers(0, 32 + 2 * 80 + 25), bit=st.integers(0, 7))
def test_no_bit_can_be_changed(tmp_path_factory: pytest.TempPathFactory, position: int, bit: int) -> None:
    plain = LocalObjects(tmp_path_factory.mktemp("o") / "objects")
    plain._made.add(ALPHA)  # one folder instead of 256
    plain.path(ALPHA, "k").parent.mkdir(parents=True)
    objects = EncryptedObjects(plain, Ciphers(Ring()))
    original = encrypted_objects.CHUNK
    encrypted_objects.CHUNK = 64
    try:
        objects.put(ALPHA, "k", b"z" * 138)
    finally:
        encrypted_objects.CHUNK = original
    stored = bytearray(plain.get(ALPHA, "k"))
    stored[position] ^= 1 << bit
    plain.put(ALPHA, "k", bytes(stored))
    with pytest.raises((ObjectDamaged, KeyUnavailable)):  # another key version is no known key
        objects.get(ALPHA, "k")


def test_an_object_under_another_key_or_tenant_is_noticed(objects: EncryptedObjects, plain: LocalObjects) -> None:
    objects.put(ALPHA, "k", b"of alpha")
    plain.put(ALPHA, "other", plain.get(ALPHA, "k"))
    plain.put(BETA, "k", plain.get(ALPHA, "k"))
    for tenant, key in ((ALPHA, "other"), (BETA, "k")):
        with pytest.raises(ObjectDamaged):
            objects.get(tenant, key)


def test_the_same_data_key_in_two_tenants_would_not_help(plain: LocalObjects, ring: Ring) -> None:
    ring.held[BETA] = Ring.made(BETA, dict(ring.held[ALPHA].data))
    objects = EncryptedObjects(plain, Ciphers(ring))
    objects.put(ALPHA, "k", b"of alpha")
    plain.put(BETA, "k", plain.get(ALPHA, "k"))
    with pytest.raises(ObjectDamaged):
        objects.get(BETA, "k")


def test_rotation_reads_the_old_and_writes_the_new(plain: LocalObjects, ring: Ring) -> None:
    objects = EncryptedObjects(plain, Ciphers(ring))
    objects.put(ALPHA, "old", b"1")
    first = ring.held[ALPHA].data[1]
    ring.held[ALPHA] = Ring.made(ALPHA, {1: first, 2: os.urandom(32)})
    objects.put(ALPHA, "new", b"2")
    assert (objects.get(ALPHA, "old"), objects.get(ALPHA, "new")) == (b"1", b"2")
    assert (objects.version(ALPHA, "old"), objects.version(ALPHA, "new")) == (1, 2)
    ring.held[ALPHA] = Ring.made(ALPHA, {2: ring.held[ALPHA].data[2]})
    with pytest.raises(KeyUnavailable):
        objects.get(ALPHA, "old")
    assert objects.get(ALPHA, "new") == b"2"


@pytest.mark.parametrize("data", [b"", b"short", b"\0" * 128 + b"DICM" + b"x" * 2000])
def test_objects_from_before_are_read_until_none_is_left(plain: LocalObjects, ring: Ring, data: bytes) -> None:
    plain.put(ALPHA, "k", data)
    objects = EncryptedObjects(plain, Ciphers(ring))
    with pytest.raises(ObjectDamaged):
        objects.get(ALPHA, "k")
    ring.held[ALPHA] = Ring.made(ALPHA, dict(ring.held[ALPHA].data), plain=True)
    assert objects.get(ALPHA, "k") == data
    assert objects.version(ALPHA, "k") == 0


def test_a_large_object_is_not_twice_in_memory(objects: EncryptedObjects) -> None:
    import tracemalloc

    data = bytes(64 << 20)
    tracemalloc.start()
    try:
        objects.put(ALPHA, "k", data)
        put_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert len(objects.get(ALPHA, "k")) == len(data)
        get_peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert put_peak < 8 << 20, "an object is encrypted piece by piece"
    assert get_peak < 1.3 * len(data), "an object is there once, and a little more"
