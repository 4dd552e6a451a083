"""DCMTK's echoscu and storescu send to the receiver; its storescp says what arrives bit by bit."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from tests.conftest import _peer
from tests.fakes import FakeClock, FakeDatabase
from tests.receiving import DEMO, KnownSenders, data_set_of, running

from overread.dicom.association import tls_context
from overread.dicom.read import PydicomParser
from overread.dicom.receive import ReceiveOptions
from overread.domain.errors import SetupError
from overread.domain.study import TenantId
from overread.services.assemble import AssembleService
from overread.services.receive import ReceiveService
from overread.store.objects import LocalObjects

MPEG2, HEVC = "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.107"
VIDEO = "1.2.840.10008.5.1.4.1.1.77.1.4.1"
NODELAY = {**os.environ, "TCP_NODELAY": "1"}


@pytest.fixture(scope="session")
def echoscu() -> str:
    return _peer("echoscu", "dcmtk")


@pytest.fixture(scope="session")
def storescp() -> str:
    return _peer("storescp", "dcmtk")


class Receiver:
    """The receiving service on real files and a fake database, behind a real SCP."""

    def __init__(self, folder: Path) -> None:
        clock = FakeClock()
        self.database = FakeDatabase()
        self.objects = LocalObjects(folder)
        self.service = ReceiveService(
            database=self.database,
            objects=self.objects,
            parser=PydicomParser(),
            assemble=AssembleService(database=self.database, clock=clock),
            clock=clock,
        )

    def files(self, tenant: TenantId = DEMO) -> list[bytes]:
        """What is indexed, as it lies on disk."""
        return [self.objects.get(tenant, i.object_key) for i in self.database.state(tenant).instances.values()]


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path / "objects")


@pytest.fixture
def port(receiver: Receiver) -> Iterator[int]:
    with running(receiver.service) as (number, _):
        yield number


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60, env=NODELAY)


def sent(storescu: str, port: int, *arguments: str | Path) -> str:
    """What storescu says; it must be content."""
    result = run(storescu, "-v", "-aec", "OVERREAD", "127.0.0.1", str(port), *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def example(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path))


def video(folder: Path, transfer_syntax: str) -> Path:
    """A video object, with a stream that is none: nobody on the way may look into it."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        transfer_syntax,
        VIDEO,
        "1.2.9",
    )
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = VIDEO, "1.2.9", "1.2.3", "1.2.4"
    ds.PatientID, ds.PatientName, ds.Modality = "P", "A^B", "XC"
    ds.Rows = ds.Columns = 16
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_PARTIAL_420", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation, ds.NumberOfFrames = 7, 0, 1
    ds.PixelData = encapsulate([bytes(range(256)) * 3])
    ds["PixelData"].is_undefined_length = True
    path = folder / f"{transfer_syntax}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def test_echo(echoscu: str, port: int) -> None:
    assert run(echoscu, "-aec", "OVERREAD", "127.0.0.1", str(port)).returncode == 0
    refused = run(echoscu, "-aec", "ELSEWHERE", "127.0.0.1", str(port))
    assert refused.returncode != 0
    assert "Calling AE Title Not Recognized" in refused.stderr


def test_an_unknown_sender_stores_nothing(storescu: str, port: int, receiver: Receiver) -> None:
    refused = run(storescu, "-aec", "ELSEWHERE", "127.0.0.1", str(port), example("CT_small.dcm"))
    assert refused.returncode != 0
    assert "Calling AE Title Not Recognized" in refused.stderr
    assert not any(path.is_file() for path in receiver.objects.root.rglob("*"))


