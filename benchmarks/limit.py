"""What the machine itself allows: the same bytes through the same kind of server by bare sockets, and one add.

Per update: a client puts ``num_elements`` float32 in pipelined 1 MB chunks, the merging process gets them by
``recv_into`` in one buffer, adds them to its accumulator and puts the result as the new version, and the client gets
that. No log, no ledger, no digest, no check, no task, no persistence. Run in the same minute as what it is compared
with, because a shared machine is not the same from one minute to the next.

Up to four programs hold the clients' connections. One that holds several serves them in turn, which is the order in
which their updates are merged.
"""

from __future__ import annotations

import multiprocessing
import resource
import socket
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.broker.server.process import SOCKET

CHUNK = 2**20
PROGRAMS = 4


@dataclass(frozen=True)
class Limit:
    """What the machine allows: updates per second, and the merging process' processor time for each."""

    updates_per_second: float
    merger_cpu_seconds_per_update: float


class BareClient:
    """Redis' protocol by hand, for chunks and for one blocking queue."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._reader = self._socket.makefile("rb", buffering=64)

    def put(self, prefix: str, view: memoryview) -> None:
        count = 0
        for start in range(0, len(view), CHUNK):
            chunk = view[start : start + CHUNK]
            key = f"{prefix}:{count}".encode()
            head = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(key), key, len(chunk))
            self._socket.sendall(head)
            self._socket.sendall(chunk)
            self._socket.sendall(b"\r\n")
            count += 1
        for _ in range(count):
            self._reader.readline()

    def get(self, prefix: str, view: memoryview) -> None:
        starts = range(0, len(view), CHUNK)
        request = b""
        for count in range(len(starts)):
            key = f"{prefix}:{count}".encode()
            request += b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)
        self._socket.sendall(request)
        for start in starts:
            self._reader.readline()
            chunk = view[start : start + CHUNK]
            done = 0
            while done < len(chunk):
                done += self._reader.readinto(chunk[done:]) or 0
            self._reader.readline()

    def push(self, queue: str, word: str) -> None:
        self._command("RPUSH", queue, word)
        self._reader.readline()

    def pop(self, queue: str, seconds: float) -> str | None:
        self._command("BLPOP", queue, str(seconds))
        if self._reader.readline().startswith(b"*-1"):
            return None
        for _ in range(3):
            self._reader.readline()
        return self._reader.readline().strip().decode()

    def _command(self, *words: str) -> None:
        self._socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words))


def _clients(path: str, names: list[str], num_elements: int, over: Event) -> None:
    links = {name: BareClient(path) for name in names}
    update = np.full(num_elements, 1e-3, np.float32)
    model = np.zeros(num_elements, np.float32)
    for name, link in links.items():
        link.put(f"update-{name}", update.view(np.uint8).data)
        link.push("arrived", name)
    while True:
        for name, link in links.items():
            while link.pop(f"go-{name}", 1) is None:
                if over.is_set():
                    return
            link.get("version", model.view(np.uint8).data)
            link.put(f"update-{name}", update.view(np.uint8).data)
            link.push("arrived", name)


def _merger(path: str, num_elements: int, seconds: float, over: Event, answer: Any) -> None:
    link = BareClient(path)
    model = np.zeros(num_elements, np.float32)
    update = np.zeros(num_elements, np.float32)
    num_updates, begun, used = -1, 0.0, 0.0
    while True:
        name = link.pop("arrived", 10)
        if name is None:
            break
        link.get(f"update-{name}", update.view(np.uint8).data)
        np.add(model, update, out=model)
        link.put("version", model.view(np.uint8).data)
        link.push(f"go-{name}", "1")
        num_updates += 1
        if num_updates == 0:
            begun, used = time.monotonic(), _cpu_seconds()  # the first one warms the memory up
        elif num_updates >= 3 and time.monotonic() - begun >= seconds:
            break
    answer.put(Limit(num_updates / (time.monotonic() - begun), (_cpu_seconds() - used) / num_updates))
    over.set()


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure_limit(num_elements: int, num_clients: int, seconds: float) -> Limit:
    """What bare sockets and one add reach on this machine."""
    context = multiprocessing.get_context("spawn")
    over, answer = context.Event(), context.Queue()
    with (
        tempfile.TemporaryDirectory(prefix="fedtide-limit-") as folder,
        EmbeddedServer(Path(folder), persistent=False) as server,
    ):
        # The same way as between programs of one machine, which costs half of a loopback connection.
        path = str(server.folder / SOCKET)
        programs = [context.Process(target=_merger, args=(path, num_elements, seconds, over, answer))]
        names = [str(index) for index in range(num_clients)]
        programs += [
            context.Process(target=_clients, args=(path, names[part::PROGRAMS], num_elements, over))
            for part in range(min(PROGRAMS, num_clients))
        ]
        for program in programs:
            program.start()
        try:
            limit: Limit = answer.get(timeout=seconds + 300)
        finally:
            over.set()
            for program in programs:
                program.join(10)
                if program.is_alive():
                    program.kill()
    return limit
