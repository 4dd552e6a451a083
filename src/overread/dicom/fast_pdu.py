"""A shorter way for C-STORE through pynetdicom, for the one version that it was written against.

pynetdicom reads a PDU in steps of 4 KiB, copies each fragment six times on its way through PDU, item, primitive and
message objects, decodes and encodes each command set with pydicom, hands the message to a second thread and lets
both threads look for work every millisecond. With index and durable file, but no database, 500 images of 526 kB came
at 200 a second over one association and 510 over four; by the way below at 380 and 650. `upgrade` changes an
acceptor's association, before its threads start, in four narrow places:

- `FastSocket.recv` reads straight into one buffer;
- `FastDul._is_transport_event` waits for the socket instead of polling it, and is woken by what wants to be sent;
- `FastDul._read_pdu_data`, while the association is established, gathers the fragments of a C-STORE-RQ in one
  reused buffer behind the file meta information, calls the handler and answers, all in the DUL thread;
- `_Gate` lets the association's own loop sleep until there is something for it.

Everything else (negotiation, C-ECHO, release, abort, anything odd) takes pynetdicom's way. `usable()` is False for
any other version of pynetdicom; then nothing is changed and the stock way gives the same bytes
(tests/integration/test_receiver_scp.py holds both to the same bytes). Encodings: PS3.8 9.3.5 and Annex E,
PS3.7 6.3 and 9.3.1.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import pynetdicom
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from overread.dicom.fast_socket import HEAD, LONGEST_OTHER_PDU, P_DATA_TF, PDV, STEP, FastSocket
from overread.dicom.store_message import StoreRequest, Verdict, command_of, file_meta, response

KNOWN_VERSIONS: Final = ("3.0.4",)

#: Called with the request and the whole file (meta information and data set as it came); gives the answer. The file
#: lies in a buffer that is used again: it may be read until the handler returns.
StoreHandler = Callable[[Association, StoreRequest, bytes | memoryview], Verdict]

_WAIT_S: Final = 0.25
_LONGEST_COMMAND: Final = 1 << 16


def usable() -> bool:
    """Whether this pynetdicom is one whose inner methods are known to be as this file expects."""
    return pynetdicom.__version__ in KNOWN_VERSIONS


def upgrade(assoc: Association, handler: StoreHandler, *, limit: int) -> None:
    """Make an acceptor's association take the short way; call before it starts.

    `limit` is the largest file in bytes: a longer one is read to its end, dropped, and answered by the handler of
    an empty file.
    """
    dul = assoc.dul
    dul.__class__ = FastDul
    cast(FastDul, dul).prepare(handler, limit)
    cast(Any, dul.socket).__class__ = FastSocket
    cast(FastSocket, dul.socket).prepare(assoc.network_timeout)
    gate = _Gate()
    assoc._reactor_checkpoint = gate
    dul.to_user_queue = _TellingQueue(gate.tell)
    assoc.dimse.msg_queue = _TellingQueue(gate.tell)


class _Gate(threading.Event):
    """The checkpoint of the association's loop, which also lets it sleep until there is something to do."""

    def __init__(self) -> None:
        super().__init__()
        self._work = threading.Event()
        self.set()

    def tell(self) -> None:
        self._work.set()

    def set(self) -> None:
        super().set()
        if hasattr(self, "_work"):
            self._work.set()

    def wait(self, timeout: float | None = None) -> bool:
        self._work.wait(_WAIT_S)
        self._work.clear()
        return super().wait(timeout)


