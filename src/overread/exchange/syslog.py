"""Audit messages to a syslog server: RFC 5424 over TLS (RFC 5425, PS3.15 A.6), or the same lines to a file.

Syslog has no acknowledgement. So a batch is a connection: after the last message we say that nothing more comes
(close_notify) and wait until the receiver closes too, which it does once it has read everything. A connection that
breaks before is a batch that is sent again; each message carries the number of its row, so that doubles can be told.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

from overread.domain.errors import AuditReceiverUnavailable, InvalidRequest, SetupError

DEFAULT_PORT: Final = 6514
#: Facility 10 (security/authorization), severity 5 (notice): PS3.15 A.6.1.
_PRIORITY: Final = 10 * 8 + 5
_MESSAGE_ID: Final = "DICOM+RFC3881"
_TIMEOUT_S: Final = 20.0
_BOM: Final = b"\xef\xbb\xbf"
_CHUNK: Final = 64 * 1024


def syslog_message(xml: bytes, *, at: datetime, host: str, version: str) -> bytes:
    """An RFC 5424 message around an audit message."""
    header = " ".join(
        (
            f"<{_PRIORITY}>1",
            at.isoformat(timespec="microseconds"),
            _ascii(host, 255),
            "overread",
            str(os.getpid()),
            _MESSAGE_ID,
            f'[origin software="overread" swVersion="{_ascii(version, 32)}"]',
        )
    )
    return header.encode("ascii") + b" " + _BOM + xml.replace(b"\n", b" ")


def _ascii(text: str, most: int) -> str:
    return re.sub(r'[^\x21-\x7e]|["\\\]]', "", text)[:most] or "-"


class TlsSyslog:
    """Implements `services.audit_ports.AuditSink`: tls://HOST[:PORT]."""

    def __init__(
        self,
        url: str,
        *,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """`ca`: certificates that are trusted (PEM), else the system's; `certificate`, `key`: ours, if it wants one.

        Raises `InvalidRequest` for another kind of address, `SetupError` for files that cannot be used.
        """
        parts = urlsplit(url)
        try:
            port = parts.port or DEFAULT_PORT
        except ValueError as error:
            raise InvalidRequest(f"{url} has no usable port.", remedy="Example: tls://siem:6514.") from error
        if parts.scheme != "tls" or not parts.hostname or parts.path or parts.query:
            raise InvalidRequest(f"{url} is no address of a syslog server.", remedy="Example: tls://siem:6514.")
        self._address = (parts.hostname, port)
        self._timeout_s = timeout_s
        try:
            self._context = ssl.create_default_context(cafile=ca)
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
            if certificate is not None:
                self._context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise SetupError(
                "The certificates for the audit receiver cannot be read.",
                remedy="Check OVERREAD_AUDIT_SYSLOG_CA, _CERTIFICATE and _KEY (PEM files).",
            ) from error

    def send(self, messages: Iterable[bytes]) -> None:
        """All of them, and the receiver has read them. Raises `AuditReceiverUnavailable`."""
        host, port = self._address
        try:
            with socket.create_connection((host, port), timeout=self._timeout_s) as plain:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._context.wrap_socket(plain, server_hostname=host) as connection:
                    _send(connection, messages)
                    _wait_until_read(connection)
        except OSError as error:  # ssl.SSLError and timeouts are among them
            raise AuditReceiverUnavailable(
                f"The audit receiver {host}:{port} does not take messages: {_reason(error)}.",
                remedy="They are kept and sent again; see docs/how-to/prove-who-looked.md.",
            ) from error


def _send(connection: ssl.SSLSocket, messages: Iterable[bytes]) -> None:
    waiting = bytearray()
    for message in messages:
        waiting += b"%d " % len(message) + message
        if len(waiting) >= _CHUNK:
            connection.sendall(waiting)
            waiting.clear()
    connection.sendall(waiting)


def _wait_until_read(connection: ssl.SSLSocket) -> None:
    """Say that nothing more comes and wait for the end. A reset or silence means that something may be lost."""
    # It may close without a word of its own: a plain end of the stream is no reset.
    with contextlib.suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError):
        connection.unwrap()


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    return error.strerror or str(error) or type(error).__name__


class FileSink:
    """One audit message a line, in a file or on standard output."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle

    def send(self, messages: Iterable[bytes]) -> None:
        """Raises `AuditReceiverUnavailable` where there is no room."""
        try:
            for message in messages:
                self._handle.write(message.replace(b"\n", b" ") + b"\n")
            self._handle.flush()
        except OSError as error:
            raise AuditReceiverUnavailable(f"The file cannot be written: {error.strerror or error}.") from error
