"""A line that is slow, late, or cut: a proxy in a thread, with buffers so small that whoever sends feels it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class SlowLine:
    """Passes connections on to a server.

    Args:
        port: the server's, on this machine.
        bytes_per_second: in each direction of each connection; None for no limit.

    Attributes:
        url: of this end.
        up: bytes that have passed towards the server.
        down: bytes that have passed from it.
        cut_after: so many bytes in one direction, and all connections are cut, once.
        frozen: nothing passes while it is set.
        swallowed: bytes that came over connections that were forgotten.
    """

    def __init__(self, port: int, bytes_per_second: float | None = None) -> None:
        self._target = ("127.0.0.1", port)
        self._rate = bytes_per_second
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(100)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.up = self.down = 0
        self.cut_after: int | None = None
        self.frozen = threading.Event()
        self.swallowed = 0
        self._sockets: list[socket.socket] = []
        self._forgotten: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def forget(self) -> None:
        """As a NAT does: whatever comes over the connections that are open now is swallowed, and nobody is told."""
        self._forgotten.update(self._sockets)

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
                there = socket.create_connection(self._target)
            except OSError:
                return
            self._sockets += [here, there]
            for source, target, way in ((here, there, "up"), (there, here, "down")):
                threading.Thread(target=self._pass_on, args=(source, target, way), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, way: str) -> None:
        try:
            while data := source.recv(4096):
                if source in self._forgotten:
                    self.swallowed += len(data)
                    continue
                while self.frozen.is_set():
                    time.sleep(0.01)
                target.sendall(data)
                setattr(self, way, getattr(self, way) + len(data))
                if self.cut_after is not None and getattr(self, way) >= self.cut_after:
                    self.cut_after = None
                    self.cut()
                if self._rate is not None:
                    time.sleep(len(data) / self._rate)
        except (OSError, ValueError):
            pass
        finally:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
