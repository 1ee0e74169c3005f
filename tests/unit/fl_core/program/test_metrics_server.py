"""The port from which Prometheus reads a process."""

from __future__ import annotations

import urllib.request

import pytest

from fl_core.errors import SpecError

prometheus_client = pytest.importorskip("prometheus_client")

from fl_core.program.metrics_server import MetricsServer  # noqa: E402


def test_metrics_are_read_from_the_moment_that_it_is_started() -> None:
    """The port is its own before, so that one in use is told before work begins; afterwards it is free."""
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("fedtide_test", "Of this test.", registry=registry).inc(3)
    server = MetricsServer("127.0.0.1", 0, registry)
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    other = prometheus_client.CollectorRegistry()
    with pytest.raises(SpecError, match=f"--metrics-port {port} on 127.0.0.1 cannot be used .*free port"):
        MetricsServer("127.0.0.1", port, other)
    server.start()
    try:
        with urllib.request.urlopen(server.url, timeout=10) as answer:
            page = answer.read().decode()
    finally:
        server.stop()
    assert "fedtide_test_total 3.0" in page
    assert "process_resident_memory_bytes" in page
    MetricsServer("127.0.0.1", port, prometheus_client.CollectorRegistry()).stop()


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("203.0.113.1", 0)])
def test_an_address_that_cannot_be_had_is_told(host: str, port: int) -> None:
    """One sentence, with both flags."""
    with pytest.raises(SpecError, match="--metrics-host"):
        MetricsServer(host, port, prometheus_client.CollectorRegistry())
