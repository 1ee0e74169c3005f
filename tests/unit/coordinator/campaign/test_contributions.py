"""What devices have contributed, as they say it themselves: counted within bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from coordinator.campaign.contributions import MAX_SCORED_DEVICES
from fl_core.errors import RejectedUpdate

FOUR = {"aggregation": {"buffer_size": 4}}


def test_devices_speak_of_themselves(bench: Callable[..., Any]) -> None:
    """The newest scores of each device are kept, and nothing else of what it reports."""
    campaign = bench(**FOUR).open(6)
    campaign.apply(campaign.update(1, worker="a", metrics={"personal_accuracy": 0.5, "loss": 2.0, "own": 1.0}))
    campaign.apply(campaign.update(2, worker="b", metrics={"loss": 2.0}))
    campaign.apply(campaign.update(3, worker="a", metrics={"personal_accuracy": 0.7, "global_loss": 1.0}))
    assert campaign.state.contributions.device_scores == {"a": {"personal_accuracy": 0.7, "global_loss": 1.0}}
    campaign.apply(campaign.update(4, worker="a"), campaign.update(1, worker="a", metrics={"personal_loss": 9.0}))
    assert campaign.state.contributions.device_scores["a"]["personal_accuracy"] == 0.7, "a duplicate says nothing"


def test_devices_are_kept_in_bounds(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of names does not grow the state beyond its bound; those that are known go on."""
    monkeypatch.setattr("coordinator.campaign.contributions.MAX_SCORED_DEVICES", 2)
    assert MAX_SCORED_DEVICES >= 1000
    campaign = bench(**FOUR).open(9)
    for number, worker in enumerate("abcab", start=1):
        campaign.apply(campaign.update(number, worker=worker, metrics={"personal_loss": float(number)}))
    assert campaign.state.contributions.device_scores == {"a": {"personal_loss": 4.0}, "b": {"personal_loss": 5.0}}


def test_what_devices_say_of_bytes_never_outgrows_a_checkpoint(bench: Callable[..., Any]) -> None:
    """The sum of what they fetched stops at a number that msgpack and JSON can write, however much they say."""
    made = bench(aggregation={"buffer_size": 1}).open(2)
    made.state.contributions.bytes_down = made.state.contributions.bytes_up = 2**53 - 1
    made.apply(made.update(1, bytes_down=2**40), made.update(2, bytes_down=2**40))
    assert made.state.contributions.bytes_down == made.state.contributions.bytes_up == 2**53
    msgpack.packb(made.state.export()[1])
    with pytest.raises(RejectedUpdate, match="bytes_down"):
        made.update(1, bytes_down=2**53 - 1)
