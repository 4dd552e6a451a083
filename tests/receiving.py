"""What tests of the DICOM receiver share: a running SCP, sinks that remember, senders that are known, a raw peer."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from overread.dicom.listener import listen
from overread.dicom.receive import InstanceSink, ReceiveOptions, StorageScp
from overread.domain.errors import UnknownSender
from overread.domain.ids import uuid7
from overread.domain.study import ReceiveOutcome, Sender, TenantId
from overread.services.values import Filed

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEMO = TenantId(slug="demo")


@dataclass
class RememberingSink:
    """Takes everything, or does what `then` does."""

    then: Callable[[bytes], ReceiveOutcome] = lambda data: ReceiveOutcome.STORED
    files: list[tuple[TenantId, bytes, Sender, str]] = field(default_factory=list)

    def receive(self, tenant: TenantId, data: bytes | memoryview, sender: Sender, *, name: str) -> Filed:
        kept = bytes(data)
        outcome = self.then(kept)
        self.files.append((tenant, kept, sender, name))
        return Filed(outcome=outcome, study_id=uuid7(), new_image=False, modality=None)


@dataclass
class KnownSenders:
    """A `SenderDirectory`: (called AE title, address or certificate's sha256) -> tenant, or an error to raise."""

    known: dict[tuple[str, str], TenantId] = field(default_factory=lambda: {("OVERREAD", "127.0.0.1"): DEMO})
    error: Exception | None = None

    def tenant_of(self, *, called_ae: str, calling_ae: str, address: str, certificate_sha256: str | None) -> TenantId:
        if self.error is not None:
            raise self.error
        for mark in (certificate_sha256, address):
            if mark is not None and (called_ae, mark) in self.known:
                return self.known[called_ae, mark]
        raise UnknownSender("No tenant has registered this DICOM peer.")


@contextlib.contextmanager
def running(
    sink: InstanceSink, senders: KnownSenders | None = None, options: ReceiveOptions | None = None
) -> Iterator[tuple[int, StorageScp]]:
    """The port of a running SCP, and the SCP."""
    scp = StorageScp(sink, senders or KnownSenders(), options or ReceiveOptions())
    with listen("127.0.0.1", 0) as listening:
        scp.start(listening)
        try:
            yield listening.getsockname()[1], scp
        finally:
            scp.stop(5.0)


@contextlib.contextmanager
def association(port: int, *contexts: tuple[str, str], called: str = "OVERREAD", **options: Any) -> Iterator[Any]:
    """A pynetdicom association as requestor, over TCP_NODELAY."""
    entity = AE(ae_title="TESTER")
    wanted = [build_context(abstract, transfer) for abstract, transfer in contexts or ((CT, EXPLICIT),)]
    opened = (
        evt.EVT_CONN_OPEN,
        lambda event: event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    )
    assoc = entity.associate(
        "127.0.0.1", port, contexts=wanted, ae_title=called, evt_handlers=[opened], max_pdu=0, **options
    )
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()
        if assoc.ident is not None:  # a rejected one never started
            assoc.join(5.0)


class RawPeer:
    """Speaks bytes: for what no honest sender would say."""

    def __init__(self, port: int, *, called: str = "OVERREAD", transfer_syntax: str = EXPLICIT) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = A_ASSOCIATE()
        request.application_context_name = "1.2.840.10008.3.1.1.1"
        request.calling_ae_title, request.called_ae_title = "RAW", called
        context = build_context(CT, transfer_syntax)
        context.context_id = 1
        request.presentation_context_definition_list = [context]
        longest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
        longest.maximum_length_received = 16384
        implementation.implementation_class_uid = "1.2.3.4"
        request.user_information = [longest, implementation]
        self.socket.sendall(A_ASSOCIATE_RQ(request).encode())

    def pdu(self) -> tuple[int, bytes]:
        """The next PDU's type and body; (0, b"") when the peer closed."""
        head = self._exactly(6)
        if not head:
            return 0, b""
        return head[0], self._exactly(int.from_bytes(head[2:6], "big"))

    def answer(self) -> int:
        """Status (0000,0900) of a C-STORE-RSP."""
        kind, body = self.pdu()
        assert kind == 4, f"PDU {kind}: {body!r}"
        at = body.index(b"\x00\x00\x00\x09\x02\x00\x00\x00")
        return int.from_bytes(body[at + 8 : at + 10], "little")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                part = self.socket.recv(count - len(data))
            except ConnectionError:
                return b""
            if not part:
                return b""
            data += part
        return data


def fragment(control: int, data: bytes, context: int = 1) -> bytes:
    """A presentation data value item (PS3.8 9.3.5.1)."""
    return (len(data) + 2).to_bytes(4, "big") + bytes([context, control]) + data


def p_data(*fragments: bytes) -> bytes:
    """A P-DATA-TF PDU."""
    body = b"".join(fragments)
    return b"\x04\x00" + len(body).to_bytes(4, "big") + body


def store_command(instance: str, *, sop_class: str = CT, message: int = 7) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7 9.3.1.1)."""

    def element(number: int, value: bytes) -> bytes:
        return b"\0\0" + number.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value

    def uid(text: str) -> bytes:
        return text.encode() + b"\0" * (len(text) % 2)

    body = b"".join(
        (
            element(0x0002, uid(sop_class)),
            element(0x0100, b"\x01\x00"),
            element(0x0110, message.to_bytes(2, "little")),
            element(0x0700, b"\x00\x00"),
            element(0x0800, b"\x00\x00"),
            element(0x1000, uid(instance)),
        )
    )
    return element(0, len(body).to_bytes(4, "little")) + body


def data_set_of(file: bytes) -> bytes:
    """What follows preamble and file meta information (PS3.10 7.1)."""
    assert file[128:132] == b"DICM"
    assert file[132:136] == b"\x02\x00\x00\x00"
    return file[144 + int.from_bytes(file[140:144], "little") :]


class Gate:
    """Lets a thread be seen waiting, then go on."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, _data: bytes) -> ReceiveOutcome:
        self.entered.set()
        assert self.open.wait(20)
        return ReceiveOutcome.STORED


numbers = itertools.count(1)
