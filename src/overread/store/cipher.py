"""AES-256-GCM with a tenant's keys, and the blind index: what equals can be found, nothing can be read.

From the 32 bytes of a data key HKDF-SHA256 (RFC 5869) makes one key for values and one for objects; from the index key
one for each kind of thing that is looked up. So no key is used for two purposes.
"""

from __future__ import annotations

import hmac
import os
import re
import struct
import unicodedata
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from overread.domain.errors import IdentifiersDamaged, KeyUnavailable
from overread.domain.study import TenantId
from overread.services.key_ports import KeyRing
from overread.services.values import TenantKeys

#: A sealed value: format, version of the data key, nonce; then ciphertext and tag.
_HEAD: Final = struct.Struct(">BI12s")
_FORMAT: Final = 1
#: Bytes of one search token: enough to keep words apart, too few to check a guess beyond doubt.
TOKEN_BYTES: Final = 8
#: Words are found by their beginnings from so many letters on, and up to so many.
PREFIX_FROM, PREFIX_TO = 3, 12
_TOKENS_AT_MOST = 400
_WORD = re.compile(r"[^\W_]+")


def derive(secret: bytes, purpose: str, *, salt: bytes | None = None) -> bytes:
    """32 bytes for one purpose."""
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=f"overread {purpose} 1".encode()).derive(secret)


class BlindIndex:
    """HMAC-SHA256 of normalised values by a tenant's index key. Implements `services.key_ports.PatientIndex`."""

    def __init__(self, index_key: bytes) -> None:
        self._keys = {kind: derive(index_key, kind) for kind in ("patient", "patient id", "accession", "word", "hash")}

    def blind(self, issuer: str, patient_id: str) -> bytes:
        """32 bytes that stand for a patient: the same for the same issuer and id, whatever the case of the issuer."""
        return self._mac("patient", f"{_plain(issuer).casefold()}\0{_plain(patient_id)}")

    def patient_id(self, patient_id: str) -> bytes:
        """For filters that do not say whose id it is."""
        return self._mac("patient id", _plain(patient_id))

    def accession(self, number: str) -> bytes | None:
        """None for an empty one, which equals nothing."""
        return self._mac("accession", _plain(number)) if _plain(number) else None

    def content(self, sha256: str) -> str:
        """64 hexadecimal digits that stand for a file's hash: who has the file cannot tell that it is here."""
        return self._mac("hash", sha256).hex()

    def tokens(self, texts: Iterable[str]) -> list[bytes]:
        """What finds these texts: every word, and its beginnings."""
        words: set[str] = set()
        for text in texts:
            for word in words_of(text):
                words.add(word)
                words.update(word[:n] for n in range(PREFIX_FROM, min(len(word), PREFIX_TO + 1)))
        return sorted(self._token(word) for word in sorted(words)[:_TOKENS_AT_MOST])

    def wanted(self, text: str) -> list[bytes]:
        """What a text must have so that the search for `text` finds it: each word as it is typed."""
        return [self._token(word) for word in words_of(text)]

    def _token(self, word: str) -> bytes:
        return self._mac("word", word)[:TOKEN_BYTES]

    def _mac(self, kind: str, value: str) -> bytes:
        return hmac.digest(self._keys[kind], value.encode("utf-8", "surrogatepass"), "sha256")


def words_of(text: str) -> list[str]:
    """Words as they are compared: no accents, no case, split at everything that is neither letter nor digit.

    In the order of the text, each once. A word is cut at 64 letters.
    """
    flat = unicodedata.normalize("NFKD", text).casefold()
    flat = "".join(c for c in unicodedata.normalize("NFKD", flat) if not unicodedata.combining(c))
    return list(dict.fromkeys(word[:64] for word in _WORD.findall(flat)))


def _plain(value: str) -> str:
    return unicodedata.normalize("NFC", value).strip()


