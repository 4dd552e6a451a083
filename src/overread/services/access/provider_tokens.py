"""Tokens of an OpenID Connect provider: its documents, its keys, and what makes a token count."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, Final

import jwt

from overread.domain.errors import ProviderUnavailable, Unauthenticated
from overread.services.identity_ports import ProviderWeb

#: RFC 8725 3.1: no `none`, no HMAC (a public key would be its secret), each with the one kind of key it has.
_KEY_TYPES: Final[Mapping[str, str]] = {"RS256": "RSA", "ES256": "EC"}
_MINIMUM_RSA_BITS: Final = 2048
#: Clocks differ.
SKEW: Final = timedelta(seconds=60)
_DOCUMENT_S: Final = 3600.0
_KEYS_S: Final = 600.0
#: An unknown key id makes us ask again, but not for every token that somebody makes up.
_ASK_AGAIN_S: Final = 30.0


class ProviderKeys:
    """Discovery documents and key sets by issuer. What is known goes on counting while a provider is away."""

    def __init__(self, web: ProviderWeb, *, ticks: Callable[[], float] = time.monotonic) -> None:
        self._web = web
        self._ticks = ticks
        self._documents: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._sets: dict[str, tuple[float, tuple[jwt.PyJWK, ...]]] = {}
        self._lock = Lock()

    def document(self, issuer: str) -> Mapping[str, Any]:
        """OpenID Connect Discovery 4. Raises `ProviderUnavailable`."""
        known = self._documents.get(issuer)
        if known is not None and self._ticks() - known[0] < _DOCUMENT_S:
            return known[1]
        try:
            document = self._web.get(issuer.rstrip("/") + "/.well-known/openid-configuration")
            if document.get("issuer") != issuer:
                raise ProviderUnavailable("The identity provider's discovery document names another issuer.")
        except ProviderUnavailable:
            if known is None:
                raise
            document = known[1]
        self._documents[issuer] = (self._ticks(), document)
        return document

    def endpoint(self, issuer: str, name: str) -> str:
        """An address from the discovery document. Raises `ProviderUnavailable`."""
        address = self.document(issuer).get(name)
        if not isinstance(address, str):
            raise ProviderUnavailable(f"The identity provider's discovery document has no {name}.")
        return address

    def find(self, issuer: str, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key that verifies; a new key id makes us read the set again. Raises `ProviderUnavailable`."""
        with self._lock:
            known = self._sets.get(issuer)
            age = self._ticks() - known[0] if known is not None else float("inf")
            key = _choose(known[1], kid, algorithm) if known is not None else None
            if age < _KEYS_S and (key is not None or age < _ASK_AGAIN_S):
                return key
            try:
                keys = _usable(self._web.get(self.endpoint(issuer, "jwks_uri")))
            except ProviderUnavailable:
                if known is None:
                    raise
                keys = known[1]
            self._sets[issuer] = (self._ticks(), keys)
            return _choose(keys, kid, algorithm)


def _usable(document: Mapping[str, Any]) -> tuple[jwt.PyJWK, ...]:
    """RFC 7517 5: what cannot be used is passed over."""
    found = []
    entries = document.get("keys")
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("kty") not in _KEY_TYPES.values():
            continue
        if entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK.from_dict(entry)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if key.key_type == "RSA" and key.key.key_size < _MINIMUM_RSA_BITS:
            continue
        if key.key_type == "EC" and entry.get("crv") != "P-256":
            continue
        found.append(key)
    return tuple(found)


def _choose(keys: Sequence[jwt.PyJWK], kid: str | None, algorithm: str) -> jwt.PyJWK | None:
    fitting = [key for key in keys if key.key_type == _KEY_TYPES[algorithm]]
    if kid is None:
        return fitting[0] if len(fitting) == 1 else None
    return next((key for key in fitting if key.key_id == kid), None)


def read_provider_token(
    token: str, *, keys: ProviderKeys, issuer: str, audiences: Sequence[str], now: datetime
) -> Mapping[str, Any]:
    """The claims of a token that this issuer signed for us and that counts now. Raises `Unauthenticated`."""
    try:
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in _KEY_TYPES or not isinstance(kid, str | None):
            raise _invalid()
        key = keys.find(issuer, kid, algorithm)
        if key is None:
            raise _invalid()
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=list(audiences),
            # The clock is ours: see below.
            options={
                "require": ["exp", "iat", "iss", "aud", "sub"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        expires, issued = _moment(claims["exp"]), _moment(claims["iat"])
        begins = _moment(claims["nbf"]) if "nbf" in claims else issued
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            raise _invalid()
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, OSError) as error:
        raise _invalid() from error
    if expires + SKEW <= now:
        raise Unauthenticated("The token of the identity provider has expired.", remedy="Log in again.")
    if max(begins, issued) - SKEW > now:
        raise Unauthenticated("The token of the identity provider is not valid yet.")
    # OpenID Connect Core 3.1.3.7: of several audiences, the one it was given to must be us.
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if several and claims.get("azp") not in (None, *audiences):
        raise _invalid()
    return claims


def _moment(value: object) -> datetime:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("not a NumericDate")
    return datetime.fromtimestamp(value, UTC)


def _invalid() -> Unauthenticated:
    return Unauthenticated("The token of the identity provider is not valid.", remedy="Log in again.")
