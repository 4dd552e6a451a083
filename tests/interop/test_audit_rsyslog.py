"""A foreign syslog server (Debian's rsyslog with gtls) takes our audit messages over TLS."""

from __future__ import annotations

import datetime
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.audit_schema import EVENT, check
from tests.conftest import _peer

from overread.domain.errors import AuditReceiverUnavailable
from overread.exchange.audit_message import audit_message
from overread.exchange.syslog import TlsSyslog, syslog_message


@pytest.fixture(scope="session")
def rsyslogd() -> str:
    """The server; its TLS driver is a package of its own."""
    found = _peer("rsyslogd", "rsyslog rsyslog-gnutls")
    if not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")):
        _peer("rsyslog-gtls-driver", "rsyslog-gnutls")
    return found


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, secret


class Server:
    """An rsyslogd that writes each message's text on a line."""

    def __init__(self, program: str, folder: Path) -> None:
        self.folder, self.program = folder, program
        self.pem, key = _certificate(folder, "localhost")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.out = folder / "received"
        (folder / "work").mkdir()
        self.config = folder / "rsyslog.conf"
        self.config.write_text(
            f"""
global(workDirectory="{folder}/work" maxMessageSize="64k" defaultNetstreamDriver="gtls"
       defaultNetstreamDriverCAFile="{self.pem}" defaultNetstreamDriverCertFile="{self.pem}"
       defaultNetstreamDriverKeyFile="{key}" parser.escapeControlCharactersOnReceive="off")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="line" type="string" string="%app-name% %msgid% %msg%\\n")
input(type="imtcp" port="{self.port}" address="127.0.0.1" ruleset="audit")
ruleset(name="audit") {{ action(type="omfile" file="{self.out}" template="line") }}
"""
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [self.program, "-n", "-f", str(self.config), "-i", str(self.folder / "pid")], stdout=log, stderr=log
        )
        log.close()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=20)
            self.process = None

    def messages(self, count: int) -> list[str]:
        """What has arrived, once there are `count`."""
        deadline = time.monotonic() + 20
        lines: list[str] = []
        while time.monotonic() < deadline:
            lines = self.out.read_text().splitlines() if self.out.exists() else []
            if len(lines) >= count:
                break
            time.sleep(0.1)
        return lines


@pytest.fixture
def server(rsyslogd: str, tmp_path: Path) -> Iterator[Server]:
    made = Server(rsyslogd, tmp_path)
    yield made
    made.stop()


def _frames(first: int, count: int) -> list[bytes]:
    events = [replace(EVENT, id=number, facts={**EVENT.facts, "name": "Ünï"}) for number in range(first, first + count)]
    return [
        syslog_message(audit_message(e, tenant="alpha", source="overread@host"), at=e.at, host="host", version="0.1.0")
        for e in events
    ]


def _numbers(lines: list[str]) -> list[int]:
    found = []
    for line in lines:
        match = re.fullmatch(r"overread DICOM\+RFC3881 .*?(<\?xml.*</AuditMessage>)", line)
        assert match is not None, line[:200]
        root = ET.fromstring(match[1].encode())
        check(root)
        found.append(int(root.findall("ParticipantObjectIdentification")[-1].get("ParticipantObjectID") or 0))
    return found


def test_rsyslog_takes_every_message_whole(server: Server) -> None:
    server.start()
    sink = TlsSyslog(f"tls://localhost:{server.port}", ca=server.pem)
    sink.send(_frames(1, 500))
    sink.send(_frames(501, 2))
    assert _numbers(server.messages(502)) == list(range(1, 503))


def test_a_server_that_is_away_or_a_stranger(server: Server, tmp_path: Path) -> None:
    sink = TlsSyslog(f"tls://localhost:{server.port}", ca=server.pem, timeout_s=5)
    with pytest.raises(AuditReceiverUnavailable, match="refused"):
        sink.send(_frames(1, 1))
    server.start()
    (tmp_path / "other").mkdir()
    other, _ = _certificate(tmp_path / "other", "localhost")
    with pytest.raises(AuditReceiverUnavailable, match="not trusted"):
        TlsSyslog(f"tls://localhost:{server.port}", ca=other).send(_frames(1, 1))
    with pytest.raises(AuditReceiverUnavailable, match="not trusted"):
        TlsSyslog(f"tls://127.0.0.1:{server.port}", ca=server.pem).send(_frames(1, 1))
    sink.send(_frames(1, 3))
    assert _numbers(server.messages(3)) == [1, 2, 3]


def test_a_plain_server_gets_nothing(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sink = TlsSyslog(f"tls://localhost:{listener.getsockname()[1]}", ca=server.pem, timeout_s=1)
        with pytest.raises(AuditReceiverUnavailable):
            sink.send(_frames(1, 1))
