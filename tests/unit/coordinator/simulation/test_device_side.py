"""The devices' side of a simulation: a task is claimed, taken and answered by the calls that a worker makes."""

from __future__ import annotations

from coordinator.simulation.device_side import DeviceSide, Taken
from coordinator.simulation.devices import SignsOfLife
from fl_core.broker.overview.roster import Roster
from fl_core.wire.messages import ModelUpdate, TaskReport
from tests.unit.coordinator.simulation.offered import Offered, device
from tests.unit.workers.tasks import LAYOUT


def _side(offered: Offered) -> DeviceSide:
    return DeviceSide(offered.client, SignsOfLife(offered.server.keyspace, {"default": (1, lambda: ["pi"])}))


def _in_hand(offered: Offered) -> str:
    ((_, holding),) = Roster(offered.client).lookup(["pi"]).values()
    return holding


def _taken(offered: Offered, side: DeviceSide, name: str = "pi", **more: float) -> Taken:
    taken = side.take(device(name, **more), offered.call())
    assert taken is not None
    return taken


def test_a_task_is_trained_from_the_newest_version_and_delivered_later() -> None:
    """Until then it is in the device's hands, and nothing is in the log; how long it takes is the device's speed."""
    offered = Offered()
    side = _side(offered)
    offered.offer(1)
    offered.publish(3)
    taken = _taken(offered, side, overhead_seconds=2.0, seconds_per_example=0.5)
    assert (taken.task.task_id.partition("-")[0], taken.work.version) == ("1", 3)
    assert taken.seconds == 2.0 + 2 * 4 * 0.5, "two steps of four examples"
    assert taken.bytes_down == 4 * LAYOUT.num_moving
    assert _in_hand(offered) == f"digits-1/{taken.task.task_id}#1"
    assert offered.answers() == []
    side.deliver(taken)
    (update,) = offered.answers()
    assert isinstance(update, ModelUpdate)
    assert (update.worker, update.base_version, update.num_examples) == ("pi", 3, 12)
    assert (update.seconds["train"], update.bytes_down) == (6.0, taken.bytes_down)
    assert not _in_hand(offered)


def test_a_version_that_a_device_has_is_not_fetched_again() -> None:
    """Each device pays for its own way down."""
    offered = Offered()
    side = _side(offered)
    offered.publish(1)
    paid = []
    for number, name in enumerate(("a", "a", "b"), start=1):
        offered.offer(number)
        taken = _taken(offered, side, name)
        side.deliver(taken)
        paid.append(taken.bytes_down)
    assert paid == [4 * LAYOUT.num_moving, 0, 4 * LAYOUT.num_moving]


def test_a_task_that_nobody_waits_for_is_not_trained() -> None:
    """Its doorbell was still on the queue, or another device has it."""
    offered = Offered()
    side = _side(offered)
    offered.publish(1)
    offered.offer(1, 2)
    first, second = offered.call(), offered.call()
    offered.close(1)
    assert side.take(device("pi"), first) is None
    assert side.take(device("pi"), second) is not None
    assert side.take(device("other"), second) is None
    assert offered.answers() == []


def test_a_task_that_is_given_up_is_reported() -> None:
    """As failed, with the reason; the device is free again."""
    offered = Offered()
    side = _side(offered)
    offered.publish(1)
    offered.offer(1)
    taken = _taken(offered, side)
    side.fail(taken, "too slow")
    (report,) = offered.answers()
    assert isinstance(report, TaskReport)
    assert (report.worker, report.task_id, report.outcome, report.detail) == (
        "pi", taken.task.task_id, "failed", "too slow",
    )  # fmt: skip
    assert not _in_hand(offered)
