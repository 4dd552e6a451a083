"""Small JSON documents of an identity provider, over HTTPS: no redirects, no other schemes, bounded time and size."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import structlog

from overread.domain.errors import ProviderUnavailable

log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 1024 * 1024
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        """An address that we were not told is not asked."""
        return


class ProviderFetch:
    """Implements `services.identity_ports.ProviderWeb`. Proxies come from HTTPS_PROXY and NO_PROXY, as usual."""

    def __init__(self) -> None:
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=ssl.create_default_context()),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _NoRedirects(),
            urllib.request.UnknownHandler(),
        ):
            self._opener.add_handler(handler)

    def get(self, url: str, *, bearer: str | None = None) -> Mapping[str, Any]:
        """Raises `ProviderUnavailable`."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        status, document = self._ask(urllib.request.Request(_checked(url), headers=headers))  # noqa: S310 - checked
        if status != 200:
            raise ProviderUnavailable(f"The identity provider answers with status {status}.")
        return document

    def post_form(
        self, url: str, form: Mapping[str, str], *, basic: tuple[str, str] | None = None
    ) -> Mapping[str, Any]:
        """Raises `ProviderUnavailable`; an error answer with JSON (RFC 6749 5.2) is returned."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if basic is not None:
            # RFC 6749 2.3.1: both are form-encoded first.
            pair = ":".join(quote(part, safe="") for part in basic)
            headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
        body = urlencode(form).encode()
        request = urllib.request.Request(_checked(url), data=body, headers=headers)  # noqa: S310
        return self._ask(request)[1]

    def _ask(self, request: urllib.request.Request) -> tuple[int, Mapping[str, Any]]:
        request.add_header("Accept", "application/json")
        request.add_header("User-Agent", "Overread")
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                status, body = int(answer.status), answer.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                status, body = error.code, error.read(_MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            host = urlsplit(request.full_url).hostname
            log.warning("identity provider does not answer", host=host, reason=type(error).__name__)
            raise ProviderUnavailable("The identity provider cannot be reached just now.") from error
        try:
            document = json.loads(body) if len(body) <= _MOST_BYTES else None
        except ValueError as error:
            raise ProviderUnavailable(f"The identity provider answers with status {status} and no JSON.") from error
        if not isinstance(document, dict):
            raise ProviderUnavailable("The identity provider's answer is no JSON object.")
        return status, document


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return url
    raise ProviderUnavailable("The identity provider's addresses must begin with https://.")
