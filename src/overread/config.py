"""Settings of an installation: environment variables that start with OVERREAD_, or a `.env` file."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from overread.domain.errors import SetupError


def _pair(what: str, certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    if certificate is not None and key is not None:
        return certificate, key
    if certificate is not None or key is not None:
        raise SetupError(
            f"TLS for {what} needs a certificate and its key; only one of them is set.",
            remedy=f"Set OVERREAD_{what}_TLS_CERTIFICATE and OVERREAD_{what}_TLS_KEY, or neither.",
        )
    return None


class Settings(BaseSettings):
    """Every knob, with a default that suits a first run on a laptop."""

    model_config = SettingsConfigDict(env_prefix="OVERREAD_", env_file=".env", extra="ignore", frozen=True)

    #: Where everything lives that the installation keeps: database, objects, keys, logs.
    state: Path = Field(default=Path(".state"))
    #: An external PostgreSQL (owner's URL, may create roles and schemas); empty: the embedded one under `state`.
    database_url: str = ""
    #: The same server without pgbouncer, for LISTEN (worker, pages) and migrations. Where it is set, `database_url` is
    #: taken for a pooler in transaction mode.
    database_direct_url: str = ""
    #: Object store: a folder, or an S3 URL (s3://bucket/prefix).
    objects_url: str = ""
    #: Master keys that wrap the tenants' data keys: 64 hexadecimal digits, several by commas (the first one wraps).
    master_key: str = Field(default="", repr=False)
    #: Or the file that holds them; empty: `master.key` in the state folder, made at the first start.
    master_key_file: Path | None = None
    #: Model packages of the site, beside those that ship; empty: `models` in the state folder.
    models: Path | None = None

    http_host: str = "127.0.0.1"
    http_port: int = 8080
    #: TLS 1.3 for pages and API: certificate chain and key (PEM). The port then speaks nothing else.
    http_tls_certificate: Path | None = None
    http_tls_key: Path | None = None
    #: Behind TLS: the session cookie is then sent over https only.
    https: bool = False
    dicom_host: str = "127.0.0.1"
    dicom_port: int = 11112
    #: Receiver processes that share the DICOM port.
    receivers: int = 2
    #: Bytes of a P-DATA-TF that DICOM senders may use; 0: any.
    dicom_maximum_pdu: int = 131072
    #: TLS 1.3 for DICOM: the receiver's certificate and key, and the certificates (PEM) that senders must show.
    dicom_tls_certificate: Path | None = None
    dicom_tls_key: Path | None = None
    dicom_tls_senders: Path | None = None
    #: Jobs that one worker process runs at a time. Half of a job is waiting: for commits and for the model's process.
    concurrency: int = 3
    #: Waiting jobs beyond which the installation is overloaded: admins are told, routine studies take longer; 0: never.
    overload_jobs: int = Field(default=500, ge=0)
    #: GiB of free disk below which it is said that the disk is almost full.
    low_disk_gib: float = Field(default=5.0, ge=0)
    #: Threads that a model may use; 0: half of the cores (see `runtime_onnx`).
    model_threads: int = 0
    #: MiB of memory that a model's process may take.
    model_memory_mib: int = 4096
    #: Seconds that one model run may take.
    model_timeout_s: float = 120.0

    #: Where the audit trail is forwarded: tls://HOST:PORT of a syslog server; empty: nowhere.
    audit_syslog: str = ""
    #: Certificates (PEM) by which that server is known, and what it wants to see of us.
    audit_syslog_ca: Path | None = None
    audit_syslog_certificate: Path | None = None
    audit_syslog_key: Path | None = None
    #: Years that the audit trail is kept at least.
    audit_years: int = Field(default=7, ge=7)

    upload_limit_mib: int = 4096
    #: Minutes after which a page's session ends that nobody uses.
    idle_minutes: float = Field(default=15.0, gt=0)
    #: Where browsers reach the pages, as https://overread.hospital.example; empty: what the request says. An identity
    #: provider sends people back there.
    public_url: str = ""
    #: Web server processes that share the port.
    api_processes: int = Field(default=1, ge=1)
    #: Redis that counts requests for all web server processes together; empty: each counts for itself.
    redis_url: str = Field(default="", repr=False)
    #: Seconds of validity of a log-in.
    token_seconds: int = 8 * 3600
    uid_root: str = "2.25"
    #: Multiplies the quiet periods of assembly (tests, demo).
    quiet_factor: float = 1.0
    log_level: str = "INFO"

    @property
    def http_tls(self) -> tuple[Path, Path] | None:
        """Certificate and key of the web server. Raises `SetupError` if one of both is missing."""
        return _pair("HTTP", self.http_tls_certificate, self.http_tls_key)

    @property
    def dicom_tls(self) -> tuple[Path, Path] | None:
        """Certificate and key of the DICOM receiver. Raises `SetupError` if one of both is missing."""
        return _pair("DICOM", self.dicom_tls_certificate, self.dicom_tls_key)

    @property
    def behind_tls(self) -> bool:
        """Whether browsers come over TLS, ours or a proxy's."""
        return self.https or self.http_tls_certificate is not None

    @property
    def pooled(self) -> bool:
        """Whether serving processes come through a pooler, which knows no prepared statement of another transaction."""
        return bool(self.database_direct_url)

    @property
    def web_address(self) -> str:
        """Where this process serves pages, without a slash at its end."""
        return f"{'https' if self.http_tls_certificate else 'http'}://{self.http_host}:{self.http_port}"

    @property
    def models_dir(self) -> Path:
        """Where a site's own model packages lie: `models`, or a folder in the state folder."""
        return self.models or self.state_dir / "models"

    @property
    def state_dir(self) -> Path:
        """`state`, absolute."""
        return self.state.expanduser().absolute()

    def prepare_state(self) -> Path:
        """Create the state folder, 0700. Raises `SetupError` in one clear sentence."""
        folder = self.state_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            probe = folder / f".write-test-{os.getpid()}"  # several processes start at once
            probe.write_bytes(b"overread" * 512)
            probe.unlink()
        except OSError as error:
            raise SetupError(
                f"Cannot write to the state folder {folder}: {error.strerror or error}.",
                remedy="Free some space, give this user write rights, or set OVERREAD_STATE to another folder.",
            ) from error
        return folder

    def secret(self) -> bytes:
        """The installation's master secret, 32 bytes: made once, kept 0600 in the state folder."""
        path = self.prepare_state() / "secret.key"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return bytes.fromhex(path.read_text().strip())
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secrets.token_hex(32))
            handle.flush()
            os.fsync(handle.fileno())
        return bytes.fromhex(path.read_text().strip())
