"""Attacks of a device that takes part, each with a name: what worked where all programs share one user works no more.

The same is done to two campaigns: one with open doors, where the attacker has the broker's address as everybody has it,
and one in which each program has an identity, and the attacker that of an enrolled device. What follows from rights
alone is in ``test_rights.py``, with the attacks' numbers; attacks on the enrolment are in ``test_enrolment.py``.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.enrolment import devices
from coordinator.enrolment.authority import create_authority
from coordinator.enrolment.servers import Servers, sync_users
from fl_core.broker.access import mailbox
from fl_core.broker.bulk.versions import order_commands
from fl_core.broker.connection import connect
from fl_core.broker.doorbell.message import ring_commands
from fl_core.broker.inbox import packed
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.log import scan
from fl_core.identity.certificates import Role, issue
from fl_core.identity.domain import Domain
from fl_core.identity.folder import Identity
from fl_core.identity.keys import public_bytes, sign
from fl_core.wire.digest import strong_digest
from fl_core.wire.messages import ModelUpdate, TaskCall
from fl_core.wire.signed import Signed, update_of
from tests.integration.lab import Lab, Program, until
from tests.integration.test_enrolment import enrol
from tests.unit.workers import tasks

NOW = datetime.datetime.now(datetime.UTC)

CLOSED = pytest.mark.parametrize("victim", ["closed"], indirect=True)


class Victim:
    """A campaign with two honest workers, and what an attacker has: an address, and perhaps an identity."""

    def __init__(self, folder: Path, doors: str) -> None:
        self.lab, self.closed = Lab(folder), doors == "closed"
        self.admin = connect(self.lab.url)
        self.url, self.eve = self.lab.url, None
        spec = self.lab.spec(stop={"updates": 100_000}, dispatch={"concurrency": 2}, aggregation={"buffer_size": 1})
        words = ["run", str(spec), "--out", str(folder / "run")]
        if self.closed:
            self._enrol_all(folder)
            words = ["--identity", str(self.authority.folder / "identities/chief"), *words]
        else:
            words += ["--broker", self.lab.url]
        self.coordinator = self.lab.program("coordinator", *words, name="coordinator")
        self.workers = {name: self._worker(name) for name in ("one", "two")}
        (found,) = until(lambda: self.admin.zrange("fedtide:campaigns", 0, -1))
        self.campaign = found.decode()
        self.keys = CampaignKeys(self.campaign)
        self.template = update_of(until(self._an_update))

    def _enrol_all(self, folder: Path) -> None:
        self.authority = create_authority(folder / "authority", "ours")
        self.authority.make_identity("chief", Role.COORDINATOR, 2, broker=self.lab.url)
        self.servers = Servers((self.admin,))
        sync_users(self.authority, self.servers)
        names = ["one", "two", "eve"]
        for token in devices.invite(
            self.authority, self.servers, names, broker=self.lab.url, blobs="", queues=["default"], days=2
        ):
            self.eve = enrol(self.authority, self.servers, token, folder / token.name)
        self.url = self.eve.url()

    def _worker(self, name: str) -> Program:
        who = ["--identity", str(self.lab.folder / name)] if self.closed else ["--broker", self.lab.url, "--name", name]
        words = [*who, "--data", "fl_core.data:digits", "--data-args", json.dumps({"shard": 0, "num_shards": 4})]
        words += ["--threads", "1", "--state-dir", str(self.lab.folder / f"state-{name}")]
        return self.lab.program("workers", *words, "--emulate-delay-seconds", "0.5", name=f"worker-{name}")

    def _an_update(self) -> bytes | None:
        return next((entry.header for entry in scan(self.admin, self.keys) if entry.kind == "u"), None)

    def forge(self, **changes: Any) -> tuple[bytes, bytes]:
        """An update with other fields and a payload that would ruin the model: header and payload, not signed."""
        payload = np.full(self.template.payload_bytes // 4, 1e3, np.float32).tobytes()
        return replace(self.template, payload_digest=strong_digest(payload), **changes).to_bytes(), payload

    def seal(self, header: bytes, identity: Identity | None = None, certificate: bytes = b"") -> bytes:
        """Signed as the attacker can, where doors are closed."""
        if self.eve is None:
            return header
        signer = identity or self.eve
        signature = sign(signer.key, Domain.UPDATE, header)
        return Signed(signature=signature, certificate=certificate or signer.certificate.der, body=header).to_bytes()

    def send(self, header: bytes, payload: bytes) -> None:
        """As a device does; the broker's operator might as well."""
        self.admin.rpush(self.keys.inbox, packed("u", header, payload))
        self.admin.xadd(self.keys.bell, {"x": ""}, maxlen=1)

    def refused(self) -> Counter[str]:
        """How much was refused so far, by reason."""
        return Counter(line["reason"] for line in self.lab.history() if line["kind"] == "rejection")

    def wait_for_refusal(self, before: Counter[str], reason: str) -> None:
        until(lambda: self.refused()[reason] > before[reason], 20)

    def goes_on(self) -> None:
        """Honest updates of both workers are merged, and nobody has ended."""
        lines = len(self.lab.history())

        def merged() -> bool:
            names = {name for line in self.lab.history()[lines:] for name in line.get("workers", ())}
            return {"one", "two"} <= names

        until(merged, 20)
        assert self.coordinator.process.poll() is None
        assert all(worker.process.poll() is None for worker in self.workers.values())

    def close(self) -> None:
        self.admin.close()
        self.lab.close()


