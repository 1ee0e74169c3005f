"""How many connections workers hold, and what becomes of them where a server has too few."""

from __future__ import annotations

import signal
import time

from fl_core.broker import keys
from fl_core.broker.connection import connect
from fl_core.broker.doorbell.seats import NUM_CONNECTIONS
from tests.integration.lab import Lab, until


def test_a_worker_holds_as_many_connections_as_it_says(lab: Lab) -> None:
    """Waiting or at work; and one that waits ends at once when it is told to, though it waits for 20 s at a time."""
    client = connect(lab.url)
    before = client.info("clients")["connected_clients"]
    worker = lab.worker("steady")
    worker.wait_for("worker is ready")
    until(lambda: client.zcard(keys.live("default")))

    def held() -> int:
        return int(client.info("clients")["connected_clients"]) - before

    assert held() == NUM_CONNECTIONS, client.client_list()
    coordinator = lab.run(lab.spec(stop={"updates": 30}))
    until(lambda: lab.history())
    assert coordinator.wait() == 0
    until(lambda: held() <= NUM_CONNECTIONS)
    started = time.monotonic()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert time.monotonic() - started < 15, worker.output
    assert client.zcard(keys.live("default")) == 0


def test_half_the_connections_serve_half_the_fleet(lab: Lab) -> None:
    """Six workers start at once where three have room: three work, and the others come when those have left."""
    client = connect(lab.url)
    lab.run(lab.spec(stop={"updates": None}))
    until(lambda: client.llen(keys.train_queue("default")))
    until(lambda: client.info("clients")["connected_clients"] >= 3)  # the coordinator has two
    time.sleep(1)
    client.config_set("maxclients", int(client.info("clients")["connected_clients"]) + 3 * NUM_CONNECTIONS)
    workers = {f"w{index}": lab.worker(f"w{index}", delay=0.1) for index in range(6)}

    def at_work() -> set[str]:
        return {name for line in lab.history() for name in line.get("workers", ())}

    until(lambda: len(at_work()) == 3, 120)
    until(lambda: sum("not enough connections" in worker.output for worker in workers.values()) == 3)
    first = at_work()
    for name in first:
        workers[name].send(signal.SIGTERM)
    until(lambda: at_work() == set(workers), 120)
