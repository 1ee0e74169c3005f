"""Programs without their start: each is forked from a process that has loaded torch and our modules once.

A new interpreter spends about two seconds of a processor on that, and the tests start some hundreds of programs. What
runs afterwards is the same: its own session, working directory, environment and streams, the same entry point, and an
interpreter that ends as it always does. What a start itself does is shown by tests that ask for new interpreters.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import IO, Any

PROGRAMS = ("coordinator", "workers", "keepers")
# What the two import late.
LATE = (
    "coordinator.cli", "coordinator.launch.assemble", "coordinator.launch.resume", "coordinator.launch.run",
    "coordinator.loop.evaluation.evaluator", "coordinator.report.pages.page", "coordinator.report.replay",
    "coordinator.terminal.top", "fl_core.data.bundled", "fl_core.metrics.evaluation", "workers.child.train_task",
    "workers.cli", "workers.daemon",
)  # fmt: skip
# These can only be given to an interpreter that starts.
STARTERS = ("PYTHON", "LC_", "LANG", "LD_", "TZ")


class WarmProcess:
    """As much of ``subprocess.Popen`` as tests use; the process is a child of the one that forked it."""

    def __init__(self, pid: int, warm: _Warm) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._warm = warm
        self._handle = os.pidfd_open(pid)

    def poll(self) -> int | None:
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _look(self, seconds: float | None) -> int | None:
        if self.returncode is None and _is_readable(self._handle, seconds):
            self.returncode = self._warm.ask({"ended": self.pid})
            os.close(self._handle)
        return self.returncode


def start(
    arguments: list[str], folder: Path, output: IO[bytes], errors: IO[bytes], environment: dict[str, str]
) -> WarmProcess | subprocess.Popen[bytes]:
    """Start ``python -P -m ARGUMENTS`` in a folder; in a new interpreter where it has to be one.

    Args:
        arguments: the module and its arguments.
        folder: the working directory.
        output, errors: the files for both streams.
        environment: all of it.
    """
    given = {name for name in environment if environment[name] != os.environ.get(name)}
    starts = any(name.startswith(STARTERS) for name in given)
    if starts or arguments[0] not in PROGRAMS or not hasattr(os, "pidfd_open"):
        return start_new(arguments, folder, output, errors, environment)
    warm = _warm()
    request = {"arguments": arguments, "folder": str(folder), "environment": environment}
    return WarmProcess(warm.ask(request, output.fileno(), errors.fileno()), warm)


def start_new(
    arguments: list[str], folder: Path, output: IO[bytes], errors: IO[bytes], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """The same in a new interpreter."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env=environment,
        start_new_session=True,
    )


class _Warm:
    """The process that forks, from outside. It ends when this one does."""

    def __init__(self) -> None:
        self._socket, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(far.fileno())],
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        self._turn = threading.Lock()
        atexit.register(self._end)

    def ask(self, request: dict[str, Any], *files: int) -> int:
        with self._turn:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            answer = self._socket.recv(64)
        assert answer, "the process that forks has ended"
        return int(answer)

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def _warm() -> _Warm:
    return _Warm()


def _is_readable(handle: int, seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(0.0, seconds) * 1000))


# -- in the process that forks -----------------------------------------------------------------------------------------


def _serve(requests: socket.socket) -> list[str]:
    """Fork for each request; in a forked process, return the arguments of the program that it is to be."""
    sys.path.append(str(Path(__file__).parents[2]))
    for name in (*PROGRAMS, *LATE):
        importlib.import_module(name)
    gc.freeze()
    while True:
        asked, files, _, _ = socket.recv_fds(requests, 1 << 20, 2)
        if not asked:
            sys.exit()
        request = json.loads(asked)
        if "ended" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["ended"], 0)[1])
        elif answer := os.fork():
            for file in files:
                os.close(file)
        else:
            requests.close()
            _become(files, Path(request["folder"]), request["environment"])
            return list(request["arguments"])
        requests.send(str(answer).encode())


def _become(streams: list[int], folder: Path, environment: dict[str, str]) -> None:
    import numpy as np

    os.setsid()
    os.chdir(folder)
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    np.random.seed()
    importlib.reload(importlib.import_module("fl_core.program.crash_points"))  # it reads the environment


if __name__ == "__main__":
    # Not in a function: what the program raises, `SystemExit` too, ends this interpreter as it would end its own.
    sys.argv = _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