@pytest.mark.parametrize(
    ("name", "proposal"),
    [
        ("CT_small.dcm", "-xe"),
        ("MR_small_implicit.dcm", "-xi"),
        ("MR_small_bigendian.dcm", "-xb"),
        ("SC_rgb_jpeg_gdcm.dcm", "-xs"),
        ("SC_rgb_jpeg_dcmtk.dcm", "-xy"),
        ("JPGExtended.dcm", "-xx"),
        ("MR_small_jp2klossless.dcm", "-xv"),
        ("693_J2KI.dcm", "-xw"),
        ("MR_small_jpeg_ls_lossless.dcm", "-xt"),
        ("JPEGLSNearLossless_16.dcm", "-xu"),
        ("MR_small_RLE.dcm", "-xr"),
        ("image_dfl.dcm", "-xd"),
        (MPEG2, "-xm"),
        (HEVC, "-x4"),
        ("test-SR.dcm", "-xe"),
        ("rtplan.dcm", "-xi"),
        ("waveform_ecg.dcm", "-xe"),
    ],
)
def test_every_syntax_arrives_bit_by_bit(
    name: str, proposal: str, storescu: str, storescp: str, port: int, receiver: Receiver, tmp_path: Path
) -> None:
    """The data set is the one that DCMTK's own receiver writes, and the file's own syntax is kept."""
    file = video(tmp_path, name) if name.startswith("1.2") else example(name)
    sent(storescu, port, "-R", proposal, file)
    (ours,) = receiver.files()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = probe.getsockname()[1]
    folder = tmp_path / "storescp"
    folder.mkdir()
    with subprocess.Popen([storescp, "+B", "+xa", "-od", str(folder), str(other)]) as server:
        try:
            for _ in range(100):
                if run(storescu, "-R", proposal, "127.0.0.1", str(other), file).returncode == 0:
                    break
                time.sleep(0.05)
        finally:
            server.terminate()
    (theirs,) = folder.iterdir()
    assert data_set_of(ours) == data_set_of(theirs.read_bytes())
    syntax = pydicom.dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID
    assert pydicom.dcmread(BytesIO(ours), stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize("pdu", [4096, 16384, 131072])
def test_sizes_of_pdu(pdu: int, storescu: str, port: int, receiver: Receiver) -> None:
    said = sent(storescu, port, "-d", "-pdu", str(pdu), "--max-send-pdu", str(pdu), example("examples_overlay.dcm"))
    assert re.search(r"Their Max PDU Receive Size: +131072\b", said)
    (data,) = receiver.files()
    assert pydicom.dcmread(BytesIO(data)).PixelData == pydicom.dcmread(example("examples_overlay.dcm")).PixelData


def changed(folder: Path, **values: object) -> Path:
    ds = pydicom.dcmread(example("CT_small.dcm"))
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    path = folder / f"{'-'.join(values)}.dcm"
    ds.save_as(path)
    return path


def test_again_another_header_and_other_pixels(storescu: str, port: int, receiver: Receiver, tmp_path: Path) -> None:
    original = example("CT_small.dcm")
    pixels = pydicom.dcmread(original).PixelData
    assert "Received Store Response (Success)" in sent(storescu, port, original)
    assert "Received Store Response (Success)" in sent(storescu, port, original), "accepted once more, kept once"
    assert "Received Store Response (Success)" in sent(storescu, port, changed(tmp_path, StudyDescription="Corrected"))
    other = bytes(byte ^ 1 for byte in pixels)
    said = sent(storescu, port, changed(tmp_path, PixelData=other))
    assert "Warning" in said
    (data,) = receiver.files()
    assert pydicom.dcmread(BytesIO(data)).PixelData == pixels, "never overwritten"
    (rejection,) = receiver.database.state(DEMO).rejections
    assert rejection.object_key is not None
    assert pydicom.dcmread(BytesIO(receiver.objects.get(DEMO, rejection.object_key))).PixelData == other, "nor lost"


def test_many_associations_at_once(storescu: str, port: int, receiver: Receiver, tmp_path: Path) -> None:
    for sender in range(4):
        folder = tmp_path / f"sender{sender}"
        folder.mkdir()
        for number in range(8):
            ds = pydicom.dcmread(example("CT_small.dcm"))
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{sender}.{number}"
            ds.save_as(folder / f"{number}.dcm")
    command = [storescu, "-aec", "OVERREAD", "+sd", "127.0.0.1", str(port)]
    senders = [subprocess.Popen([*command, str(tmp_path / f"sender{n}")], env=NODELAY) for n in range(4)]
    assert [sender.wait(60) for sender in senders] == [0] * 4
    assert len(receiver.files()) == 32


def test_an_abort_loses_nothing_that_was_acknowledged(storescu: str, port: int, receiver: Receiver) -> None:
    run(
        storescu,
        "--abort",
        "-aec",
        "OVERREAD",
        "127.0.0.1",
        str(port),
        example("CT_small.dcm"),
        example("MR_small.dcm"),
    )
    assert len(receiver.files()) == 2


# --- TLS ----------------------------------------------------------------------------------------------------


class Certificate:
    """A self-signed certificate and its key, as files."""

    def __init__(self, folder: Path, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.file, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.sha256 = hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest()


def test_tls_sender_is_known_by_its_certificate(storescu: str, receiver: Receiver, tmp_path: Path) -> None:
    server, modality, stranger = (Certificate(tmp_path, name) for name in ("server", "modality", "stranger"))
    known = KnownSenders(known={("OVERREAD", modality.sha256): DEMO})
    trusted = tmp_path / "senders.pem"
    trusted.write_bytes(modality.file.read_bytes() + stranger.file.read_bytes())
    options = ReceiveOptions(tls=tls_context(server.file, server.key, trusted), acse_timeout_s=3.0)
    with running(receiver.service, known, options) as (port, _):

        def secured(sender: Certificate) -> int:
            tls = ("+tls", sender.key, sender.file, "+cf", server.file)
            return run(storescu, *tls, "-aec", "OVERREAD", "127.0.0.1", str(port), example("CT_small.dcm")).returncode

        plain = run(storescu, "-aec", "OVERREAD", "127.0.0.1", str(port), example("CT_small.dcm"))
        assert plain.returncode != 0, "no plain text on this port"
        assert secured(stranger) != 0, "a trusted certificate that no tenant registered"
        assert not receiver.files()
        assert secured(modality) == 0
        assert len(receiver.files()) == 1

        old = ssl.create_default_context(cafile=str(server.file))
        old.check_hostname = False
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
            pytest.raises(ssl.SSLError),
            old.wrap_socket(raw),
        ):
            pass


def test_tls_needs_its_files(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="TLS certificate or key"):
        tls_context(tmp_path / "none.pem", tmp_path / "none.key", None)


def test_a_slow_handshake_blocks_nobody(storescu: str, receiver: Receiver, tmp_path: Path) -> None:
    server, modality = Certificate(tmp_path, "server"), Certificate(tmp_path, "modality")
    options = ReceiveOptions(tls=tls_context(server.file, server.key, modality.file), acse_timeout_s=30.0)
    known = KnownSenders(known={("OVERREAD", modality.sha256): DEMO})
    with running(receiver.service, known, options) as (port, _), socket.create_connection(("127.0.0.1", port)):
        tls = ("+tls", modality.key, modality.file, "+cf", server.file)
        begin = time.monotonic()
        sent(storescu, port, *tls, example("CT_small.dcm"))
        assert time.monotonic() - begin < 10


def test_the_peers_of_this_file_are_dcmtk(storescu: str) -> None:
    assert "dcmtk" in run(storescu, "--version").stdout
    assert shutil.which(storescu)
