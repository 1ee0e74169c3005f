"""Who operates the broker can write any order, pointer and version there: a device with an identity takes none."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.campaign.ledger import OpenTask
from coordinator.outgoing.orders import Orders
from coordinator.outgoing.sealing import Sealing
from coordinator.outgoing.transaction import Transaction
from fl_core.broker.bulk.head import Pointer
from fl_core.broker.bulk.places import Places
from fl_core.broker.bulk.seen import Seen
from fl_core.broker.bulk.trust import Trust
from fl_core.broker.bulk.versions import publish_commands, read_newest, write_version
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import MissingBlob, UntrustedError
from fl_core.identity.certificates import Role, read_certificate
from fl_core.identity.domain import Domain, Seal
from fl_core.wire.digest import digest, strong_digest
from fl_core.wire.messages import TaskCall
from fl_core.wire.signed import Signed, order_digest
from tests.unit.coordinator.stand_ins import IDENTITY, Recorder, context
from tests.unit.federation import START, Federation

OURS, OTHERS = Federation(), Federation()
COORDINATOR = OURS.member("boss", Role.COORDINATOR)
NOW_MS = START.timestamp() * 1000


class World:
    """A campaign with an authority at a broker that a forger operates.

    Attributes:
        client: with all rights.
        device: with the identity of its authority.
    """

    def __init__(self, seal: Seal | None = COORDINATOR, *, seen: Seen | None = None, fence: int = 1) -> None:
        self.client = MemoryClient(MemoryServer())
        writer = Recorder(self.client)
        writer.fence = fence
        ctx = context(self.client, writer=writer)
        self.identity = replace(IDENTITY)
        self.ctx = replace(ctx, seal=seal, authority=OURS.authority)
        self.keys = ctx.keys
        self.trust = Trust(OURS.authority, seen or Seen(), lambda: NOW_MS)
        self.device = TaskBroker(self.client, "dev-1", trust=self.trust)
        self.publish(0)
        transaction = Transaction(self.ctx)
        transaction.open([OpenTask(1, 1, 0, "default", 0)])
        transaction.commit()

    def publish(self, version: int, **changes: Any) -> None:
        """As the coordinator does, or another one under the same or a later fence, in the same or a later life."""
        ctx = replace(self.ctx, **changes)
        sealing, transaction = Sealing(ctx), Transaction(ctx)
        orders = Orders(ctx, "delta", sealing)
        payload = bytes([version]) * 40
        head = write_version(Places(self.client), self.keys, version, payload, name=sealing.name)
        transaction.add(publish_commands(self.keys, head))
        transaction.add(orders.commands(0))
        transaction.add(sealing.pointer_commands(head, orders.written))
        transaction.commit()

    def claim(self) -> bytes:
        """The version that the device would train from."""
        call = TaskCall(campaign=IDENTITY.campaign, task_id=IDENTITY.task_id(1), attempt=1, queue="default")
        claim = self.device.claim(call, "")
        assert claim.task is not None
        assert claim.head is not None
        return bytes(self.device.fetch(claim.task, claim.head))

    def state(self) -> dict[bytes, bytes]:
        """All that the broker says of the newest version and the order."""
        return {**self.client.hgetall(self.keys.head), b"": self.client.get(self.keys.order)}

    def show(self, state: dict[bytes, bytes]) -> None:
        self.client.set(self.keys.order, state[b""])
        self.client.delete(self.keys.head)
        self.client.hset(self.keys.head, mapping={name: value for name, value in state.items() if name})

    def order(self, packed: bytes) -> None:
        self.client.set(self.keys.order, packed)
        self.client.hset(self.keys.head, "order", order_digest(packed))

    def pointer(self, seal: Seal, domain: Domain = Domain.VERSION, **changes: Any) -> None:
        signed = Signed.from_bytes(self.client.hget(self.keys.head, "sealed"))
        pointer = replace(Pointer.from_bytes(signed.body), **changes)
        self.client.hset(self.keys.head, "sealed", seal(domain, pointer.to_bytes()))

    def signed_order(self) -> Signed:
        return Signed.from_bytes(self.client.get(self.keys.order))


def test_what_its_coordinator_has_signed_is_trained_by() -> None:
    """One version after the other, also after another coordinator took over, and in a new life."""
    world = World()
    assert world.claim() == bytes(40)
    world.publish(1)
    assert world.claim() == b"\1" * 40
    later = Recorder(world.client)
    later.fence = 2
    other = OURS.member("standby", Role.COORDINATOR)
    world.publish(1, writer=later, seal=other)
    assert world.claim() == b"\1" * 40
    later.fence = 3
    world.publish(0, writer=later, identity=replace(IDENTITY, incarnation="reborn"))
    assert world.claim() == bytes(40)


def _other_bytes(world: World) -> None:
    """Of the pointer, the digest of another version as well."""
    forged = b"x" * 40
    world.client.set(f"{world.keys.version(0)}:0", forged)
    world.client.hset(world.keys.head, "digest", strong_digest(forged))


def _changed_order(world: World) -> None:
    signed = world.signed_order()
    body = signed.body.replace(b"default", b"evil...").replace(b"a:b", b"o:s")
    world.order(replace(signed, body=body).to_bytes())


FORGERIES: dict[str, tuple[Callable[[World], Any], str]] = {
    "an order without a signature": (lambda world: world.order(world.signed_order().body), "is not signed; launch"),
    "other words in the order": (_changed_order, "is not what boss has signed"),
    "an order of a device": (
        lambda world: world.order(OURS.member("dev-2", Role.DEVICE)(Domain.ORDER, world.signed_order().body)),
        "signed by dev-2, a device",
    ),
    "an order of an operator": (
        lambda world: world.order(OURS.member("ops", Role.OPERATOR)(Domain.ORDER, world.signed_order().body)),
        "signed by ops, a operator",
    ),
    "an order of another authority": (
        lambda world: world.order(OTHERS.member("boss", Role.COORDINATOR)(Domain.ORDER, world.signed_order().body)),
        "under another authority",
    ),
    "an order signed as something else": (
        lambda world: world.order(COORDINATOR(Domain.UPDATE, world.signed_order().body)), "is not what boss has signed"
    ),
    "no signed pointer": (lambda world: world.client.hdel(world.keys.head, "sealed"), "is not signed; launch"),
    "a device's pointer": (
        lambda world: world.pointer(OURS.member("dev-2", Role.DEVICE), digest="0" * 64), "signed by dev-2, a device"
    ),
    "a monitor's pointer": (lambda world: world.pointer(OURS.member("eye", Role.MONITOR)), "signed by eye, a monitor"),
    "a pointer signed as an order": (lambda world: world.pointer(COORDINATOR, Domain.ORDER), "is not what boss"),
    "a pointer of another campaign": (
        lambda world: world.pointer(COORDINATOR, campaign="digits-2"), "is that of campaign digits-2"
    ),
    "a pointer of another life": (
        lambda world: world.pointer(COORDINATOR, incarnation="before"), "goes with another order"
    ),
    "a pointer with another order": (lambda world: world.pointer(COORDINATOR, order="0" * 64), "with another order"),
    "a pointer with a weak digest": (lambda world: world.pointer(COORDINATOR, digest="0" * 32), "names no version by"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forgery_is_refused_before_anything_is_built(what: str) -> None:
    """In one sentence that says what to do; what the coordinator has written is taken afterwards."""
    world = World()
    honest, (forge, said) = world.state(), FORGERIES[what]
    forge(world)
    with pytest.raises(UntrustedError, match=said) as refused:
        world.claim()
    assert str(refused.value).count(".") <= 2
    world.show(honest)
    assert world.claim() == bytes(40)


def test_forged_bytes_of_a_version_are_no_version() -> None:
    """Whatever the plain pointer says: the digest that was signed is asked of them, by devices and by the evaluator."""
    world = World()
    _other_bytes(world)
    for read in (world.claim, lambda: read_newest(Places(world.client), world.keys, attempts=2, trust=world.trust)):
        with pytest.raises(MissingBlob):
            read()
    world.client.hdel(world.keys.head, "sealed")
    with pytest.raises(MissingBlob, match="is not signed"):
        read_newest(Places(world.client), world.keys, trust=world.trust)


def test_where_a_version_lies_is_signed_as_well() -> None:
    """Bytes are fetched, and updates sent, where the coordinator has said."""
    world = World()
    world.client.hset(world.keys.head, mapping={"place": "elsewhere.example:1", "updates": "elsewhere.example:1"})
    assert world.claim() == bytes(40)


@pytest.mark.parametrize("restarted", [False, True])
def test_an_old_version_is_not_taken_again(restarted: bool, tmp_path: Path) -> None:
    """Nor an earlier coordinator's, nor one of an earlier life; also after the worker was started again."""
    kept = Seen(tmp_path / "seen")
    world = World(seen=kept, fence=7)
    old = world.state()
    world.claim()
    world.publish(1)
    before = world.state()
    world.claim()
    later = Recorder(world.client)
    later.fence = 8
    reborn = replace(IDENTITY, incarnation="reborn")
    world.publish(1, writer=later, identity=reborn)
    world.claim()
    kept.save()
    if restarted:
        world.device = TaskBroker(
            world.client, "dev-1", trust=Trust(OURS.authority, Seen(tmp_path / "seen"), lambda: NOW_MS)
        )
    newest = world.state()
    for state in (old, before):
        world.show(state)
        with pytest.raises(UntrustedError, match="this device has seen version 1 of coordinator 8"):
            world.claim()
    world.show(newest)
    assert world.claim() == b"\1" * 40


