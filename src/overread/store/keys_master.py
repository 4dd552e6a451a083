"""Master keys: what wraps the data keys of tenants. From a file or from the environment; a KMS is in `keys_kms`.

A master key is 32 bytes, written as 64 hexadecimal digits. Several may be given: the first wraps, all unwrap, so that
one can be replaced while everything runs.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from overread.domain.errors import KeyUnavailable, SetupError
from overread.services.key_ports import KeyManagement
from overread.store.durable import sync_folder

KEY_BYTES = 32
_NONCE_BYTES = 12


class LocalMasterKeys:
    """Implements `services.key_ports.KeyManagement` with keys that this process holds: AES-256-GCM."""

    def __init__(self, load: Callable[[], Sequence[bytes]], *, where: str) -> None:
        """`load` reads the keys, the wrapping one first; it is asked again when a key is missing. `where` is named to
        people who have to look for it."""
        self._load = load
        self._where = where
        self._keys = self._read()

    @property
    def key_id(self) -> str:
        """Of the key that wraps now: `local:` and 16 hexadecimal digits of a hash of it."""
        return next(iter(self._keys))

    @property
    def where(self) -> str:
        """For people: where the keys lie."""
        return self._where

    def wrap(self, key: bytes, context: str) -> bytes:
        """`key` encrypted and bound to `context`: nonce, ciphertext, tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._keys[self.key_id]).encrypt(nonce, key, context.encode())

    def unwrap(self, wrapped: bytes, key_id: str, context: str) -> bytes:
        """Raises `KeyUnavailable` if the master key `key_id` is not here, or this was not wrapped for `context`."""
        if key_id not in self._keys:
            self._keys = self._read()
        if (master := self._keys.get(key_id)) is None:
            raise KeyUnavailable(
                f"The data keys are wrapped by master key {key_id}, which {self._where} does not hold.",
                remedy="Bring the master key back that this installation had (docs/how-to/rotate-keys.md).",
            )
        try:
            return AESGCM(master).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], context.encode())
        except InvalidTag as error:
            raise KeyUnavailable(f"A wrapped data key is damaged ({context}).") from error

    def refresh(self) -> None:
        """Read the keys again: after one was added."""
        self._keys = self._read()

    def _read(self) -> dict[str, bytes]:
        return {key_id_of(key): key for key in self._load()}


def key_id_of(key: bytes) -> str:
    """A name for a local master key that tells nothing about it."""
    return "local:" + hashlib.sha256(b"overread master key" + key).hexdigest()[:16]


def parse_keys(text: str, *, where: str) -> list[bytes]:
    """Keys from text, by commas or line ends. Raises `SetupError` if there is none or one is not 64 hex digits."""
    keys: list[bytes] = []
    for word in text.replace(",", "\n").split():
        try:
            key = bytes.fromhex(word)
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise SetupError(
                f"{where} does not hold a master key of 64 hexadecimal digits.", remedy="Make one: openssl rand -hex 32"
            )
        keys.append(key)
    if not keys:
        raise SetupError(f"{where} holds no master key.", remedy="Make one: openssl rand -hex 32")
    return keys


class SeveralKeys:
    """Implements `services.key_ports.KeyManagement` with several: the first wraps, whoever knows a key unwraps."""

    def __init__(self, first: KeyManagement, *others: KeyManagement) -> None:
        self._first = first
        self._all = (first, *others)

    @property
    def key_id(self) -> str:
        return self._first.key_id

    def wrap(self, key: bytes, context: str) -> bytes:
        return self._first.wrap(key, context)

    def unwrap(self, wrapped: bytes, key_id: str, context: str) -> bytes:
        kind = key_id.partition(":")[0]
        for keys in self._all:
            if keys.key_id == key_id or keys.key_id.partition(":")[0] == kind == "local":
                return keys.unwrap(wrapped, key_id, context)
        raise KeyUnavailable(
            f"The data keys are wrapped by master key {key_id}, which OVERREAD_MASTER_KEY does not name.",
            remedy="Add it there, after the present one (docs/how-to/rotate-keys.md).",
        )

    def refresh(self) -> None:
        for keys in self._all:
            keys.refresh()


def from_environment(text: str) -> KeyManagement:
    """Keys of OVERREAD_MASTER_KEY, by commas, the wrapping one first: 64 hexadecimal digits, or `aws-kms:KEY`.

    Raises `SetupError`.
    """
    from overread.store import keys_kms

    words = [word.strip() for word in text.split(",") if word.strip()]
    in_kms = [word.startswith(keys_kms.PREFIX) for word in words]
    found: list[KeyManagement] = [
        keys_kms.AwsKms(word.removeprefix(keys_kms.PREFIX)) for word, kms in zip(words, in_kms, strict=True) if kms
    ]
    if not all(in_kms) or not words:
        local = [word for word, kms in zip(words, in_kms, strict=True) if not kms]
        where = "OVERREAD_MASTER_KEY"
        keys = LocalMasterKeys(lambda: parse_keys(",".join(local), where=where), where=where)
        found.insert(len(found) if in_kms[:1] == [True] else 0, keys)
    return found[0] if len(found) == 1 else SeveralKeys(*found)


def from_file(path: Path) -> LocalMasterKeys:
    """Keys of a file, the wrapping one first; made with one new key if there is none. Raises `SetupError`."""

    def load() -> list[bytes]:
        if not path.exists():
            _make(path)
        mode = path.stat().st_mode & 0o077
        if mode:
            raise SetupError(
                f"The master key file {path} can be read by others.", remedy=f"Forbid it: chmod 600 {path}"
            )
        return parse_keys(path.read_text(), where=str(path))

    return LocalMasterKeys(load, where=str(path))


def add_to_file(path: Path) -> None:
    """Put a new key before the others: it wraps from now on, they go on unwrapping."""
    keys = parse_keys(path.read_text(), where=str(path))
    _replace(path, [secrets.token_bytes(KEY_BYTES), *keys])


def keep_newest(path: Path) -> None:
    """Take all keys but the first out of the file. Only when they wrap nothing any more."""
    _replace(path, parse_keys(path.read_text(), where=str(path))[:1])


def _replace(path: Path, keys: Sequence[bytes]) -> None:
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    _write(temporary, keys)
    temporary.rename(path)
    sync_folder(path.parent)


def _make(path: Path) -> None:
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        _write(temporary, [secrets.token_bytes(KEY_BYTES)])
        try:
            os.link(temporary, path)  # whole or not at all; whoever is first wins
        except FileExistsError:
            return
        finally:
            temporary.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise SetupError(
            f"Cannot write the master key file {path}: {error.strerror or error}.",
            remedy="Give this user write rights there, or set OVERREAD_MASTER_KEY_FILE to another place.",
        ) from error


def _write(path: Path, keys: Sequence[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write("".join(f"{key.hex()}\n" for key in keys))
        handle.flush()
        os.fsync(handle.fileno())
