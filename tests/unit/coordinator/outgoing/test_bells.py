"""Which doorbells are missing: as many are rung again as are missing, whatever else waits on the queue."""

from __future__ import annotations

from collections import Counter

from coordinator.campaign.ledger import OpenTask
from coordinator.outgoing.bells import FIRST_PROBES, Bells

ISSUED = 1000.0


def _tasks(count: int, queue: str = "default", *, first: int = 1, issued: float = ISSUED) -> list[OpenTask]:
    return [OpenTask(first + index, 1, 0, queue, round(issued * 1000)) for index in range(count)]


def _numbers(tasks: list[OpenTask]) -> list[int]:
    return [task.number for task in tasks]


def test_one_missing_doorbell_among_many_is_one_ring() -> None:
    """The queue gets as long as it should be, and stays so for as long as it takes to answer them all."""
    waiting, depth = _tasks(5_000), Counter({"default": 4_999})
    bells = Bells()
    assert bells.missing(waiting, [], depth, ISSUED + 1) == [], "a doorbell that was just rung is not missing"
    num_rung = 0
    for second in range(3, 150):
        # Ten are answered per second; as many new tasks come.
        claimed, waiting = waiting[:10], waiting[10:] + _tasks(10, first=10_001 + 10 * second, issued=ISSUED + second)
        rung = bells.missing(waiting, claimed, depth, ISSUED + second)
        if second == 3:
            assert _numbers(rung) == [11], "the oldest of those that wait"
        depth["default"] += len(rung)
        num_rung += len(rung)
    assert num_rung == 1


def test_each_queue_misses_its_own() -> None:
    """The oldest first; what was rung again has time to be answered."""
    depth = Counter({"cpu": 3, "gpu": 0})
    bells = Bells()
    waiting = [*_tasks(3, "cpu"), *_tasks(2, "gpu", first=4, issued=ISSUED + 1), *_tasks(1, "gpu", first=6)]
    assert _numbers(bells.missing(waiting, [], depth, ISSUED + 5)) == [6, 4, 5]
    assert bells.missing(waiting, [], depth, ISSUED + 6) == []
    assert _numbers(bells.missing(waiting, [], depth, ISSUED + 8)) == [4, 5, 6]


def test_a_task_that_was_overtaken_has_lost_its_doorbell() -> None:
    """Also where the messages of other campaigns make the queue look long enough."""
    bells, depth = Bells(), {"default": 10_000}
    old, other = _tasks(1), _tasks(5, first=2, issued=ISSUED + 8)
    assert bells.missing([*old, *other], [], depth, ISSUED + 12) == []
    assert _numbers(bells.missing([*old, *other[1:]], other[:1], depth, ISSUED + 13)) == [1]
    assert bells.missing([*old, *other[1:]], other[:1], depth, ISSUED + 14) == [], "it was rung just now"


def test_where_nothing_moves_a_few_are_rung_for_to_see() -> None:
    """All of ours may be gone behind a long queue of others: twice as many each time, in twice the time."""
    bells, depth = Bells(), {"default": 10_000}
    waiting = _tasks(1000)
    rung = {second: len(bells.missing(waiting, [], depth, ISSUED + second)) for second in range(1, 600)}
    assert [(second, count) for second, count in rung.items() if count] == [
        (63, FIRST_PROBES), (183, 2 * FIRST_PROBES), (423, 4 * FIRST_PROBES),
    ]  # fmt: skip
