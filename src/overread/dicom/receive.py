"""C-STORE and C-ECHO SCP: objects come in by DICOM and are acknowledged once they are durable, indexed and committed.

Besides, the results of Storage Commitment, which PACS report to this port (`commitment`).

Every storage SOP class, known, private or unknown, in every transfer syntax: of the syntaxes that a sender proposes for
a presentation context its first is taken, and the data set is written as it came, compressed or not. Whose the objects
are is decided with the association, from the called AE title together with the sender's address or certificate.

Answers to a C-STORE (PS3.4 B.2.3, PS3.7 9.1.1.1.9):

| status | when | the sender |
| --- | --- | --- |
| 0000 success | stored, a header revision, or the very same instance once more | is done |
| B000 warning | same SOPInstanceUID with other pixels: kept in quarantine | is done, and sees a warning |
| A700 out of resources | the database cannot be reached, the disk is full | sends again later |
| A900 does not match | the command names another SOPInstanceUID than the data set | must be repaired |
| C000 cannot understand | not DICOM, cut off, larger than allowed | must be repaired |
| 0110 processing failure | a fault of ours; logged | may send again |

Why B000 for a quarantined object: its bytes are as safe here as any other's and an admin sees them, so a failure would
make the sender repeat for ever what cannot change; a plain success would hide that the object is not part of the study.
0111 (duplicate SOP instance) belongs to N-CREATE and is not among the answers of PS3.4 B.2.3.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, cast
from weakref import WeakKeyDictionary

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    Verification,
)

from overread.dicom import fast_pdu
from overread.dicom.association import certificate_sha256, plain_address, refuse_other_services
from overread.dicom.commitment import CustodySink, answer_to
from overread.dicom.listener import Listener
from overread.dicom.store_message import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    SUCCESS,
    StoreRequest,
    Verdict,
    file_meta,
)
from overread.domain.errors import (
    DuplicateUid,
    InvalidDicom,
    OverreadError,
    TooLarge,
    UnknownSender,
)
from overread.domain.study import ReceiveOutcome, Sender, TenantId
from overread.services.ports import SenderDirectory
from overread.services.values import Filed

COERCED: Final = 0xB000
OUT_OF_RESOURCES: Final = 0xA700
MISMATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
PROCESSING_FAILURE: Final = 0x0110

_QUARANTINED: Final = Verdict(status=COERCED, comment="Known SOPInstanceUID with other pixels: kept in quarantine")

#: A-ASSOCIATE-RJ (PS3.8 9.3.4): result, source, reason.
_CALLING_AE_NOT_RECOGNISED: Final = (1, 1, 3)
_TEMPORARY_CONGESTION: Final = (2, 3, 1)

log = structlog.get_logger(__name__)


class InstanceSink(Protocol):
    """`services.receive.ReceiveService`."""

    def receive(self, tenant: TenantId, data: bytes | memoryview, sender: Sender, *, name: str) -> Filed:
        """File one DICOM file durably; its buffer is used again afterwards.

        Raises `InvalidDicom`, `StoreUnavailable`, `StorageFull`.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ReceiveOptions:
    """Limits of one receiver process."""

    ae_title: str = "OVERREAD"
    #: Bytes of a P-DATA-TF that senders may use (PS3.8 D.1); 0: any. pynetdicom's 16382 costs a third of the speed.
    maximum_pdu: int = 131072
    maximum_associations: int = 64
    #: Seconds without a byte after which an association is aborted.
    network_timeout_s: float = 60.0
    #: Seconds that a peer may take from connecting to its A-ASSOCIATE-RQ, and for the TLS handshake.
    acse_timeout_s: float = 20.0
    #: Largest object, bytes: it is held in memory once or twice while it is filed.
    maximum_object: int = 2 << 30
    tls: ssl.SSLContext | None = None
    #: Whether `fast_pdu` is used where it knows pynetdicom's version.
    fast: bool = True


def _nothing() -> None:
    """Nothing to close."""


@dataclass(frozen=True, kw_only=True)
class ReceiverParts:
    """What one receiver process works with; `bootstrap.receiver_parts` makes it."""

    sink: InstanceSink
    senders: SenderDirectory
    options: ReceiveOptions
    #: Takes storage commitment results of PACS; None: no such service.
    custody: CustodySink | None = None
    #: Closes connections, once the last object is filed.
    close: Callable[[], None] = _nothing


@dataclass(frozen=True, kw_only=True)
class _Peer:
    """Who is at the other end of an association."""

    tenant: TenantId
    sender: Sender


