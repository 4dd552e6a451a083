"""`overread serve`: one process that starts the others, restarts what dies, and stops everything on Ctrl-C."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import sqlalchemy
import structlog

from overread import bootstrap, seed
from overread.config import Settings
from overread.domain.errors import KeyShredded, SetupError, StoreUnavailable, TenantUnavailable
from overread.store import migrate
from overread.store.engine import EmbeddedPostgres

log = structlog.get_logger(__name__)

_STOP_S = 30.0
_PARENT = "OVERREAD_PARENT_PID"
_RESTART_S = (0.1, 0.5, 2.0, 5.0)
#: A child that lived so long starts again without a pause.
_SETTLED_S = 20.0


@dataclass
class _Child:
    """One supervised process."""

    name: str
    arguments: list[str]
    #: File descriptors that it takes over.
    passes: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    not_before: float = 0.0


@dataclass
class Supervisor:
    """Embedded PostgreSQL, receiver, worker and API of one installation."""

    settings: Settings
    #: Told what is being done, for a progress line.
    say: Callable[[str], None] = lambda _text: None
    workers: int = 1
    _children: list[_Child] = field(default_factory=list)
    _postgres: EmbeddedPostgres | None = None
    #: The web port, where several processes share it; it lives here, so that none of them takes it along when it dies.
    _listening: socket.socket | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _monitor: threading.Thread | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Everything is up inside the block, and down after it. Raises `SetupError` in one clear sentence."""
        state = self.settings.prepare_state()
        with _only_one(state / "serve.lock"):
            try:
                self._start(state)
                yield
            finally:
                self._stop()

    def wait(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        with contextlib.suppress(KeyboardInterrupt):
            while not self._stopping.wait(0.5):
                pass

    def request_stop(self) -> None:
        """Let `wait` return."""
        self._stopping.set()

    def pids(self) -> dict[str, int]:
        """Process ids by name ("postgres" among them): what the crash test kills."""
        found = {c.name: c.process.pid for c in self._children if c.process is not None and c.process.poll() is None}
        if self._postgres is not None and self._postgres.pid is not None:
            found["postgres"] = self._postgres.pid
        return found

    # --- start -----------------------------------------------------------------------------------------------

    def _start(self, state: Path) -> None:
        settings = self.settings
        if (state / "restoring.json").exists():
            raise SetupError(f"{state} is half restored.", remedy="Run the same `overread restore` again first.")
        _check_port(settings.http_host, settings.http_port, "web", "OVERREAD_HTTP_PORT")
        _check_port(settings.dicom_host, settings.dicom_port, "DICOM", "OVERREAD_DICOM_PORT")
        self.say("Starting the database")
        self._start_database()
        (state / "logs").mkdir(exist_ok=True, mode=0o700)
        (state / "run").mkdir(exist_ok=True, mode=0o700)
        for ready in (state / "run").glob("*.ready"):
            ready.unlink()
        self.say("Starting receiver, worker and web server")
        self._children = [_Child("receiver", ["receive"]), *self._api_children()]
        self._children += [
            _Child(f"worker-{n + 1}", ["worker", "--name", f"worker-{n + 1}"]) for n in range(self.workers)
        ]
        for child in self._children:
            self._spawn(child)
        self._wait_until_ready(state, 60.0)
        self._monitor = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._monitor.start()

    def _api_children(self) -> list[_Child]:
        """One web server, or several that take connections from one listening socket."""
        settings = self.settings
        if settings.api_processes == 1:
            return [_Child("api", ["api"])]
        family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
        self._listening = socket.create_server((settings.http_host, settings.http_port), family=family, backlog=2048)
        number = self._listening.fileno()
        names = [f"api-{n + 1}" for n in range(settings.api_processes)]
        return [_Child(name, ["api", "--name", name, "--socket", str(number)], passes=(number,)) for name in names]

    def _start_database(self) -> None:
        settings = self.settings
        secret = settings.secret()
        if not settings.database_url:
            self._postgres = bootstrap.embedded(settings)
            self._postgres.start()
            self._postgres.ensure_database()
        engine = migrate.owner_engine(bootstrap.owner_conninfo(settings))
        for failure in migrate.ensure(engine, secret):
            self.say(
                f"Hospital {failure.tenant} is OUT OF SERVICE, the others work: its migration failed "
                f"({failure.reason}); `overread tenant migrate` tries again"
            )
        seed.ensure(engine, settings)
        self._open_keys(engine)
        engine.dispose()

    def _open_keys(self, engine: sqlalchemy.Engine) -> None:
        """See that every hospital's keys can be had, before anybody is served; then encrypt what an older version of
        Overread wrote in the clear, which is nothing at any other start. Raises `KeyUnavailable`."""
        keys = bootstrap.owner_keys(self.settings, engine)
        database, again = bootstrap.reencryption(self.settings)
        try:
            for tenant in migrate.list_tenants(engine):
                done = False
                try:
                    database.unit(tenant).patient_index.version  # noqa: B018 - asks for the keys
                    for step in again.plain_rows(tenant):
                        done = True
                        self.say(f"Encrypting {step.what} of {tenant}: {step.done} of {step.total}")
                except (StoreUnavailable, TenantUnavailable, KeyShredded) as error:  # out of service, or being deleted
                    log.warning("keys not opened", tenant=tenant.slug, code=error.code)
                if done:
                    keys.sweep(tenant)
        finally:
            database.close()

    def _spawn(self, child: _Child) -> None:
        ready = self.settings.state_dir / "run" / f"{child.name}.ready"
        ready.unlink(missing_ok=True)
        with self._log_file(child.name) as output:
            child.process = subprocess.Popen(
                [sys.executable, "-m", "overread", *child.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(self.settings),
                pass_fds=child.passes,
                start_new_session=True,  # Ctrl-C is ours to hand on, in the right order
            )
        child.started = time.monotonic()

    def _log_file(self, name: str) -> IO[bytes]:
        path = self.settings.state_dir / "logs" / f"{name}.log"
        if path.exists() and path.stat().st_size > 50_000_000:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")

    def _wait_until_ready(self, state: Path, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        waiting = {c.name: c for c in self._children}
        while waiting:
            for name, child in list(waiting.items()):
                if (state / "run" / f"{name}.ready").exists():
                    del waiting[name]
                elif child.process is not None and child.process.poll() is not None:
                    raise SetupError(f"The {name} process ended at once: {self._last_words(name)}")
            if time.monotonic() > deadline:
                raise SetupError(f"Not ready within {timeout_s:.0f} s: {', '.join(waiting)}. See {state / 'logs'}.")
            time.sleep(0.05)

    def _last_words(self, name: str) -> str:
        path = self.settings.state_dir / "logs" / f"{name}.log"
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return (lines[-1][-500:] if lines else "it said nothing") + f" (log: {path})"

    # --- watch and stop --------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping.wait(0.2):
            if self._postgres is not None and self._postgres.pid is None:
                log.error("database died, starting it again")
                try:
                    self._postgres.start()
                except SetupError as error:
                    log.error("database does not start", reason=str(error))
                    continue
            for child in self._children:
                self._restart_if_dead(child)

    def _restart_if_dead(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None and child.process.poll() is not None:
            log.error("process died", name=child.name, status=child.process.returncode)
            child.process = None
            child.deaths = 0 if now - child.started > _SETTLED_S else child.deaths + 1
            child.not_before = now + _RESTART_S[min(child.deaths, len(_RESTART_S) - 1)]
        if child.process is None and now >= child.not_before:
            self._spawn(child)

    def _stop(self) -> None:
        self._stopping.set()
        if self._monitor is not None:
            self._monitor.join(timeout=70)
        running = [c.process for c in self._children if c.process is not None and c.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        for process in running:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._listening is not None:
            self._listening.close()
        if self._postgres is not None:
            self._postgres.stop()


def follow_parent() -> None:
    """In a child: end when the supervisor is gone (kill -9), so that no port stays taken. Does nothing elsewhere."""
    parent = os.environ.get(_PARENT)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_STOP_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="follow parent", daemon=True).start()


def mark_ready(settings: Settings, name: str) -> None:
    """A child says that it serves; the supervisor waits for it."""
    folder = settings.state_dir / "run"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / f"{name}.ready").write_text(f"{os.getpid()}\n")


def _environment(settings: Settings) -> dict[str, str]:
    """Children read the very settings that this process has."""
    values = settings.model_dump(mode="json")
    ours = {f"OVERREAD_{key.upper()}": str(value) for key, value in values.items() if value not in (None, "")}
    return {**os.environ, **ours, "OVERREAD_STATE": str(settings.state_dir), _PARENT: str(os.getpid())}


def _check_port(host: str, port: int, what: str, variable: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SetupError(
                f"The {what} port {port} on {host} cannot be opened: {error.strerror or error}.",
                remedy=f"Stop the program that uses it, or set {variable} to another port.",
            ) from error


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SetupError(
                f"Overread is already running on the state folder {path.parent}.",
                remedy="Stop it first, or set OVERREAD_STATE to another folder.",
            ) from error
        yield
