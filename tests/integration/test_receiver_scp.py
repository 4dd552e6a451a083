"""The SCP with pynetdicom and a raw peer as senders, by the short way and by pynetdicom's own: they must not differ."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from io import BytesIO
from typing import Any

import pydicom
import pytest
import structlog
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import ALL_TRANSFER_SYNTAXES

from overread.dicom import fast_pdu
from overread.dicom.receive import ReceiveOptions, verdict_of
from overread.dicom.store_message import IMPLEMENTATION_CLASS_UID, StoreRequest, Verdict, command_of, file_meta
from overread.domain.errors import (
    DuplicateUid,
    InvalidDicom,
    ModelTimeout,
    OverreadError,
    PixelDataMismatch,
    StorageFull,
    StoreUnavailable,
    TooLarge,
)
from overread.domain.study import ReceiveOutcome, TenantId
from tests.receiving import (
    CT,
    DEMO,
    EXPLICIT,
    Gate,
    KnownSenders,
    RawPeer,
    RememberingSink,
    association,
    data_set_of,
    fragment,
    p_data,
    running,
    store_command,
)

JPEG_XL = [f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112)]
PRIVATE_SYNTAX = "1.2.826.0.1.3680043.10.999.77"
PRIVATE_CLASS = "1.2.826.0.1.3680043.10.999.88"
UNKNOWN_CLASS = "1.2.840.10008.5.1.4.1.1.9999"
MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture(params=[True, False], ids=["short", "stock"])
def fast(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def options(fast: bool, **changes: Any) -> ReceiveOptions:
    return ReceiveOptions(fast=fast, **changes)


def instance(number: int) -> str:
    return f"1.2.826.0.1.3680043.10.999.1.{number}"


def data_set(uid: str, size: int = 100) -> bytes:
    """An explicit little endian data set that names `uid`, and then bytes that no parser would like."""
    text = uid.encode() + b"\0" * (len(uid) % 2)
    head = b"\x08\x00\x18\x00UI" + len(text).to_bytes(2, "little") + text
    return head + random.Random(uid).randbytes(size)


def part10(uid: str, sop_class: str, transfer_syntax: str, body: bytes) -> bytes:
    request = StoreRequest(
        context_id=1, transfer_syntax_uid=transfer_syntax, message_id=1, sop_class_uid=sop_class, sop_instance_uid=uid
    )
    return file_meta(request) + body


def store(assoc: Any, uid: str, body: bytes, *, sop_class: str = CT, transfer_syntax: str = EXPLICIT) -> Any:
    """C-STORE of the body's very bytes; the answer's data set."""
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID = 9
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID, request.Priority = sop_class, uid, 2
    request.DataSet = BytesIO(body)
    context = next(
        c for c in assoc.accepted_contexts if (c.abstract_syntax, c.transfer_syntax[0]) == (sop_class, transfer_syntax)
    )
    if assoc._reactor_checkpoint.is_set():  # from now on the answers are ours to read
        assoc._reactor_checkpoint.clear()
        time.sleep(0.05)
        while not assoc._is_paused:
            time.sleep(0.01)
    assoc.dimse.send_msg(request, context.context_id)
    _, answer = assoc.dimse.get_msg(block=True)
    return answer


def test_every_transfer_syntax_is_kept_as_it_came(fast: bool) -> None:
    syntaxes = [*map(str, AllTransferSyntaxes), *map(str, ALL_TRANSFER_SYNTAXES), *JPEG_XL, PRIVATE_SYNTAX]
    syntaxes = list(dict.fromkeys(syntaxes))
    sizes = itertools.cycle([0, 1, 99, 16371, 16372, 16373, 131072, 2_500_000])
    bodies = {uid: data_set(instance(n), next(sizes)) for n, uid in enumerate(syntaxes)}
    sink = RememberingSink()
    with (
        running(sink, options=options(fast)) as (port, _),
        association(port, *((CT, uid) for uid in syntaxes)) as assoc,
    ):
        assert {str(c.transfer_syntax[0]) for c in assoc.accepted_contexts} == set(syntaxes)
        for number, (uid, body) in enumerate(bodies.items()):
            assert store(assoc, instance(number), body, transfer_syntax=uid).Status == 0, uid
    assert len(sink.files) == len(syntaxes)
    for number, (uid, (tenant, data, sender, name)) in enumerate(zip(syntaxes, sink.files, strict=True)):
        assert data_set_of(data) == bodies[uid], uid
        assert data == part10(instance(number), CT, uid, bodies[uid])
        assert (tenant, sender.channel, sender.name, sender.address) == (DEMO, "dicom", "TESTER", "127.0.0.1")
        assert name == instance(number)
    meta = pydicom.dcmread(
        BytesIO(sink.files[5][1]), stop_before_pixels=True, specific_tags=["SOPInstanceUID"]
    ).file_meta
    assert meta.MediaStorageSOPInstanceUID == instance(5)
    assert meta.TransferSyntaxUID == syntaxes[5]
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID


def test_storage_classes_known_or_not_and_nothing_else(fast: bool) -> None:
    wanted = [CT, PRIVATE_CLASS, UNKNOWN_CLASS, VERIFICATION, MODALITY_WORKLIST, STORAGE_COMMITMENT]
    with (
        running(RememberingSink(), options=options(fast)) as (port, _),
        association(port, *((uid, EXPLICIT) for uid in wanted)) as assoc,
    ):
        assert {str(c.abstract_syntax) for c in assoc.accepted_contexts} == set(wanted[:4])
        assert store(assoc, instance(1), data_set(instance(1)), sop_class=PRIVATE_CLASS).Status == 0
        assert assoc.send_c_echo().Status == 0
        assert store(assoc, instance(2), data_set(instance(2)), sop_class=UNKNOWN_CLASS).Status == 0
        assert assoc.send_c_echo().Status == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreUnavailable("down"), 0xA700),
        (StorageFull("full"), 0xA700),
        (ModelTimeout("slow"), 0xA700),
        (OSError(5, "Input/output error"), 0xA700),
        (MemoryError(), 0xA700),
        (InvalidDicom("no"), 0xC000),
        (PixelDataMismatch("no"), 0xC000),
        (TooLarge("big"), 0xC000),
        (DuplicateUid("other pixels"), 0xB000),
        (OverreadError("?"), 0x0110),
        (KeyError("a fault of ours"), 0x0110),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else f"{value:04X}",
)
def test_answer_by_class_of_error(error: Exception, status: int, fast: bool) -> None:
    """And the association goes on: the next object is filed."""

    def then(data: bytes) -> ReceiveOutcome:
        if instance(2).encode() in data:
            raise error
        return ReceiveOutcome.STORED

    assert verdict_of(error).status == status
    with running(RememberingSink(then=then), options=options(fast)) as (port, _), association(port) as assoc:
        answers = [store(assoc, instance(n), data_set(instance(n))) for n in (1, 2, 3)]
    assert [answer.Status for answer in answers] == [0, status, 0]
    comment = str(answers[1].ErrorComment)
    assert 0 < len(comment) <= 64


@pytest.mark.parametrize("outcome", list(ReceiveOutcome))
def test_answer_by_outcome(outcome: ReceiveOutcome, fast: bool) -> None:
    sink = RememberingSink(then=lambda data: outcome)
    with running(sink, options=options(fast)) as (port, _), association(port) as assoc:
        answer = store(assoc, instance(1), data_set(instance(1)))
    quarantined = outcome is ReceiveOutcome.QUARANTINED
    assert answer.Status == (0xB000 if quarantined else 0)
    assert ("quarantine" in str(answer.ErrorComment)) is quarantined


def test_a_data_set_of_another_instance_is_refused(fast: bool) -> None:
    sink = RememberingSink()
    with running(sink, options=options(fast)) as (port, _), association(port) as assoc:
        assert store(assoc, instance(1), data_set(instance(2))).Status == 0xA900
        assert store(assoc, instance(2), data_set(instance(2))).Status == 0
        assert store(assoc, instance(3), b"\x08\x00\x18\x00junk").Status == 0, "the index decides about junk"
    assert len(sink.files) == 2


def test_too_large_is_read_to_its_end_and_refused(fast: bool) -> None:
    sink = RememberingSink()
    limits = options(fast, maximum_object=1_500_000)
    with running(sink, options=limits) as (port, _), association(port) as assoc:
        answers = [
            store(assoc, instance(n), data_set(instance(n), size)).Status
            for n, size in enumerate([1_400_000, 1_600_000, 9_000_000, 1_400_000])
        ]
    assert answers == [0, 0xC000, 0xC000, 0]
    assert [data_set_of(data) for _, data, _, _ in sink.files] == [data_set(instance(n), 1_400_000) for n in (0, 3)]


@pytest.mark.parametrize("seed", range(6))
def test_however_it_is_cut_into_fragments(seed: int, fast: bool) -> None:
    """Commands and data in any number of fragments, fragments in any number of PDUs (PS3.8 Annex E.1)."""
    rng = random.Random(seed)
    sink = RememberingSink()
    bodies = [data_set(instance(n), rng.choice([0, 1, 500, 40_000])) for n in range(6)]

    def pieces(data: bytes, more: int, last: int) -> list[bytes]:
        cuts = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.randrange(5)))})
        parts = [data[a:b] for a, b in itertools.pairwise(cuts)]
        return [fragment(last if n == len(parts) - 1 else more, part) for n, part in enumerate(parts)]

    with running(sink, options=options(fast)) as (port, _):
        peer = RawPeer(port)
        assert peer.pdu()[0] == 2
        for number, body in enumerate(bodies):
            # PS3.7 6.3: the command first. Both may share a PDU (PS3.8 E.1 forbids mixing contexts only).
            waiting = pieces(store_command(instance(number)), 0b01, 0b11) + pieces(body, 0b00, 0b10)
            stream = b""
            while waiting:
                take = rng.randrange(1, len(waiting) + 1)
                stream += p_data(*waiting[:take])
                del waiting[:take]
            while stream:  # and TCP cuts where it likes
                take = rng.randrange(1, len(stream) + 1)
                peer.send(stream[:take])
                stream = stream[take:]
            assert peer.answer() == 0
        peer.send(b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00")
        assert peer.pdu()[0] == 6
        peer.close()
    assert [data for _, data, _, _ in sink.files] == [
        part10(instance(n), CT, EXPLICIT, body) for n, body in enumerate(bodies)
    ]


COMMAND = store_command(instance(1))
HOSTILE = {
    "no DICOM": b"GET / HTTP/1.1\r\n\r\n",
    "unknown PDU": b"\x63\x00\x00\x00\x00\x04abcd",
    "a PDU of 4 GiB that is not data": b"\x01\x00\xff\xff\xff\xff" + b"x" * 100,
    "release of 4 GiB": b"\x05\x00\xff\xff\xff\xff" + b"x" * 100,
    "fragment longer than its PDU": b"\x04\x00\x00\x00\x00\x10\xff\xff\xff\xff\x01\x03" + b"x" * 10,
    "fragment of one byte": b"\x04\x00\x00\x00\x00\x05\x00\x00\x00\x01\x01",
    "fragment of nothing": p_data(b"\x00\x00\x00\x00"),
    "data without a command": p_data(fragment(0b10, b"x" * 100)),
    "data for another context": p_data(fragment(0b11, COMMAND), fragment(0b10, b"x" * 100, context=3)),
    "command in the middle of data": p_data(
        fragment(0b11, COMMAND), fragment(0b00, b"x" * 100), fragment(0b11, COMMAND)
    ),
    "command for a context that was not accepted": p_data(fragment(0b11, COMMAND, context=9), fragment(0b10, b"x", 9)),
    "command that is junk": p_data(fragment(0b11, b"\xff" * 50)),
    "command without end": p_data(fragment(0b01, b"\0" * 16000)) * 20,
    "two messages in one PDU": p_data(
        fragment(0b11, COMMAND), fragment(0b10, data_set(instance(1))), fragment(0b11, COMMAND), fragment(0b00, b"x")
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_peer_ends_its_own_association_only(attack: str) -> None:
    """Closed or aborted, or at least not answered with success; others go on, and the process too."""
    sink = RememberingSink()
    limits = options(True, network_timeout_s=4.0, acse_timeout_s=4.0)
    with running(sink, options=limits) as (port, _), association(port) as honest:
        peer = RawPeer(port)
        assert peer.pdu()[0] == 2
        peer.send(HOSTILE[attack])
        kinds = []
        while kind := peer.pdu()[0]:
            kinds.append(kind)
        peer.close()
        assert 7 in kinds or not kinds, f"aborted or closed, not {kinds}"
        assert store(honest, instance(5), data_set(instance(5))).Status == 0
    assert [name for *_, name in sink.files if name != instance(1)] == [instance(5)]


def test_what_was_cut_off_is_not_filed(fast: bool) -> None:
    """The sender vanishes in mid-object, politely or not: what was acknowledged stays, the rest was never there."""
    sink = RememberingSink()
    with running(sink, options=options(fast)) as (port, _):
        for ending in (b"", b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00", b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"):
            peer = RawPeer(port)
            assert peer.pdu()[0] == 2
            peer.send(p_data(fragment(0b11, COMMAND)) + p_data(fragment(0b10, data_set(instance(1)))))
            assert peer.answer() == 0
            peer.send(p_data(fragment(0b11, COMMAND)) + p_data(fragment(0b00, b"x" * 5000)) + ending)
            time.sleep(0.05)
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST
            peer.close()
        with association(port) as assoc:
            assert store(assoc, instance(2), data_set(instance(2))).Status == 0
    assert [name for *_, name in sink.files] == [instance(1)] * 3 + [instance(2)]


def test_unknown_senders_are_rejected_and_logged(fast: bool) -> None:
    sink = RememberingSink()
    with structlog.testing.capture_logs() as logs, running(sink, options=options(fast)) as (port, _):
        peer = RawPeer(port, called="SOMEWHERE")
        assert peer.pdu() == (3, b"\x00\x01\x01\x03"), "permanent, service user, calling AE title not recognised"
        peer.close()
    line = next(entry for entry in logs if entry["event"] == "association_rejected")
    assert (line["calling_ae"], line["called_ae"], line["address"]) == ("RAW", "SOMEWHERE", "127.0.0.1")
    assert not sink.files


@pytest.mark.parametrize("error", [StoreUnavailable("down"), ValueError("a fault of ours")])
def test_who_cannot_be_known_now_is_asked_to_come_again(error: Exception, fast: bool) -> None:
    with running(RememberingSink(), KnownSenders(error=error), options(fast)) as (port, _):
        peer = RawPeer(port)
        assert peer.pdu() == (3, b"\x00\x02\x03\x01"), "transient, presentation, temporary congestion"
        peer.close()


def test_tenant_by_called_title_and_address(fast: bool) -> None:
    north, south = TenantId(slug="north"), TenantId(slug="south")
    known = {("NORTH", "127.0.0.1"): north, ("SOUTH", "127.0.0.2"): south}
    sink = RememberingSink()
    with running(sink, KnownSenders(known=known), options(fast)) as (port, _):
        for called, source, tenant in (("NORTH", "127.0.0.1", north), ("SOUTH", "127.0.0.2", south)):
            with association(port, called=called, bind_address=(source, 0)) as assoc:
                assert store(assoc, instance(1), data_set(instance(1))).Status == 0
            assert sink.files[-1][0] == tenant
        for called, source in (("NORTH", "127.0.0.2"), ("SOUTH", "127.0.0.1"), ("NORTH", "127.0.0.3")):
            with association(port, called=called, bind_address=(source, 0)) as assoc:
                assert assoc.is_rejected


def test_no_more_associations_than_allowed(fast: bool) -> None:
    with running(RememberingSink(), options=options(fast, maximum_associations=2)) as (port, _):
        peers = [RawPeer(port) for _ in range(2)]
        assert [peer.pdu()[0] for peer in peers] == [2, 2]
        third = RawPeer(port)
        assert third.pdu() == (3, b"\x00\x02\x03\x02"), "transient, presentation, local limit exceeded"
        for peer in [*peers, third]:
            peer.close()


def test_silent_peers_are_dropped(fast: bool) -> None:
    limits = options(fast, network_timeout_s=1.0, acse_timeout_s=1.0)
    with running(RememberingSink(), options=limits) as (port, _):
        mute = socket.create_connection(("127.0.0.1", port), timeout=10)
        assert mute.recv(100) == b"", "no A-ASSOCIATE-RQ"
        mute.close()
        peer = RawPeer(port)
        assert peer.pdu()[0] == 2
        peer.send(p_data(fragment(0b11, COMMAND)) + p_data(fragment(0b00, b"x" * 5000))[:-100])
        assert peer.pdu()[0] in (0, 7), "cut off in mid-object"
        peer.close()


def test_stop_finishes_the_object_in_flight(fast: bool) -> None:
    gate = Gate()
    sink = RememberingSink(then=gate)
    with running(sink, options=options(fast)) as (port, scp):
        idle, busy = RawPeer(port), RawPeer(port)
        assert (idle.pdu()[0], busy.pdu()[0]) == (2, 2)
        busy.send(p_data(fragment(0b11, COMMAND)) + p_data(fragment(0b10, data_set(instance(1)))))
        assert gate.entered.wait(10)
        stopping = threading.Thread(target=scp.stop, args=(15.0,))
        stopping.start()
        endings = (7,) if fast else (7, 0)  # pynetdicom may close before it said so
        assert idle.pdu()[0] in endings, "nothing in flight: ended at once"
        assert stopping.is_alive()
        gate.open.set()
        assert busy.answer() == 0
        assert busy.pdu()[0] in endings
        stopping.join(10)
        assert not stopping.is_alive()
        idle.close()
        busy.close()
    assert len(sink.files) == 1


def test_logs_hold_no_patient(fast: bool) -> None:
    """Neither what was received nor what an error quotes."""

    def then(data: bytes) -> ReceiveOutcome:
        raise RuntimeError("cannot file SECRET^PATIENT of 1970")

    with (
        structlog.testing.capture_logs() as logs,
        running(RememberingSink(then=then), options=options(fast)) as (port, _),
        association(port) as assoc,
    ):
        assert store(assoc, instance(1), data_set(instance(1)) + b"SECRET^PATIENT").Status == 0x0110
    text = repr(logs)
    assert "object_failed" in text
    assert "RuntimeError" in text
    assert "SECRET" not in text
    assert "1970" not in text


def test_another_pynetdicom_takes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_pdu, "KNOWN_VERSIONS", ("2.0.2",))
    monkeypatch.setattr(fast_pdu, "upgrade", lambda *_, **__: pytest.fail("not for this version"))
    sink = RememberingSink()
    with structlog.testing.capture_logs() as logs, running(sink) as (port, _), association(port) as assoc:
        assert store(assoc, instance(1), data_set(instance(1))).Status == 0
    assert any(entry["event"] == "receiver_slow" for entry in logs)
    assert sink.files[0][1] == part10(instance(1), CT, EXPLICIT, data_set(instance(1)))


def test_the_installed_pynetdicom_is_a_known_one() -> None:
    """A new release must be looked at (`fast_pdu`) before it is listed; until then the receiver is slow."""
    assert fast_pdu.usable()


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        COMMAND[:-1],
        COMMAND + b"\0",
        COMMAND.replace(b"\x00\x08\x02\x00\x00\x00\x00\x00", b"\x00\x08\x02\x00\x00\x00\x01\x01"),
        COMMAND.replace(b"\x00\x01\x02\x00\x00\x00\x01\x00", b"\x00\x01\x02\x00\x00\x00\x30\x00"),
        store_command("../../etc"),
        store_command(""),
        store_command("1" * 65),
        store_command("1.2", sop_class="x"),
        b"\x08\x00" + COMMAND[2:],
    ],
)
def test_command_sets_that_the_short_way_leaves_alone(broken: bytes) -> None:
    assert command_of(broken, context_id=1, transfer_syntax_uid=EXPLICIT) is None


def test_answer_in_pdus_as_small_as_the_peer_asks() -> None:
    from overread.dicom.store_message import response

    request = command_of(COMMAND, context_id=1, transfer_syntax_uid=EXPLICIT)
    assert request is not None
    verdict = Verdict(status=0xA700, comment="a\\b ä" + "x" * 100)
    whole = next(response(request, verdict, maximum=0))
    for maximum in (7, 50, 128, 16384):
        pdus = list(response(request, verdict, maximum=maximum))
        assert all(len(pdu) <= maximum + 6 for pdu in pdus)
        assert b"".join(pdu[12:] for pdu in pdus) == whole[12:]
        assert [pdu[11] for pdu in pdus] == [1] * (len(pdus) - 1) + [3]
    assert b"a/b ?xxx" in whole
