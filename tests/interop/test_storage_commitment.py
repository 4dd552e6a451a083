"""Orthanc is the PACS: asked by N-ACTION, it says by N-EVENT-REPORT on an association of its own what it keeps."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import build_context
from tests.conftest import _peer
from tests.fakes import FakeClock, FakeDatabase, FakeObjects
from tests.receiving import DEMO, KnownSenders

from overread.dicom.commitment import CommitmentScu
from overread.dicom.listener import listen
from overread.dicom.read import PydicomParser
from overread.dicom.receive import ReceiveOptions, StorageScp
from overread.dicom.send import send_files
from overread.domain.study import TenantId
from overread.services.assemble import AssembleService
from overread.services.custody import CustodyService
from overread.services.custody_ports import Pacs, RequestState
from overread.services.receive import ReceiveService
from overread.services.retention import RetentionService
from overread.services.tenant_settings import TenantSettings

COMMITMENT = "1.2.840.10008.1.20.1"
INSTANCE = "1.2.840.10008.1.20.1.1"
THEIRS = TenantId(slug="theirs")


@pytest.fixture(scope="session")
def orthanc_binary() -> str:
    return _peer("Orthanc", "orthanc")


class Ours:
    """Receiver and services of two hospitals on a fake database; DICOM is real."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clock = FakeClock()
        self.database = FakeDatabase()
        self.objects = FakeObjects(self.clock)
        self.receive = ReceiveService(
            database=self.database,
            objects=self.objects,
            parser=PydicomParser(),
            assemble=AssembleService(database=self.database, clock=self.clock),
            clock=self.clock,
        )
        self.custody = CustodyService(
            database=self.database, clock=self.clock, peer=CommitmentScu(timeout_s=5.0, linger_s=0.2)
        )
        self.retention = RetentionService(
            database=self.database,
            objects=self.objects,
            clock=self.clock,
            choices=lambda _tenant: TenantSettings(received_days=0),
        )

    def send(self, *files: bytes, called: str = "OVERREAD") -> None:
        named = [(f"file {n}", data) for n, data in enumerate(files)]
        for _, _, sent in send_files(named, host="127.0.0.1", port=self.port, called_ae=called):
            assert sent.accepted, sent.reason

    def assemble(self) -> None:
        with self.database.unit(DEMO) as unit:
            for study in list(self.database.state(DEMO).studies):
                unit.studies.assemble(study)

    def ask(self, pacs: Pacs) -> Any:
        self.custody.set_pacs(DEMO, pacs, by="test")
        self.clock.advance(hours=1)
        return self.custody.ask(DEMO)

    def kept_by(self, tenant: TenantId = DEMO) -> dict[str, str | None]:
        return {k.sop_instance_uid: k.ae for k in self.database.state(tenant).custody.kept.values()}

    def last_request(self) -> Any:
        return list(self.database.state(DEMO).custody.requests.values())[-1]

    def answered(self, timeout_s: float = 20.0) -> bool:
        ended = time.monotonic() + timeout_s
        while time.monotonic() < ended:
            if self.last_request().state is RequestState.ANSWERED:
                return True
            time.sleep(0.05)
        return False


@pytest.fixture
def ours() -> Iterator[Ours]:
    with listen("127.0.0.1", 0) as listening:
        made = Ours(listening.getsockname()[1])
        senders = KnownSenders(known={("OVERREAD", "127.0.0.1"): DEMO, ("THEIRS", "127.0.0.1"): THEIRS})
        scp = StorageScp(made.receive, senders, ReceiveOptions(), made.custody)
        scp.start(listening)
        try:
            yield made
        finally:
            scp.stop(5.0)


@dataclass(frozen=True)
class Orthanc:
    pacs: Pacs
    http: int