def verdict_of(error: Exception) -> Verdict:
    """The answer for an object that could not be filed. The comment names the error's code, never its message."""
    if isinstance(error, DuplicateUid):
        return _QUARANTINED
    if isinstance(error, InvalidDicom | TooLarge):
        return Verdict(status=CANNOT_UNDERSTAND, comment=error.code)
    if isinstance(error, OverreadError) and error.transient:
        return Verdict(status=OUT_OF_RESOURCES, comment=f"{error.code}: send again later")
    if isinstance(error, OSError | MemoryError):
        return Verdict(status=OUT_OF_RESOURCES, comment="Cannot store just now: send again later")
    return Verdict(
        status=PROCESSING_FAILURE, comment=error.code if isinstance(error, OverreadError) else "INTERNAL_ERROR"
    )


class StorageScp:
    """The SCP of one process, on a listening socket that other processes may share."""

    def __init__(
        self,
        sink: InstanceSink,
        senders: SenderDirectory,
        options: ReceiveOptions,
        custody: CustodySink | None = None,
    ) -> None:
        _config.UNRESTRICTED_STORAGE_SERVICE = True
        _config.LOG_HANDLER_LEVEL = "none"  # its standard handlers print data sets
        self._sink = sink
        self._senders = senders
        self._options = options
        self._custody = custody
        self._fast = options.fast and fast_pdu.usable()
        if options.fast and not self._fast:
            log.warning("receiver_slow", reason="unknown pynetdicom version")
        self._peers: WeakKeyDictionary[Association, _Peer] = WeakKeyDictionary()
        self._filing: set[Association] = set()
        self._listener: Listener | None = None

    def start(self, listening: socket.socket) -> None:
        """Accept associations in threads until `stop`. The socket stays the caller's."""
        options = self._options
        ae = AE(ae_title=options.ae_title)
        ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = options.maximum_pdu
        ae.maximum_associations = options.maximum_associations
        ae.network_timeout = options.network_timeout_s
        ae.acse_timeout = options.acse_timeout_s
        ae.add_supported_context(Verification, ALL_TRANSFER_SYNTAXES)
        if self._custody is not None:  # the PACS asks to be the SCP, and so to report to us
            ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        self._listener = Listener(
            ae,
            listening,
            ssl_context=options.tls,
            handshake_timeout_s=options.acse_timeout_s,
            prepare=self._prepare,
            handlers=[
                (evt.EVT_REQUESTED, self._on_requested),
                (evt.EVT_C_ECHO, lambda event: SUCCESS),  # noqa: ARG005 - pynetdicom passes the event
                (evt.EVT_C_STORE, self._on_c_store),
                (evt.EVT_N_EVENT_REPORT, self._on_event_report),
                (evt.EVT_RELEASED, self._on_end, ["released"]),
                (evt.EVT_ABORTED, self._on_end, ["aborted"]),
            ],
        )
        self._listener.start()

    def stop(self, grace_s: float = 20.0) -> None:
        """Accept nothing more, let each object in flight be filed and answered, then abort the associations."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.stop()
        deadline = time.monotonic() + grace_s
        waiting = listener.active_associations
        while waiting:
            late = time.monotonic() > deadline
            ending = [a for a in waiting if late or self._is_over(a)]
            threads = [threading.Thread(target=a.abort, daemon=True) for a in ending]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(2.0)
            waiting = [a for a in waiting if a not in ending]
            time.sleep(0.02)

    def _is_over(self, assoc: Association) -> bool:
        """Whether an association may be ended: nothing is in flight."""
        if isinstance(assoc.dul, fast_pdu.FastDul):
            assoc.dul.finish()
            return assoc.dul.finished
        busy = assoc in self._filing or assoc.dimse.message is not None or not assoc.dimse.msg_queue.empty()
        return not busy

    def _prepare(self, assoc: Association) -> None:
        if self._fast:
            fast_pdu.upgrade(assoc, self._file, limit=self._options.maximum_object)

    def _on_requested(self, event: evt.Event) -> None:
        """Accept only senders that the directory knows."""
        assoc = event.assoc
        request = cast(A_ASSOCIATE, assoc.requestor.primitive)
        called, calling = str(request.called_ae_title).strip(), str(request.calling_ae_title).strip()
        address = plain_address(assoc.requestor.address)
        who = {"address": address, "calling_ae": calling, "called_ae": called}
        rejection = _CALLING_AE_NOT_RECOGNISED
        try:
            certificate = certificate_sha256(assoc)
            tenant = self._senders.tenant_of(
                called_ae=called, calling_ae=calling, address=address, certificate_sha256=certificate
            )
        except UnknownSender:
            log.warning("association_rejected", reason="unknown sender", **who)
        except Exception as error:  # noqa: BLE001 - who cannot be known is not let in, whatever the reason
            rejection = _TEMPORARY_CONGESTION
            log.error("association_rejected", reason=getattr(error, "code", type(error).__name__), **who)
        else:
            refuse_other_services(request)
            self._peers[assoc] = _Peer(tenant=tenant, sender=Sender(channel="dicom", name=calling, address=address))
            log.info("association_requested", tenant=tenant.slug, **who)
            return
        assoc.acse.send_reject(*rejection)
        assoc.kill()

    def _on_end(self, event: evt.Event, how: str) -> None:
        peer = self._peers.get(event.assoc)
        if peer is not None:
            log.info(
                f"association_{how}", tenant=peer.tenant.slug, calling_ae=peer.sender.name, address=peer.sender.address
            )

    def _on_event_report(self, event: evt.Event) -> tuple[int, None]:
        """A PACS says which instances it keeps."""
        peer = self._peers.get(event.assoc)
        if peer is None or self._custody is None:
            return PROCESSING_FAILURE, None
        take = partial(self._custody.report, peer.tenant, peer.sender.name)
        return answer_to(event, take, peer.sender.name), None

    def _on_c_store(self, event: evt.Event) -> Dataset:
        """pynetdicom's way to a C-STORE, where `fast_pdu` did not take it."""
        message = cast(C_STORE, event.request)
        request = StoreRequest(
            context_id=event.context.context_id,
            transfer_syntax_uid=str(event.context.transfer_syntax),
            message_id=cast(int, message.MessageID),
            sop_class_uid=str(message.AffectedSOPClassUID),
            sop_instance_uid=str(message.AffectedSOPInstanceUID),
        )
        body = event.encoded_dataset(include_meta=False)
        try:
            head = file_meta(request)
        except (UnicodeEncodeError, ValueError):
            verdict = Verdict(status=CANNOT_UNDERSTAND, comment=InvalidDicom.code)
        else:
            fits = len(head) + len(body) <= self._options.maximum_object
            verdict = self._file(event.assoc, request, head + body if fits else b"")
        answer = Dataset()
        answer.Status = verdict.status
        if verdict.comment:
            answer.ErrorComment = verdict.comment[:64]
        return answer

    def _file(self, assoc: Association, request: StoreRequest, data: bytes | memoryview) -> Verdict:
        """File one object and say how it went. Nothing that a sender sends makes it raise."""
        peer = self._peers.get(assoc)
        if peer is None:  # cannot be: such an association was rejected
            return Verdict(status=PROCESSING_FAILURE)
        self._filing.add(assoc)
        try:
            if not len(data):
                raise TooLarge("An object larger than this receiver takes.")
            if not _same_instance(request, data):
                log.warning("object_mismatched", **_facts(peer, request))
                return Verdict(status=MISMATCH, comment="AffectedSOPInstanceUID is not the data set's")
            filed = self._sink.receive(peer.tenant, data, peer.sender, name=request.sop_instance_uid)
        except OverreadError as error:
            log.warning("object_refused", code=error.code, **_facts(peer, request))
            return verdict_of(error)
        except Exception as error:  # noqa: BLE001 - the outermost loop of an association: the next object may be well
            # Where, not what: the message of a foreign error may quote the object.
            where = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
            log.error("object_failed", error=type(error).__name__, where=where, **_facts(peer, request))
            return verdict_of(error)
        finally:
            self._filing.discard(assoc)
        if filed.outcome is ReceiveOutcome.QUARANTINED:
            log.warning("object_quarantined", study_id=str(filed.study_id), **_facts(peer, request))
            return _QUARANTINED
        return Verdict(status=SUCCESS)


