"""A campaign over TLS, with a certificate on each side: small and large payloads, and Celery's doorbells.

The server that the ``embedded`` extra brings has no TLS; these tests take the one on the PATH and are skipped where
there is none that has it.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_core.broker.bulk import blobs, chunks
from fl_core.broker.connection import connect
from fl_core.errors import BrokerUnavailable
from tests.integration.lab import Lab, assert_identity

SERVER = next((found for name in ("valkey-server", "redis-server") if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority of our own, and one certificate that server and clients share."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (Debian: apt-get install openssl)")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    openssl("req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "names", "-out", "cert.pem")  # fmt: skip
    return folder


def _serve(certificates: Path, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    arguments = [str(SERVER), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    arguments += ["--tls-cert-file", str(certificates / "cert.pem"), "--tls-key-file", str(certificates / "key.pem")]
    arguments += ["--tls-ca-cert-file", str(certificates / "ca.pem"), "--tls-auth-clients", "yes", "--save", ""]
    process = subprocess.Popen(arguments, stdout=(folder / "log").open("wb"), stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, port
        time.sleep(0.02)
    process.kill()
    process.wait()
    pytest.skip(f"{SERVER} does not serve TLS: {(folder / 'log').read_text().splitlines()[-1:]}")


@pytest.fixture
def ports(certificates: Path, tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two servers that take TLS alone: the broker, and the one for blobs."""
    if SERVER is None:
        pytest.skip("no redis-server or valkey-server with TLS is installed (Debian: apt-get install redis-server)")
    broker, port = _serve(certificates, tmp_path / "tls-broker")
    second, blobs_port = _serve(certificates, tmp_path / "tls-blobs")
    yield port, blobs_port
    for process in (broker, second):
        process.terminate()
        process.wait()


def _url(certificates: Path, port: int) -> str:
    files = f"ssl_certfile={certificates}/cert.pem&ssl_keyfile={certificates}/key.pem"
    return f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={certificates}/ca.pem&{files}"


def test_chunks_go_through_tls_as_they_are(certificates: Path, ports: tuple[int, int]) -> None:
    """The short way streams through the encrypted socket; who has no certificate is sent away."""
    client = connect(_url(certificates, ports[0]))
    payload = bytes(range(256)) * (3 * chunks.CHUNK_BYTES // 256 + 1)
    blobs.put(client, "blob", payload)
    assert bytes(blobs.get(client, "blob", len(payload))) == payload
    stranger = connect(f"rediss://127.0.0.1:{ports[0]}/0?ssl_ca_certs={certificates}/ca.pem")
    with pytest.raises(BrokerUnavailable, match="writing a blob: the broker does not answer"):
        blobs.put(stranger, "blob", payload)


def test_a_campaign_runs_over_tls(lab: Lab, certificates: Path, ports: tuple[int, int]) -> None:
    """Doorbells, log, versions and large updates, all of them encrypted, on two servers."""
    lab.url = _url(certificates, ports[0])
    model = {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [1200], "classes": 10}}
    coordinator = lab.run(lab.spec(model=model), "--blobs", f":{ports[1]}")
    lab.worker("one", shard=0)
    lab.worker("two", shard=1)
    assert coordinator.wait() == 0, coordinator.output
    summary = lab.summary()
    assert_identity(summary)
    assert (summary["merged"], summary["rejected"]) == (20, {})
    there = connect(_url(certificates, ports[1])).info("commandstats")
    assert there["cmdstat_set"]["calls"] >= 20
