"""The port from which Prometheus reads one process: bound at once, so one in use is reported before work begins."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import structlog

from fl_core.errors import SpecError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = structlog.get_logger()


class MetricsServer:
    """Serves a registry on ``http://HOST:PORT/metrics``, read-only and without a login.

    Args:
        host: the address to listen on.
        port: 0 takes a free one.
        registry: whose metrics; process metrics (memory, processor time, open files) are added to it.

    Raises:
        SpecError: the port cannot be had.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        from prometheus_client import MetricsHandler, ProcessCollector

        ProcessCollector(registry=registry)
        kind = type("_Server6", (_Server,), {"address_family": socket.AF_INET6}) if ":" in host else _Server
        try:
            self._server = kind((host, port), MetricsHandler.factory(registry))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise SpecError(
                f"--metrics-port {port} on {host} cannot be used ({why}); give a free port, and an address of this "
                "machine in --metrics-host."
            ) from None
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}/metrics"

    def start(self) -> None:
        """Begin to answer, from a thread of its own."""
        self._thread.start()
        log.info("metrics", url=self.url)

    def _serve(self) -> None:
        while True:
            try:
                self._server.serve_forever()  # until stop()
                return
            except Exception:  # out of file descriptors, say: nobody would look again
                log.exception("the metrics' server failed; going on")
                time.sleep(1)

    def stop(self) -> None:
        """End answering, and give the port back."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The base class would ask the name service for this machine's name, which may take seconds on a device.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that hangs up is no news."""
