"""The server's process: how it is started, waited for and ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fl_core.broker.server.binary import REMEDY
from fl_core.broker.server.ports import POLL_SECONDS
from fl_core.errors import BrokerUnavailable, SpecError

SOCKET = "socket"
_SOCKET_PATH_BYTES = 107
# Chunks of 1 MB come and go all the time. glibc would give their memory back to the kernel and have it zeroed again.
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TOP_PAD_": str(2**26)}
# A server that never forks can have huge pages: gigabytes of new memory then take a tenth of a second, not seconds.
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
_PR_SET_PDEATHSIG = 1


def arguments(folder: Path, host: str, port: int, *, persistent: bool, flush: str, maxmemory: int | None) -> list[str]:
    """The server's command line, without the program; ``EmbeddedServer`` says what each means."""
    # The folder is the working directory: a path with spaces in it need not survive the server's own quoting.
    words = ["--bind", host, "--port", str(port), "--protected-mode", "yes", "--daemonize", "no"]
    words += ["--dir", ".", "--save", "", "--maxmemory-policy", "noeviction"]
    words += ["--appendonly", "yes" if persistent else "no", "--appendfsync", flush]
    if not persistent:
        words += ["--disable-thp", "no"]
    if fits_a_socket(folder / SOCKET):
        # Programs on this machine may use it: half the cost per byte of the loopback interface. The name is
        # relative, and only this user gets through the folder.
        words += ["--unixsocket", SOCKET, "--unixsocketperm", "600"]
    if maxmemory is not None:
        words += ["--maxmemory", str(maxmemory)]
    return words


def launch(
    command: Sequence[str], folder: Path, log: IO[bytes], lock: int, *, persistent: bool
) -> subprocess.Popen[bytes]:
    """Start the server in its folder.

    Args:
        log: where its output goes.
        lock: the folder's lock file, which the process holds as long as it lives.

    Raises:
        SpecError: the program cannot be run.
    """
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            env={**os.environ, **_MALLOC, **({} if persistent else _HUGE_PAGES)},
            start_new_session=True,
            umask=0o077,
            preexec_fn=_end_with_this_thread(),
        )
    except OSError as error:
        raise SpecError(f"{command[0]} cannot be run ({error.strerror}); {REMEDY}.") from error


def wait_until_ready(
    process: subprocess.Popen[bytes], host: str, port: int, deadline: float, log: Callable[[], str]
) -> bool:
    """True when the server answers PING, false when it ended instead.

    Args:
        deadline: of waiting (``time.monotonic``).
        log: reads what the server has logged.

    Raises:
        BrokerUnavailable: it lives and does not answer.
    """
    loading = False
    with redis.Redis(host=host, port=port, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as client:
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
                    f"the embedded server on {host}:{port} {state} (last log line: "
                    f"{last_line(log())!r}); start again with more time."
                )
            time.sleep(POLL_SECONDS)
    return False


def fits_a_socket(path: Path) -> bool:
    """Whether a socket can have that path, and a place can name it."""
    return len(os.fsencode(path)) <= _SOCKET_PATH_BYTES and "," not in str(path)


def end(process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
    """SIGTERM, and SIGKILL after that time; with 0 SIGKILL at once."""
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


def last_line(text: str) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was logged"
