"""Accepts DICOM connections on a listening socket that several processes share.

The socket is made once, by the parent (`receiver.py`), so a process that dies takes no waiting connection with it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import structlog
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

log = structlog.get_logger(__name__)

#: How long a process waits per association that it already serves, so that an idle sibling takes the connection.
_POLITENESS_S = 0.003
_LONGEST_POLITENESS_S = 0.03


def listen(host: str, port: int, *, backlog: int = 128) -> socket.socket:
    """A listening socket, not blocking, for `Listener` in this process and its children. Raises `OSError`.

    Port 0 takes a free one. An IPv6 address, or "" for every address of both families, makes an IPv6 socket.
    """
    family = socket.AF_INET6 if ":" in host or not host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        sock.bind((host, port))
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


class _Handler(RequestHandler):
    """Makes an association of a connection and lets the listener's owner prepare it."""

    server: Listener

    def _create_association(self) -> Association:
        assoc = super()._create_association()
        self.server.prepare(assoc)
        return assoc


class Listener(ThreadedAssociationServer):
    """pynetdicom's threaded server on a given socket. Its TLS handshakes block no other connection."""

    daemon_threads = True

    def __init__(
        self,
        ae: AE,
        listening: socket.socket,
        *,
        ssl_context: ssl.SSLContext | None,
        handshake_timeout_s: float,
        prepare: Callable[[Association], None],
        handlers: Sequence[tuple[Any, ...]],
    ) -> None:
        self.prepare = prepare
        self._given = listening
        self._handshake_timeout_s = handshake_timeout_s
        self._tls = ssl_context
        self._starting = 0
        self._count = threading.Lock()
        self._thread: threading.Thread | None = None
        super().__init__(
            ae,
            listening.getsockname(),
            ae.ae_title,
            ae.supported_contexts,
            evt_handlers=list(handlers),
            request_handler=_Handler,
        )
        ae._servers.append(self)

    def start(self) -> None:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.25}, name="listener")
        self._thread.daemon = True
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting. Associations go on."""
        self.shutdown()
        if self._thread is not None:
            self._thread.join()

    def server_bind(self) -> None:
        """Take the given socket instead of binding one."""
        if self.socket is not None:
            self.socket.close()
        self.socket = self._given.dup()
        self.socket.setblocking(False)
        self.server_address = self.socket.getsockname()

    def server_activate(self) -> None:
        """It listens already."""

    def server_close(self) -> None:
        """Close our duplicate only: `shutdown(2)` would deafen the sibling processes too."""
        if self.socket is not None:
            self.socket.close()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, unless a less busy sibling was quicker (`BlockingIOError`, which the caller expects)."""
        busy = self._starting + len(self.active_associations)
        if busy:
            time.sleep(min(busy * _POLITENESS_S, _LONGEST_POLITENESS_S))
        sock, address = cast(socket.socket, self.socket).accept()
        with self._count:
            self._starting += 1
        sock.settimeout(self.ae.network_timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock, address

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._count:
                self._starting -= 1

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: the TLS handshake, then the association starts."""
        if self._tls is not None:
            try:
                request.settimeout(self._handshake_timeout_s)
                request = self._tls.wrap_socket(request, server_side=True)
                request.settimeout(self.ae.network_timeout)
            except OSError as error:  # ssl.SSLError and timeouts are
                log.warning("tls_refused", address=client_address[0], reason=str(error))
                with contextlib.suppress(OSError):
                    request.close()
                return
        super().finish_request(request, client_address)

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Instead of printing a traceback to stderr."""
        log.exception("connection_failed", address=client_address[0])
