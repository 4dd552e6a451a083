"""Our sender over TLS 1.3 to DCMTK's storescp: both sides prove who they are, and nothing older is spoken."""

from __future__ import annotations

import gc
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from tests.certificates import Certificate, make_certificate

from overread.dicom.send import SenderTls, Sent, send_files, sender_tls
from overread.domain.errors import SetupError

#: pynetdicom leaves the socket of a failed TLS handshake to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
Certified = Callable[..., Certificate]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Sockets that were left are collected within their own test."""
    yield
    gc.collect()


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    return lambda name, **kwargs: make_certificate(tmp_path, name, **kwargs)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def storescp(program: str, folder: Path, *arguments: str | Path) -> Iterator[int]:
    """DCMTK's receiver; its port."""
    port = free_port()
    folder.mkdir()
    command = [program, *map(str, arguments), "-od", str(folder), "-aet", "PACS", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        try:
            yield port
        finally:
            process.terminate()


def example() -> tuple[str, bytes]:
    path = get_testdata_file("CT_small.dcm", download=False)
    return "CT_small.dcm", Path(str(path)).read_bytes()


def send(port: int, tls: SenderTls | None) -> list[Sent]:
    return [sent for _, _, sent in send_files([example()], host="127.0.0.1", port=port, called_ae="PACS", tls=tls)]


def test_both_sides_prove_who_they_are(storescp_program: str, tmp_path: Path, certified: Certified) -> None:
    pacs, us, stranger = certified("pacs"), certified("us"), certified("stranger")
    options = ("+tls", pacs.key, pacs.file, "+cf", us.file, "-rc")
    with storescp(storescp_program, tmp_path / "got", *options) as port:
        assert send(port, sender_tls(pacs.file, us.file, us.key)) == [Sent(accepted=True)]
        assert len(list((tmp_path / "got").iterdir())) == 1
        for refused in (
            sender_tls(pacs.file, stranger.file, stranger.key),  # the PACS does not know us
            sender_tls(stranger.file, us.file, us.key),  # we do not know the PACS
            None,  # plain text on a TLS port
        ):
            with pytest.raises(SetupError):
                send(port, refused)
        assert len(list((tmp_path / "got").iterdir())) == 1


def test_a_certificate_of_another_host_is_refused(storescp_program: str, tmp_path: Path, certified: Certified) -> None:
    pacs = certified("pacs", hosts=False)
    with storescp(storescp_program, tmp_path / "got", "+tls", pacs.key, pacs.file, "-ic") as port:
        with pytest.raises(SetupError):
            send(port, sender_tls(pacs.file))
        assert send(port, sender_tls(pacs.file, name="elsewhere.example")) == [Sent(accepted=True)]


def test_no_older_tls(certified: Certified) -> None:
    pacs = certified("pacs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pacs.file, pacs.key)
    said: list[str] = []

    def answer(listening: socket.socket) -> None:
        sock, _ = listening.accept()
        try:
            context.wrap_socket(sock, server_side=True).close()
            said.append("spoke TLS 1.2")
        except ssl.SSLError as error:
            said.append(str(error))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        with pytest.raises(SetupError):
            send(listening.getsockname()[1], sender_tls(pacs.file))
        thread.join(10)
    assert len(said) == 1
    assert "PROTOCOL" in said[0], "it did not offer what this peer speaks"


def test_its_files_are_needed(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="TLS certificates or key"):
        sender_tls(tmp_path / "none.pem")


def test_nothing_that_is_sent_touches_a_disk(
    storescp_program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "no such folder"))
    with storescp(storescp_program, tmp_path / "got") as port:
        assert send(port, None) == [Sent(accepted=True)]
