"""Pages and API over TLS 1.3, as `overread api` serves them; nothing older, and nothing plain on that port."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from overread.config import Settings
from overread.domain.errors import SetupError
from overread.http.server import tls_context
from tests.certificates import Certificate, make_certificate

START = """
import sys
from fastapi import FastAPI
from types import SimpleNamespace
from overread.http import server
from pathlib import Path
app = FastAPI()
app.state.streams = SimpleNamespace(close=lambda: None)
app.get("/")(lambda: "served")
tls = server.tls_context(Path(sys.argv[2]), Path(sys.argv[3]))
server.run(app, host="127.0.0.1", port=int(sys.argv[1]), tls=tls, ready=lambda: print("ready", flush=True))
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture(scope="module")
def port(certificate: Certificate) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    command = [sys.executable, "-c", START, str(number), str(certificate.file), str(certificate.key)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield number
        process.terminate()


def client(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate.file))


def test_it_speaks_tls_1_3(port: int, certificate: Certificate) -> None:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        client(certificate).wrap_socket(raw, server_hostname="localhost") as secured,
    ):
        assert secured.version() == "TLSv1.3"
    with urllib.request.urlopen(f"https://localhost:{port}/", context=client(certificate), timeout=10) as answer:
        assert answer.read() == b'"served"'


def test_it_speaks_nothing_older(port: int, certificate: Certificate) -> None:
    old = client(certificate)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        pytest.raises(ssl.SSLError),
        old.wrap_socket(raw, server_hostname="localhost"),
    ):
        pass


def test_it_speaks_nothing_plain(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            answer = raw.recv(1000)
        except ConnectionResetError:
            answer = b""
    assert b"HTTP" not in answer


def test_its_files_are_needed(tmp_path: Path, certificate: Certificate) -> None:
    with pytest.raises(SetupError, match="OVERREAD_HTTP_TLS_CERTIFICATE"):
        tls_context(tmp_path / "none.pem", tmp_path / "none.key")
    only_one = Settings(_env_file=None, http_tls_certificate=certificate.file)
    with pytest.raises(SetupError, match="only one of them"):
        _ = only_one.http_tls
    with pytest.raises(SetupError, match="OVERREAD_DICOM_TLS_KEY"):
        _ = Settings(_env_file=None, dicom_tls_key=certificate.key).dicom_tls


def test_cookies_are_for_tls_then(certificate: Certificate) -> None:
    settings = Settings(_env_file=None, http_tls_certificate=certificate.file, http_tls_key=certificate.key)
    assert settings.behind_tls
    assert settings.web_address == "https://127.0.0.1:8080"
    assert not Settings(_env_file=None).behind_tls
