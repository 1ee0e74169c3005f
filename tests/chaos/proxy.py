"""A TCP forwarder between one worker and the server, whose cable can be pulled."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
import weakref

PAGE = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 21\r\n\r\n<html>no way</html>\r\n"


class Proxy:
    """Forwards 127.0.0.1:``port`` to a target; ``cut`` drops and refuses connections, ``freeze`` swallows bytes, and
    ``impersonate`` lets something answer that is no Redis."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._near: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._cut_until = self._frozen_until = self._foreign_until = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def cut(self, seconds: float) -> None:
        self._cut_until = time.monotonic() + seconds

    def freeze(self, seconds: float) -> None:
        self._frozen_until = time.monotonic() + seconds

    def impersonate(self, seconds: float) -> None:
        self._foreign_until = time.monotonic() + seconds

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5)

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            self._listener.setblocking(False)
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._ended.is_set():
                now = time.monotonic()
                if now < self._cut_until:
                    for sock in list(self._pairs):
                        self._drop(selector, sock)
                if now < self._frozen_until:
                    time.sleep(0.05)  # the bytes wait in the kernel, as on a cable that was pulled
                    continue
                for key, _ in selector.select(0.05):
                    sock = key.fileobj
                    if sock is self._listener:
                        self._accept(selector)
                    elif sock in self._pairs:
                        self._forward(selector, sock)  # type: ignore[arg-type]
            for sock in list(self._pairs):
                self._drop(selector, sock)
            self._listener.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        near, _ = self._listener.accept()
        if time.monotonic() < self._cut_until:
            near.close()
            return
        try:
            far = socket.create_connection(self._target, timeout=1)
        except OSError:
            near.close()
            return
        self._near.add(near)
        for one, other in ((near, far), (far, near)):
            one.settimeout(5)
            self._pairs[one] = other
            selector.register(one, selectors.EVENT_READ)

    def _forward(self, selector: selectors.BaseSelector, sock: socket.socket) -> None:
        try:
            data = sock.recv(262144)
            if data and time.monotonic() < self._foreign_until:
                (sock if sock in self._near else self._pairs[sock]).sendall(PAGE)
            elif data:
                self._pairs[sock].sendall(data)
                return
        except OSError:
            pass
        self._drop(selector, sock)

    def _drop(self, selector: selectors.BaseSelector, sock: socket.socket) -> None:
        other = self._pairs.pop(sock, None)
        for one in (sock, other):
            if one is not None:
                self._pairs.pop(one, None)
                with contextlib.suppress(KeyError, ValueError):
                    selector.unregister(one)
                one.close()
