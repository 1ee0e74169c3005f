"""A campaign over mutual TLS, from the authority to the last update: every program shows a certificate of its own.

The server that the ``embedded`` extra brings has no TLS; these tests take a ``redis-server`` or ``valkey-server`` that
is on the PATH, and are skipped where there is none that has it (Debian: ``apt-get install redis-server``).
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.enrolment.authority import Authority, create_authority
from fl_core.broker.bulk import blobs
from fl_core.broker.connection import connect
from fl_core.broker.inbox import packed
from fl_core.broker.keys import CampaignKeys
from fl_core.errors import BrokerUnavailable
from fl_core.identity.certificates import Role
from fl_core.identity.domain import Domain
from fl_core.identity.folder import Identity, read_identity
from fl_core.identity.signer import Signer
from fl_core.wire.messages import ModelUpdate
from tests.integration.lab import Lab, Program, assert_identity, until

SERVER = next((found for name in ("valkey-server", "redis-server") if (found := shutil.which(name))), None)
ADMIN = "word-of-the-administrator"


def _serve(identity: Path, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A server that takes TLS with client certificates alone, and keeps its users in a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    (folder / "users.acl").write_text(f"user default on >{ADMIN} ~* &* +@all\n")
    arguments = [str(SERVER), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    arguments += ["--tls-cert-file", str(identity / "identity.pem"), "--tls-key-file", str(identity / "identity.pem")]
    arguments += ["--tls-ca-cert-file", str(identity / "authority.pem"), "--tls-auth-clients", "yes", "--save", ""]
    arguments += ["--aclfile", str(folder / "users.acl")]
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


class Federation:
    """An authority, two servers with TLS, and the commands of whoever runs it."""

    def __init__(self, lab: Lab, authority: Authority, port: int, blobs_port: int) -> None:
        self.lab, self.authority = lab, authority
        self.address, self.blobs = f"rediss://127.0.0.1:{port}/0", f":{blobs_port}"
        self.admin = self.address.replace("rediss://", f"rediss://:{ADMIN}@")
        self._number = 0

    def identity(self, name: str) -> Identity:
        return read_identity(self.authority.folder / "identities" / name)

    def command(self, *words: str, program: str = "coordinator", code: int = 0) -> str:
        """Run one and return what it printed."""
        self._number += 1
        more = ["--authority", str(self.authority.folder)] if words[0] in ("authority", "device") else []
        if words[0] in ("authority", "device") and words[1] not in ("list", "rotate"):
            more += ["--broker", self.admin, "--blobs", self.blobs]
        run = self.lab.program(program, *words, *more, name=f"command-{self._number}")
        assert run.wait() == code, run.output
        return run.output

    def start(self, program: str, *words: str, name: str) -> Program:
        return self.lab.program(program, *words, name=name)

    def enrol(self, *names: str) -> list[Path]:
        """As a person does it: tokens, each device's command, and one answer to all."""
        tokens = self.lab.folder / "tokens"
        self.command("device", "add", *names, "--reach", self.address, "--into", str(tokens))
        folders = [self.lab.folder / f"identity-{name}" for name in names]
        asking = [
            self.start(
                "workers", "enroll", str(tokens / f"{name}.token"), "--identity", str(folder), name=f"ask-{name}"
            )
            for name, folder in zip(names, folders, strict=True)
        ]
        for program in asking:
            program.wait_for("has asked for its certificate")
        said = self.command("device", "accept")
        assert all(f"{name}: enrolled" in said for name in names)
        for program in asking:
            assert program.wait() == 0, program.output
        return folders

    def worker(self, name: str, shard: int) -> Program:
        words = ["--identity", str(self.lab.folder / f"identity-{name}"), "--data", "fl_core.data:digits"]
        words += ["--data-args", json.dumps({"shard": shard, "num_shards": 4}), "--threads", "1"]
        words += ["--state-dir", str(self.lab.folder / f"state-{name}"), "--emulate-delay-seconds", "0.1"]
        return self.start("workers", *words, name=name)


@pytest.fixture
def federation(lab: Lab) -> Iterator[Federation]:
    if SERVER is None:
        pytest.skip("no redis-server or valkey-server with TLS is installed (Debian: apt-get install redis-server)")
    authority = create_authority(lab.folder / "authority", "ours")
    hosts = ("localhost", "127.0.0.1")
    _, folder = authority.make_identity("server", Role.SERVER, 2, hosts=hosts)
    broker, port = _serve(folder, lab.folder / "tls-broker")
    second, blobs_port = _serve(folder, lab.folder / "tls-blobs")
    for role in (Role.COORDINATOR, Role.OPERATOR, Role.MONITOR):
        where: dict[str, Any] = {"broker": f"rediss://127.0.0.1:{port}/0", "blobs": f":{blobs_port}"}
        authority.make_identity(role.value, role, 2, **where)
    yield Federation(lab, authority, port, blobs_port)
    for process in (broker, second):
        process.terminate()
        process.wait()


