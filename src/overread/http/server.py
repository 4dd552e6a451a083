"""The web server's process: uvicorn, with TLS 1.3 and nothing older where a certificate is given."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from overread.domain.errors import SetupError


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context for TLS 1.3 (RFC 8446). `certificate` is a PEM chain. Raises `SetupError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SetupError(
            f"The web server cannot use its TLS certificate or key: {error}.",
            remedy="Check OVERREAD_HTTP_TLS_CERTIFICATE and OVERREAD_HTTP_TLS_KEY.",
        ) from error
    return context


def run(
    app: FastAPI,
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    ready: Callable[[], None],
    listening: socket.socket | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is called once connections are taken.

    `listening` is a socket that several processes share, in place of one at `host` and `port`.
    With `tls` the port speaks nothing else. Requests are not logged: an address may hold what somebody typed.
    """

    class _Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.streams.close()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )
    _Server(config).run(sockets=[listening] if listening is not None else None)
