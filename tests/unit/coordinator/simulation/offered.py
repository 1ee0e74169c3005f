"""A campaign's side of a simulation by hand: a version, an order, and tasks with their doorbells, on a twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from coordinator.campaign.ledger import OpenTask
from coordinator.outgoing.orders import Orders
from coordinator.outgoing.sealing import Sealing
from coordinator.outgoing.transaction import Transaction
from coordinator.simulation.devices import SimulatedDevice
from fl_core.broker import keys
from fl_core.broker.bulk.places import Places
from fl_core.broker.bulk.versions import publish_commands, write_version
from fl_core.broker.doorbell.message import read_call
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.wire.messages import ModelUpdate, TaskCall, TaskReport
from tests.unit.coordinator.stand_ins import IDENTITY, Recorder, context, sent
from tests.unit.workers.tasks import ARGS, LAYOUT


class Offered:
    """What devices find.

    Attributes:
        server, client: the twin.
        keys: the campaign's.
    """

    def __init__(self, **sections: Any) -> None:
        self.server = MemoryServer()
        self.client = MemoryClient(self.server)
        defaults: dict[str, Any] = {
            "model": {"factory": "fl_core.models:mlp", "args": ARGS},
            "training": {"local_steps": 2, "batch_size": 4},
        }
        ctx = context(self.client, writer=Recorder(self.client), **{**defaults, **sections})
        self._ctx = replace(ctx, layout=LAYOUT)
        self.keys = ctx.keys
        self.client.set(self.keys.incarnation, IDENTITY.incarnation)
        self._transaction = Transaction(self._ctx)
        self._transaction.add(Orders(self._ctx, "delta", Sealing(self._ctx)).commands(0))

    def publish(self, version: int) -> None:
        """All of its values are its number."""
        values = np.full(LAYOUT.num_moving, version, np.float32)
        head = write_version(Places(self.client), self.keys, version, values.data.cast("B"))
        self._transaction.add(publish_commands(self.keys, head))
        self._transaction.commit()

    def offer(self, *numbers: int, queue: str = "default") -> None:
        """Open tasks of these numbers and ring for them."""
        tasks = [OpenTask(number, 1, 0, queue, 0) for number in numbers]
        self._transaction.open(tasks)
        self._transaction.ring(tasks)
        self._transaction.commit()

    def close(self, *numbers: int) -> None:
        """Nobody waits for these any more."""
        self._transaction.close(numbers)
        self._transaction.commit()

    def call(self, queue: str = "default") -> TaskCall:
        """The next doorbell, taken."""
        call = read_call(self.client.quick("RPOP", keys.train_queue(queue)))
        assert call is not None
        return call

    def answers(self) -> list[ModelUpdate | TaskReport]:
        """Updates and reports that have arrived."""
        kinds: dict[str, type[ModelUpdate] | type[TaskReport]] = {"u": ModelUpdate, "r": TaskReport}
        return [kinds[kind].from_bytes(header) for kind, header, _ in sent(self.client, self.keys)]


def device(name: str, overhead_seconds: float = 1.0, **more: Any) -> SimulatedDevice:
    """One with twelve examples of its own."""
    generator = torch.Generator().manual_seed(len(name))
    inputs = torch.randn(12, 4, generator=generator)
    return SimulatedDevice(name, TensorDataset(inputs, (inputs.sum(dim=1) > 0).long()), overhead_seconds, **more)