def test_clocks_may_be_days_off() -> None:
    """Certificates begin three days before they are signed, and end as much later on a device."""
    world = World()
    for days, good in ((-2, True), (12, True), (-4, False), (14, False)):
        moment = (START + datetime.timedelta(days=days)).timestamp() * 1000
        trust = Trust(OURS.authority, Seen(), lambda moment=moment: moment)  # type: ignore[misc]
        world.device = TaskBroker(world.client, "dev-1", trust=trust)
        if good:
            world.claim()
        else:
            with pytest.raises(UntrustedError, match="by this machine's clock"):
                world.claim()


def test_a_coordinator_that_was_sent_away_leads_no_device_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as a device looks at the list again; one with a lower number brings nobody back."""
    now = [1000.0]
    monkeypatch.setattr("fl_core.broker.bulk.trust.time.monotonic", lambda: now[0])
    world, lists = World(), [OURS.revoked(0)]
    world.device = TaskBroker(
        world.client, "dev-1", trust=Trust(OURS.authority, Seen(), lambda: NOW_MS, lambda: lists[-1])
    )
    world.claim()
    serial = read_certificate(world.signed_order().certificate, OURS.authority).serial
    for shown in (OURS.revoked(2, serial), OURS.revoked(1), b"rubbish", OTHERS.revoked(9)):
        lists.append(shown)
        now[0] += 60
        world.publish(1)
        with pytest.raises(UntrustedError, match="signed by boss, whose certificate was revoked"):
            world.claim()
        world.publish(2)


def test_a_worker_without_an_identity_reads_what_is_signed() -> None:
    """Its updates are refused, with the reason; and a campaign without an authority signs nothing."""
    world = World()
    world.device = TaskBroker(world.client, "dev-1")
    assert world.claim() == bytes(40)
    plain = World(None)
    assert b"sealed" not in plain.state()
    assert plain.state()[b"digest"] == digest(bytes(40)).encode()
    with pytest.raises(UntrustedError, match="is not signed; launch"):
        plain.claim()
