"""Send files by C-STORE (PS3.4 annex B), bytes as they are: the demo's modality, and later the way back to a PACS."""

from __future__ import annotations

import itertools
import os
import socket
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.presentation import build_context

from overread.dicom.read import index
from overread.dicom.scan import DEFLATED, scan
from overread.domain.errors import OverreadError, SetupError
from overread.domain.study import InstanceRecord

#: Files negotiated and sent over one association; at most 128 presentation contexts fit into one.
_BATCH = 100
_SUCCESS = 0x0000
#: MediaStorageSOPClassUID, MediaStorageSOPInstanceUID, TransferSyntaxUID: what a C-STORE is made from.
_MEDIA_STORAGE = frozenset({0x00020002, 0x00020003, 0x00020010})


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What the peer answered."""

    accepted: bool
    #: Why not, with the status.
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Readable:
    """A file that is DICOM, with what the index knows of it."""

    name: str
    data: bytes
    record: InstanceRecord


@dataclass(frozen=True, kw_only=True)
class SenderTls:
    """How a sender speaks TLS."""

    context: ssl.SSLContext
    #: The name that the peer's certificate must have; None: the host that is called.
    name: str | None = None


def sender_tls(
    peers: Path, certificate: Path | None = None, key: Path | None = None, *, name: str | None = None
) -> SenderTls:
    """TLS 1.3 and nothing older, to peers whose certificate `peers` (PEM) covers and that has the called name.

    `certificate` and `key` are ours, for peers that ask who sends. Raises `SetupError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(peers)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SetupError(f"The DICOM sender cannot use its TLS certificates or key: {error}.") from error
    return SenderTls(context=context, name=name)


def send_files(
    files: Iterable[tuple[str, bytes]],
    *,
    host: str,
    port: int,
    called_ae: str,
    calling_ae: str = "OVERREAD_SCU",
    tls: SenderTls | None = None,
) -> Iterator[tuple[str, bytes, Sent]]:
    """Send (name, bytes) pairs and tell of each what became of it; a file that is no DICOM is not sent.

    With `tls` nothing goes out unless the peer proved who it is. Raises `SetupError` if no association can be had.
    """
    for batch in _batches(files, _BATCH):
        readable: list[Readable] = []
        for name, data in batch:
            try:
                readable.append(Readable(name=name, data=data, record=index(data, name=name)))
            except OverreadError as error:
                yield name, data, Sent(accepted=False, reason=f"{error.code}: {error}")
        if readable:
            yield from _send(readable, host, port, called_ae, calling_ae, tls)


def _batches(files: Iterable[tuple[str, bytes]], size: int) -> Iterator[list[tuple[str, bytes]]]:
    iterator = iter(files)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _send(
    files: list[Readable], host: str, port: int, called_ae: str, calling_ae: str, tls: SenderTls | None
) -> Iterator[tuple[str, bytes, Sent]]:
    _config.STORE_SEND_CHUNKED_DATASET = True  # a path is sent as it lies on disk, never decoded
    entity = AE(ae_title=calling_ae)
    wanted = {(f.record.sop_class_uid, f.record.transfer_syntax_uid) for f in files}
    contexts = [build_context(abstract, transfer) for abstract, transfer in sorted(wanted)]
    association = entity.associate(
        host,
        port,
        contexts=contexts,
        ae_title=called_ae,
        max_pdu=131072,
        tls_args=None if tls is None else (tls.context, tls.name or host),
        evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)],
    )
    if not association.is_established:
        raise SetupError(
            f"{called_ae} on {host}:{port} refused the association.",
            remedy="Register this sender's AE title and address there."
            if tls is None
            else "Register it there; each side must trust the other's certificate and speak TLS 1.3.",
        )
    try:
        with _nameless() as memory:
            path = Path(f"/proc/self/fd/{memory.fileno()}")
            for number, file in enumerate(files, start=1):
                memory.seek(0)
                memory.truncate()
                memory.write(with_meta(file))
                memory.flush()
                try:
                    answer = association.send_c_store(path, msg_id=number)
                except (
                    AttributeError,
                    ValueError,
                    RuntimeError,
                ) as error:  # no file meta, context not accepted, aborted
                    yield file.name, file.data, Sent(accepted=False, reason=str(error).splitlines()[0])
                    continue
                status = answer.get("Status")
                if status is None:
                    yield file.name, file.data, Sent(accepted=False, reason="no answer: the association was lost")
                elif status == _SUCCESS or 0xB000 <= status <= 0xBFFF:
                    yield file.name, file.data, Sent(accepted=True)
                else:
                    comment = answer.get("ErrorComment", "")
                    yield file.name, file.data, Sent(accepted=False, reason=f"0x{status:04X} {comment}".strip())
    finally:
        association.release()


def _nameless() -> IO[bytes]:
    """A file in memory that no other process can find: what is sent is never written to a disk."""
    return os.fdopen(os.memfd_create("overread-send", os.MFD_CLOEXEC), "w+b")


def with_meta(file: Readable) -> bytes:
    """The file, with File Meta Information (PS3.10 7.1) that names its instance: published files often lack that.

    The data set stays as it is, so that a missing SOPInstanceUID (0008,0018) stays missing in it.
    """
    scanned = scan(file.data, file.name)
    named = {tag for tag, (_vr, start, end) in scanned.meta.items() if end > start}
    if named >= _MEDIA_STORAGE or scanned.transfer_syntax_uid in DEFLATED:
        return file.data
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(file.record.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(file.record.sop_instance_uid)
    meta.TransferSyntaxUID = UID(file.record.transfer_syntax_uid)
    written = DicomBytesIO()
    written.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(written, meta)
    return written.getvalue() + bytes(file.data[scanned.start :])


def _no_delay(event: evt.Event) -> None:
    """Else each object waits about 50 ms: its last short packet for an acknowledgement that the peer delays."""
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
