"""The receiver: a parent that holds the DICOM port, and processes under it that serve associations.

Why several: Python runs one thread at a time, and two processes on one port receive 1.5 times as much as one. The
parent makes the listening socket and nothing else, so it has nothing to crash on: a child that dies (kill -9, out of
memory) is replaced, its siblings serve on, connections that wait are not lost, and a sender loses only the object that
was not yet acknowledged. SIGTERM or SIGINT: no new associations, each object in flight is filed and answered, the end.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, cast

import structlog

from overread.config import Settings
from overread.domain.errors import SetupError

if TYPE_CHECKING:
    from overread.dicom.receive import ReceiverParts

DEFAULT_FACTORY = "overread.receiver:parts"
"""`module:function` that makes a child's `ReceiverParts` of its settings; called once in each child."""

#: Seconds that a child may take to finish its objects in flight, and the parent waits a little longer.
GRACE_S = 20.0
#: A child that lived this long did start well.
_STARTED_WELL_S = 5.0
_MAX_FAILED_STARTS = 5
_LONGEST_PAUSE_S = 5.0
#: Threads of a child mostly wait for the network, the disk and the database: let them take turns quickly.
_SWITCH_INTERVAL_S = 0.001

log = structlog.get_logger(__name__)


def run(settings: Settings, *, ready: Callable[[], None] = lambda: None, factory: str = DEFAULT_FACTORY) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit status. Call in the main thread.

    `ready` is called once connections are taken. Raises `SetupError` if the address cannot be had.
    """
    from overread.dicom.listener import listen
    from overread.observe.logs import configure_logging

    configure_logging(settings.log_level)
    try:
        listening = listen(settings.dicom_host, settings.dicom_port)
    except OSError as error:
        raise SetupError(
            f"Cannot take DICOM port {settings.dicom_port} on {settings.dicom_host}: {error.strerror or error}.",
            remedy="Stop what uses it, or set OVERREAD_DICOM_PORT to another one.",
        ) from error
    with listening:
        return Supervisor(listening=listening, settings=settings, factory=factory).run(ready)


def parts(settings: Settings) -> ReceiverParts:
    """What a child works with: the default factory."""
    from overread import bootstrap
    from overread.dicom.association import tls_context
    from overread.dicom.receive import ReceiveOptions, ReceiverParts

    overread = bootstrap.build(settings)
    tls = settings.dicom_tls
    return ReceiverParts(
        sink=overread.receive,
        senders=overread.directory,
        custody=bootstrap.custody(overread),
        options=ReceiveOptions(
            maximum_pdu=settings.dicom_maximum_pdu,
            tls=tls_context(*tls, settings.dicom_tls_senders) if tls else None,
        ),
        close=overread.close,
    )


@dataclass(kw_only=True)
class _Child:
    """One place among the receiver processes, and who holds it now."""

    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failed_starts: int = 0
    not_before: float = 0.0


@dataclass(kw_only=True)
class Supervisor:
    """Keeps `settings.receivers` processes alive on one listening socket."""

    listening: socket.socket
    settings: Settings
    factory: str = DEFAULT_FACTORY
    _stop: threading.Event = field(default_factory=threading.Event)
    _children: list[_Child] = field(default_factory=list)

    def run(self, ready: Callable[[], None]) -> int:
        """See `run`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        port: int = self.listening.getsockname()[1]
        self._children = [_Child() for _ in range(max(self.settings.receivers, 1))]
        try:
            for child in self._children:
                self._start(child)
            log.info("receiver_listening", port=port, processes=len(self._children))
            ready()
            while not self._stop.wait(0.1):
                for child in self._children:
                    if not self._look_after(child):
                        return 1
        finally:
            self._end()
        return 0

    @property
    def pids(self) -> list[int]:
        """Of the processes that run now."""
        return [child.process.pid for child in self._children if child.process is not None]

    def _start(self, child: _Child) -> None:
        number = self.listening.fileno()
        command = [sys.executable, "-m", "overread.receiver", "--socket", str(number), "--factory", self.factory]
        command += ["--parent", str(os.getpid())]
        process = subprocess.Popen(command, pass_fds=[number], stdin=subprocess.PIPE)
        child.process = process
        # By a pipe: they may hold a password, which arguments would show to every user of the machine.
        with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as pipe:
            pipe.write(self.settings.model_dump_json().encode())
        child.started = time.monotonic()
        log.info("receiver_started", pid=child.process.pid)

    def _look_after(self, child: _Child) -> bool:
        """Replace a dead child, with growing pauses while it cannot start. False: it never will."""
        now = time.monotonic()
        if child.process is not None:
            status = child.process.poll()
            if status is None:
                return True
            child.failed_starts = 0 if now - child.started > _STARTED_WELL_S else child.failed_starts + 1
            log.error("receiver_died", pid=child.process.pid, status=status, failed_starts=child.failed_starts)
            child.process = None
            child.not_before = now + min(0.1 * 4.0 ** max(child.failed_starts - 1, 0), _LONGEST_PAUSE_S)
        # Killed ones come back at once; only a child that fails in its start, again and again, ends the receiver.
        if child.failed_starts > _MAX_FAILED_STARTS and not self.pids:
            log.error("receiver_gives_up")
            return False
        if now >= child.not_before:
            self._start(child)
        return True

    def _end(self) -> None:
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + GRACE_S + 5.0
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                log.error("receiver_killed", pid=process.pid)
                process.kill()
                process.wait()
        log.info("receiver_stopped")


def serve(listening: socket.socket, factory: str, settings: Settings, parent: int) -> None:
    """A child: serve associations on the parent's socket until told to stop, or until `parent` is gone."""
    from overread.dicom.receive import StorageScp

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    module, _, function = factory.partition(":")
    mine = cast("ReceiverParts", getattr(importlib.import_module(module), function)(settings))
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()  # what was loaded until now stays: later collections need not look at it
    scp = StorageScp(mine.sink, mine.senders, mine.options, mine.custody)
    scp.start(listening)
    log.info("receiver_ready", pid=os.getpid())
    while not stop.wait(0.5) and os.getppid() == parent:
        pass
    scp.stop(GRACE_S)
    mine.close()


def main() -> None:
    """`python -m overread.receiver`: how the parent starts a child; the settings come on stdin as JSON."""
    parser = argparse.ArgumentParser(prog="overread.receiver", description=main.__doc__)
    parser.add_argument("--socket", type=int, required=True, help="file descriptor of the listening socket")
    parser.add_argument("--parent", type=int, required=True, help="process to follow into death")
    parser.add_argument("--factory", default=DEFAULT_FACTORY, help="module:function that makes what a child needs")
    arguments = parser.parse_args()
    settings = Settings(**json.load(sys.stdin))
    serve(socket.socket(fileno=arguments.socket), arguments.factory, settings, arguments.parent)


if __name__ == "__main__":
    main()