def _facts(peer: _Peer, request: StoreRequest) -> dict[str, Any]:
    """For the log: who and which kind, never which patient."""
    return {
        "tenant": peer.tenant.slug,
        "address": peer.sender.address,
        "calling_ae": peer.sender.name,
        "sop_class_uid": request.sop_class_uid,
        "transfer_syntax_uid": request.transfer_syntax_uid,
    }


_EXPLICIT_UID: Final = re.compile(rb"\x08\x00\x18\x00(?:UI)(..)([0-9.]{1,64}[\0 ]*)", re.DOTALL)
_IMPLICIT_UID: Final = re.compile(rb"\x08\x00\x18\x00(..)\x00\x00([0-9.]{1,64}[\0 ]*)", re.DOTALL)


def _same_instance(request: StoreRequest, data: bytes | memoryview) -> bool:
    """False if SOPInstanceUID (0008,0018), where it lies in the first 4 KiB, is not AffectedSOPInstanceUID (0000,1000).

    Only little endian and not deflated; for the others, and without the element, the index decides what it is.
    """
    head = bytes(data[132:4096])
    at = head.find(b"\x08\x00\x18\x00")
    if at < 0:
        return True
    found = _EXPLICIT_UID.match(head, at) or _IMPLICIT_UID.match(head, at)
    if found is None:
        return True
    uid = found[2][: int.from_bytes(found[1], "little")].rstrip(b"\0 ")
    return uid == request.sop_instance_uid.encode("ascii", "replace")