@pytest.fixture
def orthanc(ours: Ours, orthanc_binary: str, tmp_path: Path) -> Iterator[Orthanc]:
    dicom, http = free_port(), free_port()
    settings = {
        "Name": "Archive",
        "StorageDirectory": str(tmp_path / "db"),
        "IndexDirectory": str(tmp_path / "db"),
        "Plugins": [],
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "DicomAlwaysAllowStore": True,
        "DicomModalities": {"overread": ["OVERREAD", "127.0.0.1", ours.port]},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with (tmp_path / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([orthanc_binary, str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    try:
        wait_for(http)
        wait_for(dicom)
        yield Orthanc(
            pacs=Pacs(ae_title="ORTHANC", host="127.0.0.1", port=dicom, own_ae_title="OVERREAD", ask_after_hours=0),
            http=http,
        )
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    ended = time.monotonic() + 30.0
    while time.monotonic() < ended:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.1)
    pytest.fail(f"nothing listens on {port}")


def ct_files(count: int) -> list[bytes]:
    """Slices of one study; `_files` of pydicom's own small CT."""
    made = []
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    for number in range(1, count + 1):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber = number
        written = BytesIO()
        dataset.save_as(written)
        made.append(written.getvalue())
    return made


def uid_of(data: bytes) -> str:
    return str(pydicom.dcmread(BytesIO(data), stop_before_pixels=True).SOPInstanceUID)


def store_in(orthanc: Orthanc, *files: bytes) -> None:
    for data in files:
        request = urllib.request.Request(f"http://127.0.0.1:{orthanc.http}/instances", data=data, method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200


def test_what_orthanc_keeps_may_go_and_what_it_does_not_have_stays(ours: Ours, orthanc: Orthanc) -> None:
    files = ct_files(3)
    ours.send(*files)
    ours.assemble()
    store_in(orthanc, *files[:2])
    assert ours.ask(orthanc.pacs).instances == 3
    assert ours.answered()
    uids = [uid_of(data) for data in files]
    assert ours.kept_by() == {uids[0]: "ORTHANC", uids[1]: "ORTHANC", uids[2]: None}
    assert ours.retention.run(DEMO).instances == 2
    assert [kept.key for kept in ours.objects.list(DEMO)] == [
        k.object_key for k in ours.database.state(DEMO).custody.kept.values() if k.sop_instance_uid == uids[2]
    ]
    # Sent to it later, and asked again a day later: then that one too.
    store_in(orthanc, files[2])
    ours.clock.advance(hours=25)
    assert ours.ask(orthanc.pacs).instances == 1
    assert ours.answered()
    assert ours.retention.run(DEMO).instances == 1


def test_all_of_orthancs_refusals_keep_everything(ours: Ours, orthanc: Orthanc) -> None:
    files = ct_files(2)
    ours.send(*files)
    ours.assemble()
    assert ours.ask(orthanc.pacs).instances == 2
    assert ours.answered()
    assert set(ours.kept_by().values()) == {None}
    assert ours.retention.run(DEMO).instances == 0
    assert len(list(ours.objects.list(DEMO))) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pacs_that_is_not_there_keeps_everything(ours: Ours) -> None:
    """pynetdicom 3.0.4 forgets to close the socket of a connection that was refused; it goes with the collector."""
    ours.send(*ct_files(1))
    ours.assemble()
    done = ours.ask(Pacs(ae_title="ORTHANC", host="127.0.0.1", port=free_port(), ask_after_hours=0))
    gc.collect()
    assert (done.requests, done.failed) == (0, 1)
    assert ours.last_request().state is RequestState.FAILED
    assert ours.retention.run(DEMO).instances == 0


def report(
    port: int,
    transaction: str,
    uids: list[str],
    *,
    calling: str = "ORTHANC",
    called: str = "OVERREAD",
    roles: bool = True,
) -> int | None:
    """What a PACS that says it keeps `uids` is answered; None if its association is not taken."""
    entity = AE(ae_title=calling)
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = pydicom.uid.UID(COMMITMENT), False, True
    association = entity.associate(
        "127.0.0.1", port, contexts=[build_context(COMMITMENT)], ae_title=called, ext_neg=[role] if roles else []
    )
    if not association.is_established:
        return None
    information = Dataset()
    information.TransactionUID = pydicom.uid.UID(transaction)
    information.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
        information.ReferencedSOPSequence.append(item)
    try:
        answer, _ = association.send_n_event_report(information, 1, COMMITMENT, INSTANCE)
        status: int | None = answer.get("Status")
        return status
    finally:
        association.release()


@contextlib.contextmanager
def silent_pacs(*, at_once: bool = False) -> Iterator[tuple[Pacs, list[str]]]:
    """Takes requests; answers on the same association at once, or never."""
    asked: list[str] = []

    def on_action(event: evt.Event) -> tuple[int, None]:
        information = event.action_information
        asked.append(str(information.TransactionUID))
        if at_once:
            uids = [str(i.ReferencedSOPInstanceUID) for i in information.ReferencedSOPSequence]
            threading.Thread(target=answer, args=(event.assoc, str(information.TransactionUID), uids)).start()
        return 0x0000, None

    def answer(association: Any, transaction: str, uids: list[str]) -> None:
        time.sleep(0.05)
        information = Dataset()
        information.TransactionUID = pydicom.uid.UID(transaction)
        information.ReferencedSOPSequence = []
        for uid in uids:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
            information.ReferencedSOPSequence.append(item)
        association.send_n_event_report(information, 1, COMMITMENT, INSTANCE)

    entity = AE(ae_title="ORTHANC")
    entity.add_supported_context(COMMITMENT)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, on_action)])
    try:
        yield (
            Pacs(ae_title="ORTHANC", host="127.0.0.1", port=server.server_address[1], ask_after_hours=0),
            asked,
        )
    finally:
        server.shutdown()


def test_only_the_one_who_was_asked_may_answer_and_only_while_it_is_asked(ours: Ours) -> None:
    (data,) = ct_files(1)
    ours.send(data)
    ours.send(data, called="THEIRS")
    ours.assemble()
    uid = uid_of(data)
    with silent_pacs() as (pacs, asked):
        ours.ask(pacs)
    (transaction,) = asked
    assert report(ours.port, "2.25.99", [uid]) == 0x0115
    assert report(ours.port, transaction, [uid], calling="EVIL") == 0x0115
    assert report(ours.port, transaction, [uid], called="THEIRS") == 0x0115  # another hospital's door
    assert report(ours.port, transaction, [uid], called="NOBODY") is None
    assert set(ours.kept_by().values()) == set(ours.kept_by(THEIRS).values()) == {None}
    ours.database.down = True
    assert report(ours.port, transaction, [uid]) == 0x0213  # later, please
    ours.database.down = False
    ours.clock.advance(hours=25)
    assert report(ours.port, transaction, [uid]) == 0x0115  # too late: it is asked again
    assert ours.retention.run(DEMO).instances == 0
    with silent_pacs() as (pacs, asked):
        ours.ask(pacs)
    assert report(ours.port, asked[0], [uid], roles=False) == 0x0000  # without role selection, as some PACS do
    assert ours.kept_by() == {uid: "ORTHANC"}
    assert set(ours.kept_by(THEIRS).values()) == {None}


def test_an_answer_on_the_same_association_is_taken(ours: Ours) -> None:
    (data,) = ct_files(1)
    ours.send(data)
    with silent_pacs(at_once=True) as (pacs, _):
        ours.custody.set_pacs(DEMO, pacs, by="test")
        CustodyService(database=ours.database, clock=ours.clock, peer=CommitmentScu(timeout_s=5.0, linger_s=5.0)).ask(
            DEMO
        )
    assert ours.kept_by() == {uid_of(data): "ORTHANC"}


def test_other_services_are_still_refused(ours: Ours) -> None:
    for abstract in ("1.2.840.10008.5.1.4.31", "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.5.1.4.1.2.2.1"):
        association = AE(ae_title="X").associate(
            "127.0.0.1", ours.port, contexts=[build_context(abstract)], ae_title="OVERREAD"
        )
        assert not association.accepted_contexts
        association.abort()
