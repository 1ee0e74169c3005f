"""What the documents' code meets in a test: campaigns under a virtual clock, and a campaign on a broker.

``tests/integration/test_front_door.py`` runs the same calls with real servers and workers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import msgpack
import redis

import fedtide
from fedtide import running
from fl_core.broker import keys
from fl_core.broker.keys import CampaignKeys

UPDATES = 4


def run_without_processes() -> Callable[..., fedtide.Run]:
    """In the place of ``fedtide.run``: the same arguments are read in full, and the campaign has a few updates under a
    virtual clock, on devices with the fleet's data and delays."""
    signature = inspect.signature(fedtide.run)

    def run(*args: Any, **kwargs: Any) -> fedtide.Run:
        given = signature.bind(*args, **kwargs).arguments
        devices = [
            fedtide.SimulatedDevice(
                worker.name, worker.data, 0.1 + worker.emulate_delay_seconds, queue=worker.queue[0],
                data_args=worker.data_args,
            )
            for worker in running._read_fleet(given["fleet"])
        ]  # fmt: skip
        beside = {name: given[name] for name in ("out", "on_progress") if name in given}
        return fedtide.simulate(given["spec"], devices, updates=UPDATES, **beside)

    return run


def put_up_a_campaign(client: redis.Redis, name: str) -> Callable[[float], None]:
    """A running campaign on the broker. Calling what is returned ends it, as time would."""

    def say(state: str) -> None:
        client.set(CampaignKeys(name).status, msgpack.packb({"state": state, "versions": 3}))

    client.zadd(keys.CAMPAIGNS, {name: 1})
    say("running")
    return lambda seconds: say("stopped")
