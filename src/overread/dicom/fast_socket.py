"""Reads a DICOM connection in whole pieces: what `fast_pdu` needs of pynetdicom's socket. See there."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
from typing import Final

from pynetdicom.transport import AssociationSocket

P_DATA_TF: Final = 0x04
#: Type, reserved, length (PS3.8 9.3.1); then length, context id and control header of a fragment (9.3.5, Annex E.2).
HEAD: Final = 6
PDV: Final = struct.Struct(">LBB")
#: Bytes that a buffer grows by, and that are read at once.
STEP: Final = 1 << 20
#: No association PDU is nearly as long (128 contexts of 40 transfer syntaxes are 340 kB); data PDUs are streamed.
LONGEST_OTHER_PDU: Final = 1 << 20


class _Closed(OSError):
    """The peer closed the connection within a PDU."""


class FastSocket(AssociationSocket):
    """Reads whole pieces, and takes back a PDU header that was read too early."""

    _back: bytes = b""
    #: With it the kernel wakes us once, when all is there; TLS has none.
    _flags: int = 0

    def prepare(self, timeout_s: float | None) -> None:
        """Let the kernel keep the time of a plain socket: Python's own timeouts cost a poll for each read."""
        sock = self.socket
        if sock is None or isinstance(sock, ssl.SSLSocket):
            return
        seconds, part = divmod(timeout_s or 0.0, 1.0)  # 0: for ever
        limit = struct.pack("ll", int(seconds), int(part * 1e6))
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._flags = socket.MSG_WAITALL

    def unread(self, data: bytes) -> None:
        self._back = data + self._back

    def recv(self, nr_bytes: int) -> bytearray:
        """Up to `nr_bytes`, less only if the peer closed: pynetdicom's contract."""
        if nr_bytes > LONGEST_OTHER_PDU:
            return bytearray()  # its caller then closes: nobody sends 1 MiB outside of P-DATA
        data = bytearray(nr_bytes)
        with memoryview(data) as view:
            try:
                self.fill(view)
            except _Closed:
                return bytearray()
        return data

    def fill(self, view: memoryview) -> None:
        """Fill all of `view`. Raises `OSError` if the peer closed or was silent for too long."""
        at = 0
        if self._back:
            at = min(len(self._back), len(view))
            view[:at] = self._back[:at]
            self._back = self._back[at:]
        sock = self.socket
        if sock is None:
            raise _Closed("closed")
        while at < len(view):
            got = sock.recv_into(view[at:], 0, self._flags)
            if not got:
                raise _Closed("closed by the peer")
            at += got

    def fill_head(self, view: memoryview) -> bool:
        """Fill `view` (12 bytes) with the heads of a P-DATA-TF and of its first fragment, mostly at once.

        False: it is another PDU, or has no room for a fragment; then `view` holds its head and nothing is taken.
        """
        sock = self.socket
        if sock is None:
            raise _Closed("closed")
        at = 0
        if not self._back:
            at = sock.recv_into(view)
            if not at:
                raise _Closed("closed by the peer")
        if at < HEAD:
            self.fill(view[at:HEAD])
            at = HEAD
        if view[0] != P_DATA_TF or int.from_bytes(view[2:HEAD], "big") < PDV.size:
            self.unread(bytes(view[:at]))
            return False
        if at < len(view):
            self.fill(view[at:])
        return True

    def drain(self) -> None:
        """Throw away what has come, so that closing does not reset what was sent last (a rejection, an abort)."""
        sock = self.socket
        if sock is None:
            return
        with contextlib.suppress(OSError):
            sock.setblocking(False)
            scrap = bytearray(STEP)
            for _ in range(16):
                if not sock.recv_into(scrap):
                    break

    def wait(self, wake: int, seconds: float) -> bool:
        """Whether there is something to read. Returns early when `wake` (an eventfd) is written."""
        sock = self.socket
        if sock is None or self._back:
            return self._back != b""
        pending = getattr(sock, "pending", None)
        if pending is not None and pending():  # decrypted by TLS, unknown to poll
            return True
        number = sock.fileno()
        if number < 0:
            self.event_queue.put("Evt17")
            return False
        poller = select.poll()
        poller.register(number, select.POLLIN)
        poller.register(wake, select.POLLIN)
        ready = [fd for fd, _ in poller.poll(seconds * 1000)]
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(wake)
        return number in ready
