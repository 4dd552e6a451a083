"""Master keys from file and environment: made once, read by nobody else, replaced without a gap."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from overread.domain.errors import KeyUnavailable, SetupError
from overread.store.keys_master import (
    LocalMasterKeys,
    SeveralKeys,
    add_to_file,
    from_environment,
    from_file,
    keep_newest,
    key_id_of,
)

OLD, NEW = "0b" * 32, "ac" * 32
KEY = bytes(range(32))


def test_wrapped_keys_come_back_for_their_context_only() -> None:
    keys = from_environment(OLD)
    wrapped = keys.wrap(KEY, "tenant a data 1")
    assert keys.unwrap(wrapped, keys.key_id, "tenant a data 1") == KEY
    assert KEY not in wrapped and len(wrapped) == 12 + 32 + 16
    assert keys.wrap(KEY, "tenant a data 1") != wrapped
    for other in ("tenant b data 1", "tenant a index 1", "tenant a data 2"):
        with pytest.raises(KeyUnavailable, match="damaged"):
            keys.unwrap(wrapped, keys.key_id, other)
    with pytest.raises(KeyUnavailable, match="damaged"):
        keys.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), keys.key_id, "tenant a data 1")


def test_an_id_tells_nothing_of_its_key() -> None:
    assert key_id_of(bytes.fromhex(OLD)).startswith("local:")
    assert OLD[:6] not in key_id_of(bytes.fromhex(OLD))
    assert OLD not in repr(from_environment(OLD))


def test_the_first_wraps_and_all_unwrap() -> None:
    before = from_environment(OLD)
    wrapped = before.wrap(KEY, "c")
    both = from_environment(f" {NEW} , {OLD}")
    assert both.key_id == from_environment(NEW).key_id != before.key_id
    assert both.unwrap(wrapped, before.key_id, "c") == KEY
    with pytest.raises(KeyUnavailable, match="OVERREAD_MASTER_KEY does not hold"):
        from_environment(NEW).unwrap(wrapped, before.key_id, "c")


@pytest.mark.parametrize("text", ["", " , ", "abc", OLD[:-1], "xy" * 32, f"{OLD},abc"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match="master key") as error:
        from_environment(text)
    assert OLD not in str(error.value)


def test_the_file_is_made_once_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: from_file(path).key_id, range(8)))
    assert len(ids) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["master.key"]
    path.chmod(0o640)
    with pytest.raises(SetupError, match="can be read by others"):
        from_file(path)


def test_a_file_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="Cannot write the master key file"):
        from_file(tmp_path / "not there" / "master.key")


def test_a_file_is_replaced_while_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    running = from_file(path)
    first = running.key_id
    wrapped = running.wrap(KEY, "c")
    add_to_file(path)
    rotating = from_file(path)
    assert rotating.key_id != first
    assert rotating.unwrap(wrapped, first, "c") == KEY
    anew = rotating.wrap(KEY, "c")
    keep_newest(path)
    assert running.unwrap(anew, rotating.key_id, "c") == KEY, "it looks again when it meets an unknown key"
    assert len(path.read_text().split()) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyUnavailable, match=r"master\.key does not hold"):
        from_file(path).unwrap(wrapped, first, "c")


class Elsewhere:
    """A KMS as a test thinks of it."""

    key_id = "aws-kms:alias/x"

    def wrap(self, key: bytes, context: str) -> bytes:
        return context.encode() + key

    def unwrap(self, wrapped: bytes, key_id: str, context: str) -> bytes:
        return wrapped.removeprefix(context.encode())

    def refresh(self) -> None: ...


def test_of_several_kinds_whoever_knows_a_key_unwraps() -> None:
    local = LocalMasterKeys(lambda: [bytes.fromhex(OLD)], where="a test")
    both = SeveralKeys(Elsewhere(), local)
    assert both.key_id == "aws-kms:alias/x"
    assert both.wrap(KEY, "c") == b"c" + KEY
    both.refresh()
    assert both.unwrap(b"c" + KEY, both.key_id, "c") == KEY
    assert both.unwrap(local.wrap(KEY, "c"), local.key_id, "c") == KEY
    with pytest.raises(KeyUnavailable, match="does not name"):
        both.unwrap(b"", "aws-kms:alias/y", "c")
