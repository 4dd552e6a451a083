"""A private PostgreSQL 15 of Debian behind pgbouncer in transaction mode, as a hospital may run them.

Both listen on sockets in a temporary folder only. The owner is no superuser: it may make roles, and owns the database.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

BINARIES = Path("/usr/lib/postgresql/15/bin")
OWNER = "overread_owner"
SETTINGS = (
    "listen_addresses=",
    "fsync=off",
    "max_connections=300",
    "password_encryption=scram-sha-256",
    "timezone=Europe/Berlin",  # of a hospital: nothing may depend on the server's
    "jit=off",
)
POOLER = """\
[databases]
overread = host={folder} port=5432
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 6432
auth_type = scram-sha-256
auth_file = {folder}/users.txt
auth_user = pooler
auth_query = SELECT usename, passwd FROM pooler.log_in($1)
pool_mode = transaction
default_pool_size = 6
server_idle_timeout = 10
server_login_retry = 1
query_wait_timeout = 5
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
logfile = {folder}/pgbouncer.log
pidfile = {folder}/pgbouncer.pid
"""


def missing() -> str | None:
    """Which Debian package is not there."""
    if not (BINARIES / "initdb").exists():
        return "postgresql-15"
    return None if shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin") else "pgbouncer"


@dataclass(kw_only=True)
class ExternalPostgres:
    """Started by `start`; `pooled` and `direct` are the owner's addresses."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ovr-pg-", dir="/tmp")))
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def direct(self) -> str:
        return f"host={self.folder} port=5432 dbname=overread user={OWNER} password={self.password}"

    @property
    def pooled(self) -> str:
        return f"host={self.folder} port=6432 dbname=overread user={OWNER} password={self.password}"

    @property
    def superuser(self) -> str:
        return f"host={self.folder} port=5432 dbname=postgres user=postgres password={self.password}"

    def start(self) -> None:
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._write("password", self.password)
        data = self.folder / "data"
        password = f"--pwfile={self.folder / 'password'}"
        made = self._run([BINARIES / "initdb", "-D", data, "-A", "scram-sha-256", "-U", "postgres", password, "-N"])
        if made.wait(60) != 0:
            raise RuntimeError("initdb failed")
        options = [part for setting in SETTINGS for part in ("-c", setting)]
        self._processes.append(self._run([BINARIES / "postgres", "-D", data, "-k", self.folder, *options]))
        _until(self.superuser)
        with psycopg.connect(self.superuser, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {OWNER} LOGIN CREATEROLE PASSWORD '{self.password}'".encode())
            connection.execute(f"CREATE ROLE pooler LOGIN PASSWORD '{self.password}'".encode())
            connection.execute(f"CREATE DATABASE overread OWNER {OWNER}".encode())
        with psycopg.connect(self.superuser, dbname="overread", autocommit=True) as connection:
            connection.execute("CREATE SCHEMA pooler")
            connection.execute(
                "CREATE FUNCTION pooler.log_in(name text, OUT usename text, OUT passwd text) LANGUAGE sql"
                " SECURITY DEFINER SET search_path = pg_catalog AS"
                " 'SELECT usename::text, passwd FROM pg_shadow WHERE usename = name AND NOT usesuper'"
            )
            connection.execute("REVOKE ALL ON FUNCTION pooler.log_in FROM PUBLIC")
            connection.execute("GRANT USAGE ON SCHEMA pooler TO pooler")
            connection.execute("GRANT EXECUTE ON FUNCTION pooler.log_in TO pooler")
        self._write("users.txt", f'"pooler" "{self.password}"\n')
        self._write("pgbouncer.ini", POOLER.format(folder=self.folder))
        self._processes.append(self._run(["/usr/sbin/pgbouncer", "-q", self.folder / "pgbouncer.ini"]))
        _until(self.pooled)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(path, account.pw_uid, account.pw_gid)

    def _run(self, arguments: list[str | Path]) -> subprocess.Popen[bytes]:
        as_postgres = "postgres" if os.geteuid() == 0 else None
        with (self.folder / "output.log").open("ab") as output:
            return subprocess.Popen(
                [str(part) for part in arguments],
                user=as_postgres,
                group=as_postgres,
                extra_groups=[] if as_postgres else None,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


def started() -> ExternalPostgres:
    """Skipped on a laptop where it is not installed; fails in CI."""
    lacks = missing()
    if lacks is not None:
        message = f"{lacks} is missing: apt-get install {lacks}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    server = ExternalPostgres()
    try:
        server.start()
    except BaseException:
        server.stop()
        raise
    return server


def _until(conninfo: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            psycopg.connect(conninfo, connect_timeout=3).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
