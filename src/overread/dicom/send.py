"""Send files by C-STORE (PS3.4 annex B), bytes as they are: the demo's modality, and later the way back to a PACS."""

from __future__ import annotations

import itertools
import socket
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

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


def send_files(
    files: Iterable[tuple[str, bytes]], *, host: str, port: int, called_ae: str, calling_ae: str = "OVERREAD_SCU"
) -> Iterator[tuple[str, bytes, Sent]]:
    """Send (name, bytes) pairs and tell of each what became of it; a file that is no DICOM is not sent.

    Raises `SetupError` if no association can be had.
    """
    for batch in _batches(files, _BATCH):
        readable: list[Readable] = []
        for name, data in batch:
            try:
                readable.append(Readable(name=name, data=data, record=index(data, name=name)))
            except OverreadError as error:
                yield name, data, Sent(accepted=False, reason=f"{error.code}: {error}")
        if readable:
            yield from _send(readable, host, port, called_ae, calling_ae)


def _batches(files: Iterable[tuple[str, bytes]], size: int) -> Iterator[list[tuple[str, bytes]]]:
    iterator = iter(files)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _send(
    files: list[Readable], host: str, port: int, called_ae: str, calling_ae: str
) -> Iterator[tuple[str, bytes, Sent]]:
    _config.STORE_SEND_CHUNKED_DATASET = True  # a path is sent as it lies on disk, never decoded
    entity = AE(ae_title=calling_ae)
    wanted = {(f.record.sop_class_uid, f.record.transfer_syntax_uid) for f in files}
    contexts = [build_context(abstract, transfer) for abstract, transfer in sorted(wanted)]
    association = entity.associate(
        host, port, contexts=contexts, ae_title=called_ae, max_pdu=131072, evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)]
    )
    if not association.is_established:
        raise SetupError(
            f"{called_ae} on {host}:{port} refused the association.",
            remedy="Register this sender's AE title and address there.",
        )
    try:
        with tempfile.TemporaryDirectory(prefix="overread-send-") as folder:
            path = Path(folder) / "object.dcm"
            for number, file in enumerate(files, start=1):
                path.write_bytes(with_meta(file))
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
