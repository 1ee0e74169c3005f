"""A campaign with an authority at a broker whose operator is hostile: he has all rights there, and only delays it.

The programs run as whom their certificates name; the server lets everybody do everything.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from coordinator.enrolment.authority import Authority, create_authority
from fl_core.broker import keys
from fl_core.broker.connection import connect
from fl_core.broker.doorbell.message import ring_commands
from fl_core.broker.overview.registry import Registry
from fl_core.identity.certificates import Role
from fl_core.identity.domain import Domain
from fl_core.identity.folder import read_identity
from fl_core.identity.signer import Operator, Signer
from fl_core.wire.messages import ModelUpdate, TaskCall, TrainOrder
from fl_core.wire.signed import Signed, order_digest
from tests.integration.lab import Lab, Program, assert_identity, until


class Federation:
    """An authority, its members' folders, and a campaign's programs."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.client = connect(lab.url)
        # Any word is the password of the one user, who may do everything.
        self.url = lab.url.replace("redis://", "redis://default:x@")
        self.authority: Authority = create_authority(lab.folder / "authority", "ours")
        for name, role in (("one", "coordinator"), ("two", "coordinator"), ("ops", "operator"), ("dev", "device")):
            self.authority.make_identity(name, Role(role), 2, broker=self.url)

    def folder(self, name: str) -> Path:
        return self.authority.folder / "identities" / name

    def coordinator(self, spec: Path, who: str, *more: str) -> Program:
        words = ["--identity", str(self.folder(who)), "run", str(spec), "--out", str(self.lab.folder / "run"), *more]
        return self.lab.program("coordinator", *words, "--trial-seconds", "0", name=f"coordinator-{who}")

    def worker(self) -> Program:
        words = ["--identity", str(self.folder("dev")), "--data", "fl_core.data:digits", "--threads", "1"]
        words += ["--state-dir", str(self.lab.folder / "state"), "--emulate-delay-seconds", "0.05"]
        return self.lab.program("workers", *words, name="dev")

    @property
    def campaign(self) -> str:
        return str(self.client.zrange(keys.CAMPAIGNS, 0, 0)[0].decode())

    @property
    def names(self) -> keys.CampaignKeys:
        return keys.CampaignKeys(self.campaign)

    def versions(self) -> int:
        return max((line.get("version") or 0 for line in self.lab.history()), default=0)

    def moves_on(self) -> None:
        """Whatever was done to it, versions go on being merged."""
        now = self.versions()
        until(lambda: self.versions() > now + 2)


@pytest.fixture
def federation(lab: Lab) -> Iterator[Federation]:
    made = Federation(lab)
    yield made
    made.client.close()


class Overwriting:
    """While the block lasts, the broker's operator puts his own word back whenever the coordinator mends it."""

    def __init__(self, client: redis.Redis, key: str, field: str, value: bytes) -> None:
        self._words = (key, field, value)
        self._client = client
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        key, field, value = self._words
        while not self._ended.wait(0.001):
            self._client.hset(key, field, value)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def test_who_operates_the_broker_can_delay_a_campaign_and_not_change_it(federation: Federation) -> None:
    """Forged and old orders, versions, requests and updates; then a standby with an identity of its own takes over."""
    lab, client = federation.lab, federation.client
    spec = lab.spec(
        stop={"updates": 100_000}, aggregation={"strategy": "fedasync", "buffer_size": None},
        dispatch={"concurrency": 2, "lease_seconds": 3.0}, checkpoint={"keep_log": True},
        evaluation={"data": "fl_core.data:digits", "data_args": {"split": "test"}, "every_versions": 1},
    )  # fmt: skip
    first = federation.coordinator(spec, "one")
    worker = federation.worker()
    until(lambda: federation.versions() > 2)
    names, device = federation.names, read_identity(federation.folder("dev"))
    old = client.hgetall(names.head)

    # A doorbell by hand is void; an order of his own, and a version, are dropped, said and counted.
    call = TaskCall(campaign=federation.campaign, task_id="1-000000000000", attempt=1, queue="default")
    for command in ring_commands([call], 0):
        client.execute_command(*command)
    order = TrainOrder.from_bytes(Signed.from_bytes(client.get(names.order)).body)
    forged = replace(order, model_factory="os:system", model_args={"command": f"touch {lab.folder}/owned"}).to_bytes()
    sealed = Signer(device).seal(Domain.ORDER, forged)  # with all that a device has
    client.set(names.order, sealed)
    with Overwriting(client, names.head, "order", order_digest(sealed).encode()):
        worker.wait_for("is signed by dev, a device: somebody forged it")
    federation.moves_on()
    until(lambda: any(line["kind"] == "evaluation" for line in lab.history()))
    with Overwriting(client, names.head, "sealed", old[b"sealed"]):  # the version of a while ago
        worker.wait_for("a server was restored, or somebody shows an old one again")
    federation.moves_on()
    assert not (lab.folder / "owned").exists()

    # Requests: unsigned, by a device, an honest one twice.
    signed = Operator(federation.folder("ops")).seal
    client.xadd(names.control, {"request": "stop"})
    Registry(client, Signer(device).seal).request(federation.campaign, "stop")
    Registry(client, signed).request(federation.campaign, "pause")
    until(lambda: Registry(client).status(federation.campaign).state == "paused")
    Registry(client, signed).request(federation.campaign, "resume")
    again = next(fields for _, fields in client.xrange(names.control) if fields[b"request"] == b"pause")
    client.xadd(names.control, again)
    until(lambda: len(_refused(lab)) == 3)
    assert _refused(lab) == ["bad_signature", "unknown_operator", "replayed"]
    until(lambda: Registry(client).status(federation.campaign).state == "running")

    # An update that was trained from something else ends no task.
    update = ModelUpdate(
        campaign=federation.campaign, task_id="1-000000000000", attempt=1, worker="dev", base_version=0, num_examples=1,
        sends="delta", codec="fp32", layout_digest=order.layout_digest, payload_bytes=4, payload_digest="0" * 64,
        blob="", num_chunks=0, bytes_down=0, metrics={}, seconds={}, incarnation=order.incarnation,
        base_digest="0" * 64, base_mac="0" * 32,
    )  # fmt: skip
    task = next(iter(client.hgetall(names.open_tasks)))
    header = Signer(device).seal(Domain.UPDATE, replace(update, task_id=task.decode()).to_bytes())
    client.xadd(names.log, {"u": header, "p": b"1234"})
    until(lambda: "wrong_base" in Registry(client).status(federation.campaign).to_row("").get("surplus", {}))

    # Another coordinator, with an identity of its own, goes on; one without cannot.
    first.kill()
    without = lab.run(spec, "--resume", name="without")
    assert without.wait() == 2
    assert "go on with `fedtide --identity DIR run`" in without.output
    second = federation.coordinator(spec, "two", "--resume")
    federation.moves_on()
    Registry(client, signed).request(federation.campaign, "stop")
    assert second.wait() == 0, second.output
    summary = lab.summary()
    assert_identity(summary)
    assert summary["surplus"]["wrong_base"] == 1
    assert json.loads(_replay(lab))["equal"]


def _refused(lab: Lab) -> list[str]:
    """Requests that were refused, by reason."""
    return [line["reason"] for line in lab.history() if line["kind"] == "request"]


def _replay(lab: Lab) -> Any:
    run = lab.program("coordinator", "replay", str(lab.folder / "run"), "--json", name="replay")
    assert run.wait() == 0, run.output
    return run.output
