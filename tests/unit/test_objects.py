"""Object store: durable, private, no way out of the folder, and the same over obstore."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overread.domain.errors import (
    InvalidRequest,
    ObjectMissing,
    ObjectStoreUnavailable,
    SetupError,
    StorageFull,
    StoreUnavailable,
)
from overread.domain.study import TenantId
from overread.store.objects import MAX_KEY_LENGTH, PATIENCE, LocalObjects, S3Objects, check_key, open_objects

DEMO = TenantId(slug="demo")
OTHER = TenantId(slug="other")
KEY = "instances/ab/abcdef.dcm"


@pytest.fixture
def local(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "objects")


@pytest.fixture
def s3() -> S3Objects:
    return S3Objects.from_url("memory:///")


@pytest.fixture(params=["local", "s3"])
def objects(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000])
def test_gives_back_what_was_put(objects: LocalObjects | S3Objects, data: bytes) -> None:
    objects.put(DEMO, KEY, memoryview(data))
    assert objects.get(DEMO, KEY) == data
    assert objects.exists(DEMO, KEY)


def test_missing_is_said(objects: LocalObjects | S3Objects) -> None:
    assert not objects.exists(DEMO, KEY)
    with pytest.raises(ObjectMissing):
        objects.get(DEMO, KEY)


def test_again_is_once_and_new_bytes_replace(objects: LocalObjects | S3Objects) -> None:
    objects.put(DEMO, KEY, b"one")
    objects.put(DEMO, KEY, b"one")
    assert objects.get(DEMO, KEY) == b"one"
    objects.put(DEMO, KEY, b"two, longer")
    objects.put(DEMO, KEY, b"3")
    assert objects.get(DEMO, KEY) == b"3"


def test_tenants_are_apart(objects: LocalObjects | S3Objects) -> None:
    objects.put(DEMO, KEY, b"demo's")
    assert not objects.exists(OTHER, KEY)
    objects.put(OTHER, KEY, b"other's")
    assert objects.get(DEMO, KEY) == b"demo's"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a/./b",
        ".hidden",
        "a/.put-1",
        "a//b",
        "a/",
        "a~b",
        "a b",
        "a\0b",
        "ä",
        "a\n",
        "a" * (MAX_KEY_LENGTH + 1),
        "/".join("abcdefghi"),
        "a\\b",
        "C:x",
        "a%2e",
    ],
)
def test_no_key_leads_elsewhere(objects: LocalObjects | S3Objects, key: str) -> None:
    for act in (
        lambda: objects.put(DEMO, key, b"x"),
        lambda: objects.get(DEMO, key),
        lambda: objects.exists(DEMO, key),
    ):
        with pytest.raises(InvalidRequest):
            act()


def test_keys_do_not_collide_on_disk(local: LocalObjects) -> None:
    paths = {local.path(DEMO, key) for key in ("a/b", "a-b", "a_b", "ab", "a.b")}
    assert len(paths) == 5
    assert check_key("ai-models/CR/1.0.0/model.onnx") == "ai-models/CR/1.0.0/model.onnx"


def test_only_this_user_reads(local: LocalObjects, tmp_path: Path) -> None:
    local.put(DEMO, KEY, b"x")
    file = local.path(DEMO, KEY)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in (file.parent, file.parent.parent, tmp_path / "objects"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the file system, in order: fsync of a file or of a folder, link, rename."""
    seen: list[str] = []
    fsync, link, rename = os.fsync, os.link, os.rename

    def spied_fsync(descriptor: int) -> None:
        fsync(descriptor)
        seen.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")

    def spy(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def spied(*arguments: Any, **options: Any) -> Any:
            seen.append(name)
            return function(*arguments, **options)

        return spied

    monkeypatch.setattr(os, "fsync", spied_fsync)
    monkeypatch.setattr(os, "link", spy("link", link))
    monkeypatch.setattr(os, "rename", spy("rename", rename))
    return seen


def test_durable_when_put_returns(local: LocalObjects, calls: list[str]) -> None:
    local.put(DEMO, "first", b"x")
    assert calls[:2] == ["sync folder"] * 2, "the tenant's folders"
    del calls[:]
    local.put(DEMO, KEY, b"one")
    assert calls == ["link", "sync file", "sync folder"]
    del calls[:]
    local.put(DEMO, KEY, b"two")
    assert calls[-3:] == ["sync file", "rename", "sync folder"], "what is durable is never replaced by what is not"


def test_without_o_tmpfile(local: LocalObjects, calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS has none: then by a temporary file."""
    really_open = os.open

    def refuses(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return really_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuses)
    local.put(DEMO, "first", b"x")
    del calls[:]
    local.put(DEMO, KEY, b"one")
    assert calls == ["sync file", "rename", "sync folder"]
    assert local.get(DEMO, KEY) == b"one"


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(local: LocalObjects, monkeypatch: pytest.MonkeyPatch, number: int, known: bool) -> None:
    local.put(DEMO, KEY if known else "other", b"old")

    def full(descriptor: int, data: Any) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageFull) as caught:
            local.put(DEMO, KEY, b"new")
    assert caught.value.transient
    assert local.exists(DEMO, KEY) is known
    if known:
        assert local.get(DEMO, KEY) == b"old"
    assert not list((local.root / "demo").rglob(".put-*")), "nothing is left behind"


def test_other_errors_are_not_called_full(local: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, data: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(ObjectStoreUnavailable, match="Input/output") as caught:
        local.put(DEMO, KEY, b"new")
    assert caught.value.transient


def test_many_writers_of_one_key(local: LocalObjects) -> None:
    failures: list[Exception] = []
    contents = [bytes([n]) * 100_000 for n in range(8)]

    def write(data: bytes) -> None:
        try:
            for _ in range(5):
                local.put(DEMO, KEY, data)
                assert local.get(DEMO, KEY) in contents, "never a part"
        except (OSError, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_lost_disk_is_an_error_and_not_a_new_folder(local: LocalObjects, tmp_path: Path) -> None:
    (tmp_path / "objects").rename(tmp_path / "unmounted")
    with pytest.raises(ObjectStoreUnavailable):
        local.put(DEMO, KEY, b"x")
    with pytest.raises(ObjectStoreUnavailable):  # not OBJECT_MISSING: a share that is not mounted comes back
        local.get(DEMO, KEY)
    with pytest.raises(ObjectStoreUnavailable), local.reader(DEMO, KEY):
        pass
    assert not (tmp_path / "objects").exists()


def test_root_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SetupError, match="Cannot write objects"):
        LocalObjects(tmp_path / "file" / "objects")


def test_by_setting(tmp_path: Path) -> None:
    assert isinstance(open_objects("", tmp_path / "a"), LocalObjects)
    folder = open_objects(f"file://{tmp_path}/b", tmp_path / "a")
    assert isinstance(folder, LocalObjects)
    assert folder.root == tmp_path / "b"
    assert isinstance(open_objects("memory:///", tmp_path / "a"), S3Objects)
    with pytest.raises(SetupError, match="OVERREAD_OBJECTS_URL"):
        open_objects("gopher://nowhere", tmp_path / "a")


def test_s3_out_of_reach() -> None:
    """Nobody listens there: a transient error with one clean line, so that the sender tries again."""
    objects = S3Objects.from_url(
        "s3://bucket/prefix",
        config={
            "endpoint": "http://127.0.0.1:9",
            "access_key_id": "a",
            "secret_access_key": "b",
            "region": "eu-central-1",
        },
        client_options={"allow_http": True},
        retry_config=PATIENCE | {"max_retries": 0},
    )
    with pytest.raises(StoreUnavailable) as caught:
        objects.put(DEMO, KEY, b"x")
    assert "Debug source" not in str(caught.value)
    with pytest.raises(StoreUnavailable):
        objects.exists(DEMO, KEY)
