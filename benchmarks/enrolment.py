"""How long a fleet takes to be enrolled: tokens, each device's request, certificates and users, with the real programs.

    python benchmarks/enrolment.py --devices 1000

The server has mutual TLS and keeps its users in a file, where a `redis-server` or `valkey-server` with TLS is on the
PATH; otherwise the one of the extra `embedded` is used, which has neither; the result says so. The authority's side
is `fedtide device add` and `fedtide device accept --watch`. The devices' side is what `fedtide-worker enroll` calls:
each makes its key, connects, asks, waits for its answer and writes its folder. ``--at-once`` of them do so side by side
in this one process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from processes import cpu_seconds

from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.identity.folder import read_identity
from fl_core.identity.token import Token
from workers.identity.enrolment import enroll

ADMIN = "administrator"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=32, help="so many devices ask at the same time")
    options = parser.parse_args()
    result = measure(options.devices, options.at_once)
    print(json.dumps(result), flush=True)
    print(
        f"{result['devices']} devices, TLS: {result['tls']}: invited in {result['invite_seconds']} s, enrolled in "
        f"{result['enrol_seconds']} s ({result['accept_cpu_seconds']} s of the authority's processor time), revoked in "
        f"{result['revoke_seconds']} s",
        file=sys.stderr,
    )


def measure(devices: int, at_once: int) -> dict[str, Any]:
    """Enrol them all, then send them all away."""
    names = [f"phone-{number}" for number in range(devices)]
    with tempfile.TemporaryDirectory(prefix="fedtide-enrolment-") as temporary:
        folder = Path(temporary)
        _fedtide("authority", "init", str(folder / "authority"))
        with _server(folder) as (broker, server_pid, tls):
            admin = ["--broker", broker, "--authority", str(folder / "authority")]
            _fedtide("authority", "users", *admin)
            began = time.monotonic()
            _fedtide("device", "add", *names, "--queue", "phone", "--into", str(folder / "tokens"), *admin)
            invited = time.monotonic()
            accepting = subprocess.Popen([*_PROGRAM, "device", "accept", "--watch", *admin], stdout=subprocess.DEVNULL)
            try:
                with ThreadPoolExecutor(at_once) as pool:
                    list(pool.map(lambda name: _enrol(folder, name), names))
                enrolled = time.monotonic()
                cpu = cpu_seconds(accepting.pid)
            finally:
                accepting.terminate()
                accepting.wait()
            server_cpu = cpu_seconds(server_pid)
            _fedtide("device", "revoke", *names, *admin)
            revoked = time.monotonic()
    return {
        "devices": devices, "tls": tls, "invite_seconds": round(invited - began, 2),
        "enrol_seconds": round(enrolled - invited, 2), "accept_cpu_seconds": round(cpu, 2),
        "server_cpu_seconds": round(server_cpu, 2), "revoke_seconds": round(revoked - enrolled, 2),
        "enrolled_per_second": round(devices / (enrolled - began), 1),
    }  # fmt: skip


_PROGRAM = [sys.executable, "-m", "coordinator"]


def _fedtide(*words: str) -> None:
    subprocess.run([*_PROGRAM, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _enrol(folder: Path, name: str) -> None:
    token = Token.from_text((folder / "tokens" / f"{name}.token").read_text())
    made = enroll(token, folder / "devices" / name, 300, lambda said: None)
    assert read_identity(made.folder).name == name


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[tuple[str, int, bool]]:
    """The administrator's address, the server's process id, and whether it has TLS."""
    binary = next((found for name in ("valkey-server", "redis-server") if (found := shutil.which(name))), None)
    if binary is None:
        with EmbeddedServer(folder / "broker") as embedded:
            yield embedded.url, embedded.pid, False
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    identity = folder / "authority/identities/server"
    (folder / "users.acl").write_text(f"user default on >{ADMIN} ~* &* +@all\n")
    (folder / "redis.conf").write_text(
        f"port 0\ntls-port {port}\nbind 127.0.0.1\ndir {folder}\nsave ''\naclfile {folder}/users.acl\n"
        f"tls-cert-file {identity}/identity.pem\ntls-key-file {identity}/identity.pem\n"
        f"tls-ca-cert-file {identity}/authority.pem\ntls-auth-clients yes\n"
    )
    process = subprocess.Popen([binary, str(folder / "redis.conf")], stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"rediss://:{ADMIN}@127.0.0.1:{port}/0", process.pid, True
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