def test_a_federation_from_the_first_key_to_the_last_update(federation: Federation) -> None:
    """Enrolled by token, a campaign on two servers with large updates, a device that is sent away half-way."""
    lab, boss = federation.lab, str(federation.authority.folder / "identities")
    assert "3 users are set." in federation.command("authority", "users")
    federation.enrol("one", "two")
    model = {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [1200], "classes": 10}}
    spec = lab.spec(
        model=model, stop={"updates": 100_000}, dispatch={"concurrency": 3, "lease_seconds": 3.0},
        checkpoint={"keep_log": True},
    )  # fmt: skip
    words = ["--identity", f"{boss}/coordinator", "run", str(spec), "--out", str(lab.folder / "run")]
    coordinator = federation.start("coordinator", *words, "--blobs", federation.blobs, name="coordinator")
    first, second = federation.worker("one", 0), federation.worker("two", 1)

    def asked(*words: str, who: str = "monitor") -> Any:
        return json.loads(federation.command("--identity", f"{boss}/{who}", *words, "--json"))

    until(lambda: any(line.get("worker") == "one" or "one" in json.dumps(line) for line in lab.history()))
    shown = {row["worker"]: row["identity"] for row in asked("workers")}  # proven by their certificates
    assert shown.keys() == {"one", "two"}
    assert set(shown.values()) <= {"enrolled", "expiring"}
    campaign = asked("campaigns")[0]["campaign"]
    _forge(federation, campaign)
    refused = {"unknown_worker", "bad_signature"}
    until(lambda: {row["reason"] for row in asked("rejected", campaign)} == refused)
    federation.command("device", "revoke", "one")
    assert first.wait(15) == 2
    assert first.output.splitlines()[-1].startswith("Error: the authority has revoked the certificate of one")
    assert {row["identity"] for row in asked("workers") if row["worker"] == "one"} <= {"revoked"}
    lines = len(lab.history())
    until(lambda: len(lab.history()) > lines + 2)
    asked("stop", campaign, who="operator")
    assert coordinator.wait() == 0, coordinator.output
    summary = lab.summary()
    assert_identity(summary)
    assert summary["surplus"] == {"unknown_worker": 1, "bad_signature": 1}
    assert "the authority has revoked certificates" in coordinator.output
    assert '"equal": true' in federation.command("replay", str(lab.folder / "run"), "--json")
    assert second.process.poll() is None
    with connect(federation.identity("coordinator").url(federation.address.replace("/0", "/0"))) as client:
        assert client.ping()
    there = connect(f"rediss://:{ADMIN}@127.0.0.1{federation.blobs}/0?" + _files(federation.identity("operator")))
    assert there.info("commandstats")["cmdstat_set"]["calls"] >= 5
    broker = connect(f"{federation.admin}?" + _files(federation.identity("operator")))
    refused_to = {row["username"] for admin in (broker, there) for row in admin.acl_log()}
    assert refused_to <= {"one"}, "who was sent away; nobody else asked for what is not theirs"
    states = {row["name"]: row["state"] for row in json.loads(federation.command("device", "list", "--json"))}
    assert (states["one"], states["two"]) == ("revoked", "enrolled")


def _forge(federation: Federation, campaign: str) -> None:
    """An enrolled device writes into the inbox by hand: in another one's name, and without a signature."""
    identity = read_identity(federation.lab.folder / "identity-one")
    record = ModelUpdate(
        campaign=campaign, task_id="1-000000000000", attempt=1, worker="two", base_version=0, num_examples=1,
        sends="delta", codec="fp32", layout_digest="0" * 16, payload_bytes=4, payload_digest="0" * 64, blob="",
        num_chunks=0, bytes_down=0, metrics={}, seconds={},
    ).to_bytes()  # fmt: skip
    with connect(identity.url()) as client:
        for header in (Signer(identity).seal(Domain.UPDATE, record), record):
            client.rpush(CampaignKeys(campaign).inbox, packed("u", header, b"1234"))


def _files(identity: Identity) -> str:
    return identity.url("rediss://127.0.0.1:1/0").partition("?")[2]


def test_nobody_comes_in_without_a_certificate_of_the_authority(federation: Federation, tmp_path: Path) -> None:
    """None at all, another authority's; and a device's own certificate makes no server that others would believe."""
    url = federation.identity("coordinator").url()
    federation.command("authority", "users")
    payload = bytes(range(256)) * (3 * blobs.CHUNK_BYTES // 256 + 1)
    key = "fedtide:c:{a}:blob:b"
    with connect(url) as client:
        blobs.put(client, key, payload)
        assert bytes(blobs.get(client, key, len(payload))) == payload
    stranger = create_authority(tmp_path / "strangers", "ours")
    stranger.make_identity("coordinator", Role.COORDINATOR, 2)
    theirs = _files(read_identity(stranger.folder / "identities" / "coordinator"))
    ours = f"ssl_ca_certs={federation.authority.folder}/authority.pem"
    mixed = f"{ours}&{theirs.partition('&')[2]}"
    # Of a server that hangs up, TLS does not always bring the reason.
    hung_up = "has cut the connection|wants a certificate|does not know the authority|does not answer"
    refusals = {ours: hung_up, theirs: "no certificate of the authority that this program trusts", mixed: hung_up}
    for options, said in refusals.items():
        with pytest.raises(BrokerUnavailable, match=f"writing a blob: .*({said})"):
            blobs.put(connect(f"{url.partition('?')[0]}?{options}"), key, payload)

    (folder,) = federation.enrol("one")
    fake, port = _serve(folder, tmp_path / "fake")
    try:
        with pytest.raises(BrokerUnavailable, match=r"writing a blob: .* shows a certificate that is no server's"):
            blobs.put(connect(federation.identity("coordinator").url(f"rediss://127.0.0.1:{port}/0")), key, payload)
    finally:
        fake.terminate()
        fake.wait()