class TenantCipher:
    """What encrypts and finds for one tenant, made of one state of its keys."""

    def __init__(self, keys: TenantKeys) -> None:
        self.keys = keys
        self.index = BlindIndex(keys.index)
        self._values: dict[int, AESGCM] = {}
        self._objects: dict[int, bytes] = {}

    def values(self, version: int) -> AESGCM:
        """For short values. Raises `KeyUnavailable`."""
        if (made := self._values.get(version)) is None:
            made = self._values[version] = AESGCM(derive(self._secret(version), "values"))
        return made

    def objects(self, version: int) -> bytes:
        """32 bytes from which each object's own key is made. Raises `KeyUnavailable`."""
        if (made := self._objects.get(version)) is None:
            made = self._objects[version] = derive(self._secret(version), "objects")
        return made

    def _secret(self, version: int) -> bytes:
        try:
            return self.keys.data[version]
        except KeyError:
            raise KeyUnavailable(
                f"Version {version} of the data key of tenant {self.keys.tenant} is retired."
            ) from None


class Ciphers:
    """The ciphers of all tenants of a process, always of the keys that the ring gives now."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self._made: dict[TenantId, TenantCipher] = {}

    def of(self, tenant: TenantId) -> TenantCipher:
        """Raises what the ring raises."""
        try:
            keys = self.ring.keys(tenant)
        except KeyUnavailable:
            self._made.pop(tenant, None)
            raise
        return self._with(tenant, keys)

    def for_version(self, tenant: TenantId, version: int) -> TenantCipher:
        """One that knows this version of the data key, if anybody does."""
        cipher = self.of(tenant)
        if version in cipher.keys.data:
            return cipher
        return self._with(tenant, self.ring.reload(tenant))

    def values(self, tenant: TenantId) -> Values:
        """Seals and opens short values of a tenant."""
        return Values(self, tenant)

    def _with(self, tenant: TenantId, keys: TenantKeys) -> TenantCipher:
        made = self._made.get(tenant)
        if made is None or made.keys is not keys:
            made = self._made[tenant] = TenantCipher(keys)
        return made


class Values:
    """Seals and opens values of one tenant; each is bound to the place where it lies. Keys are asked for at use."""

    def __init__(self, ciphers: Ciphers, tenant: TenantId) -> None:
        self._ciphers = ciphers
        self._tenant = tenant

    @property
    def index(self) -> BlindIndex:
        """The tenant's blind index."""
        return self._ciphers.of(self._tenant).index

    def blind(self, issuer: str, patient_id: str) -> bytes:
        """See `BlindIndex.blind`: `services.key_ports.PatientIndex` for a unit of work."""
        return self.index.blind(issuer, patient_id)

    def content(self, sha256: str) -> str:
        """See `BlindIndex.content`."""
        return self.index.content(sha256)

    @property
    def version(self) -> int:
        """Of the data key that seals now."""
        return self._ciphers.of(self._tenant).keys.active

    def seal(self, value: bytes, place: str) -> bytes:
        """`value` encrypted by the active data key; only at the same `place` (table, column, row) it opens again."""
        cipher = self._ciphers.of(self._tenant)
        version, nonce = cipher.keys.active, os.urandom(12)
        head = _HEAD.pack(_FORMAT, version, nonce)
        return head + cipher.values(version).encrypt(nonce, value, self._bound(head, place))

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises `IdentifiersDamaged` if it was changed or lay elsewhere, `KeyUnavailable` if its key is gone."""
        if len(sealed) < _HEAD.size:
            raise IdentifiersDamaged("An encrypted value is cut off.")
        form, version, nonce = _HEAD.unpack_from(sealed)
        if form != _FORMAT:
            raise IdentifiersDamaged("An encrypted value has an unknown form.")
        cipher = self._ciphers.for_version(self._tenant, version)
        try:
            return cipher.values(version).decrypt(nonce, sealed[_HEAD.size :], self._bound(sealed[: _HEAD.size], place))
        except InvalidTag as error:
            raise IdentifiersDamaged(f"An encrypted value was changed or is not where it was put ({place}).") from error

    def _bound(self, head: bytes, place: str) -> bytes:
        return head + f"{self._tenant.slug}/{place}".encode()


def version_of(sealed: bytes) -> int:
    """Which version of the data key sealed a value."""
    version: int = _HEAD.unpack_from(sealed)[1]
    return version