@pytest.fixture(scope="module", params=["open", "closed"])
def victim(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    victim = Victim(tmp_path_factory.mktemp(request.param), request.param)
    yield victim
    victim.close()


def test_code_through_a_forged_doorbell(victim: Victim) -> None:
    """Of a campaign that there is not, with an order that names any program; and for a task that nobody waits for.

    What a device makes of such an order if its coordinator meant it: ``test_claim_first.py``.
    """
    mark = victim.lab.folder / "owned"
    order = replace(
        tasks.TASK, campaign="evil-1", model_factory="os:system", model_args={"command": f"touch {mark}"}
    )  # fmt: skip
    evil = CampaignKeys("evil-1")
    waited_for = [
        ["SET", evil.incarnation, "e"], ["HSET", evil.open_tasks, order.task_id, f"{order.attempt}|0|default"],
        *order_commands(evil, order.order.to_bytes()),
        ["HSET", evil.head, "version", "0", "num_bytes", "4", "digest", "0" * 32],
    ]  # fmt: skip
    calls = [order.call, TaskCall(campaign=victim.campaign, task_id="9-beef", attempt=1, queue="default")]
    with connect(victim.url) as attacker:
        for command in [*waited_for, *ring_commands(calls, 1)]:
            try:
                attacker.execute_command(*command)
            except Exception as error:
                assert victim.closed and "no permissions" in str(error)
    assert bool(victim.admin.exists(evil.order, evil.open_tasks, evil.head)) is not victim.closed
    until(lambda: victim.admin.llen("fedtide.train.default") == 0)
    victim.goes_on()
    assert not mark.exists()


def test_an_answer_in_anothers_name(victim: Victim) -> None:
    """A task that somebody else has, answered first: with open doors the honest answer is refused as a second one."""
    before = victim.refused()

    task, row = until(lambda: next(iter(victim.admin.hgetall(victim.keys.open_tasks).items()), None))
    attempt = int(row.split(b"|")[0])
    header, payload = victim.forge(task_id=task.decode(), attempt=attempt, worker="one", num_examples=9999)
    victim.send(victim.seal(header), payload)
    victim.wait_for_refusal(before, "unknown_worker" if victim.closed else "duplicate")
    after = victim.refused()
    assert (after["duplicate"] > before["duplicate"]) is not victim.closed
    assert (after["unknown_worker"] > before["unknown_worker"]) is victim.closed
    victim.goes_on()


@CLOSED
def test_a_signed_update_again(victim: Victim) -> None:
    """The same bytes are a duplicate; for another task, attempt or campaign they are nothing."""
    entry = next(entry for entry in scan(victim.admin, victim.keys) if entry.kind == "u")
    signed = Signed.from_bytes(entry.header)
    before = victim.refused()
    victim.send(entry.header, entry.payload)
    victim.wait_for_refusal(before, "duplicate")
    update = ModelUpdate.from_bytes(signed.body)
    task, row = until(lambda: next(iter(victim.admin.hgetall(victim.keys.open_tasks).items()), None))
    elsewhere = [
        replace(update, task_id=task.decode(), attempt=int(row.split(b"|")[0])), replace(update, attempt=2),
        replace(update, campaign="another-1"),
    ]  # fmt: skip
    for forged in elsewhere:
        before = victim.refused()
        victim.send(replace(signed, body=forged.to_bytes()).to_bytes(), entry.payload)
        victim.wait_for_refusal(before, "bad_signature")
    victim.goes_on()


@CLOSED
def test_a_certificate_out_of_its_time(victim: Victim) -> None:
    """By the broker's clock, in both directions; the sentence names the clock. Within it, two days off do no harm."""
    assert victim.eve is not None
    header, payload = victim.forge(task_id="9-beef", attempt=1, worker="eve")
    for days, reason in ((-40, "revoked"), (40, "revoked"), (-2, "unknown_task"), (2, "unknown_task")):
        certificate = issue(
            victim.authority.key, victim.authority.certificate, name="eve", role=Role.DEVICE,
            public_key=public_bytes(victim.eve.key), now=NOW + datetime.timedelta(days=days), days=5,
        )  # fmt: skip
        before = victim.refused()
        victim.send(victim.seal(header, certificate=certificate), payload)
        victim.wait_for_refusal(before, reason)
    said = [row["detail"] for row in victim.lab.ask("rejected", victim.campaign) if row["reason"] == "revoked"]
    assert len(said) == 2
    assert all("was not good by the broker's clock (it is good from 20" in one for one in said), said


@CLOSED
def test_a_list_of_revocations_that_is_taken_back(victim: Victim) -> None:
    """Whoever writes at the broker puts the list from before there: who was revoked stays it. This comes last."""
    header, payload = victim.forge(task_id="9-beef", attempt=1, worker="eve")
    old = mailbox.read_revocation_list(victim.admin)
    assert old is not None
    devices.revoke(victim.authority, victim.servers, ["eve"])
    until(lambda: "the authority has revoked certificates" in victim.coordinator.output)
    mailbox.publish_revocations(victim.admin, old)
    until(lambda: "the broker has an older list of what was revoked" in victim.coordinator.output)
    before = victim.refused()
    victim.send(victim.seal(header), payload)
    victim.wait_for_refusal(before, "revoked")
    victim.goes_on()