class _TellingQueue(queue.Queue[Any]):
    """A queue that tells somebody when an item comes."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._tell()


class FastDul(DULServiceProvider):
    """The upper layer of one association, with the short way for C-STORE."""

    def prepare(self, handler: StoreHandler, limit: int) -> None:
        self._finishing = False
        self._handler = handler
        self._limit = limit
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake_open = True
        self._wake_lock = threading.Lock()
        self._buffer = bytearray(STEP)
        self._run_loop_delay = 0.0001  # the waiting is done in _is_transport_event

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._buffer = bytearray()
            with self._wake_lock:
                self._wake_open = False
                os.close(self._wake)

    def wake(self) -> None:
        with self._wake_lock:
            if self._wake_open:
                os.eventfd_write(self._wake, 1)

    def finish(self) -> None:
        """Abort the association as soon as no object is in flight; one that is, is filed and answered first.

        `Association.abort` from outside is no help here: its thread closes the socket under an object in flight.
        """
        self._finishing = True
        self.wake()

    @property
    def finished(self) -> bool:
        """Whether the connection is closed."""
        return not self.is_alive() or self.state_machine.current_state == "Sta1"

    def send_pdu(self, primitive: Any) -> None:
        super().send_pdu(primitive)
        self.wake()

    def kill_dul(self) -> None:
        super().kill_dul()
        self.wake()

    def _is_transport_event(self) -> bool:
        sock = self.socket
        # Sta1: no connection. Queued events come first.
        if (
            sock is None
            or sock.socket is None
            or self.state_machine.current_state == "Sta1"
            or not self.event_queue.empty()
        ):
            return super()._is_transport_event()
        if self.state_machine.current_state == "Sta13":  # about to close: nothing that comes now matters
            cast(FastSocket, sock).drain()
            sock.close()
            return True
        if self._finishing and self.state_machine.current_state == "Sta6":
            self.assoc.abort(block=False)  # does nothing the second time
            return False
        if self._finishing and self.state_machine.current_state == "Sta2":  # nothing was asked for yet
            sock.close()
            return True
        # Stay here while the peer sends and nothing else happens: the reactor's round costs a sleep.
        read = False
        while not (self._kill_thread or self._finishing) and cast(FastSocket, sock).wait(self._wake, _WAIT_S):
            self._read_pdu_data()
            self._idle_timer.restart()
            read = True
            if not self.event_queue.empty() or self.to_provider_queue.queue:
                break
        return read

    def _read_pdu_data(self) -> None:
        # Sta6: established. A message that pynetdicom has begun is its to finish.
        if self.state_machine.current_state != "Sta6" or self.assoc.dimse.message is not None:
            super()._read_pdu_data()
            return
        try:
            self._read_message()
        except _Malformed:
            self.event_queue.put("Evt19")
        except OSError:
            self.event_queue.put("Evt17")

    def _read_message(self) -> None:
        """Read one C-STORE-RQ to its end and answer it; hand anything else to pynetdicom."""
        sock = cast(FastSocket, self.socket)
        command = bytearray()
        request: StoreRequest | None = None
        size = 0
        for context_id, control, length in self._fragments(sock):
            if control & 1:  # command
                if request is not None or len(command) + length > _LONGEST_COMMAND:
                    raise _Malformed
                part = bytearray(length)
                sock.fill(memoryview(part))
                command += part
                if not control & 2:
                    continue
                request = self._request(bytes(command), context_id)
                if request is None:
                    self._pass_on(context_id, bytes([control]) + bytes(command))
                    self._pass_on_rest(sock)
                    return
                head = file_meta(request)
                size = len(head)
                self._buffer[:size] = head
            else:
                if request is None or context_id != request.context_id:
                    raise _Malformed
                size = self._gather(sock, size, length)
                if control & 2:
                    self._answer(sock, request, size)
                    if self._pdu_left:  # the next message in the same PDU: not allowed (PS3.8 Annex E.1)
                        raise _Malformed
                    return

    def _fragments(self, sock: FastSocket) -> Iterator[tuple[int, int, int]]:
        """Context id, control header and length of each data fragment; the caller reads the fragment itself."""
        head = memoryview(bytearray(HEAD + PDV.size))
        self._pdu_left = 0
        while True:
            if not sock.fill_head(head):
                if head[0] == P_DATA_TF:
                    raise _Malformed
                super()._read_pdu_data()  # a release or an abort: what was gathered is not acknowledged
                return
            self._pdu_left = int.from_bytes(head[2:HEAD], "big")
            while True:
                length, context_id, control = PDV.unpack(head[HEAD:])
                if length < 2 or length + 4 > self._pdu_left:
                    raise _Malformed
                self._pdu_left -= length + 4
                yield context_id, control, length - 2
                if not self._pdu_left:
                    break
                if self._pdu_left < PDV.size:
                    raise _Malformed
                sock.fill(head[HEAD:])

    def _request(self, command: bytes, context_id: int) -> StoreRequest | None:
        context = self.assoc._accepted_cx.get(context_id)
        if context is None:
            return None
        return command_of(command, context_id=context_id, transfer_syntax_uid=str(context.transfer_syntax[0]))

    def _pass_on(self, context_id: int, fragment: bytes) -> None:
        """What pynetdicom's state machine does with a P-DATA indication (DT-2)."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, fragment))
        self.assoc.dimse.receive_primitive(primitive)

    def _pass_on_rest(self, sock: FastSocket) -> None:
        """The other fragments of a PDU whose first one was passed on."""
        while self._pdu_left:
            head = bytearray(5)
            sock.fill(memoryview(head))
            length = int.from_bytes(head[:4], "big")
            if not 2 <= length <= self._pdu_left - 4 or length > LONGEST_OTHER_PDU:
                raise _Malformed
            fragment = bytearray(length - 1)
            sock.fill(memoryview(fragment))
            self._pdu_left -= length + 4
            self._pass_on(head[4], bytes(fragment))

    def _gather(self, sock: FastSocket, size: int, length: int) -> int:
        """Append a fragment to the buffer, which grows only as bytes come. Past the limit they are dropped."""
        while length:
            keep = size < self._limit
            at = size if keep else 0
            step = min(length, STEP)
            if at + step > len(self._buffer):
                self._buffer.extend(bytes(max(STEP, len(self._buffer) // 2)))
            with memoryview(self._buffer) as whole, whole[at : at + step] as part:
                sock.fill(part)
            size += step
            length -= step
        return size

    def _answer(self, sock: FastSocket, request: StoreRequest, size: int) -> None:
        if size > self._limit:
            verdict = self._handler(self.assoc, request, b"")
        else:
            data = memoryview(self._buffer)[:size].toreadonly()
            verdict = self._handler(self.assoc, request, data)
            try:
                data.release()
            except BufferError:  # somebody still looks at a part of it
                self._buffer = bytearray(STEP)
        if len(self._buffer) > 8 * max(size, STEP):
            self._buffer = bytearray(STEP)
        self._idle_timer.restart()
        for pdu in response(request, verdict, maximum=self.assoc.dimse.maximum_pdu_size):
            sock.send(pdu)


class _Malformed(Exception):
    """A PDU that breaks PS3.8."""
