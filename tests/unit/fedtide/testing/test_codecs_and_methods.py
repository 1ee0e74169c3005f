"""``round_trip`` and ``one_task`` find the mistakes that an author of a codec or a method makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from fedtide import Codec, DeviceTask, LocalSGD, Method, Outcome, Reason, RejectedUpdate
from fedtide.testing import FakeBlobs, one_task, round_trip
from fl_core.built_in import CODECS
from fl_core.codecs import codec
from fl_core.errors import BrokerUnavailable, MissingBlob, PayloadLost

DATA = TensorDataset(torch.ones(8, 3), torch.arange(8) % 2)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [1, 1000, 40_000])
def test_the_built_in_codecs_keep_their_word(name: str, size: int) -> None:
    """There and back, within the bound; hostile bytes are rejected or decode into the right size."""
    values = np.random.default_rng(0).normal(size=size).astype(np.float32)
    decoded = round_trip(codec(name), values)
    kept = decoded != 0
    np.testing.assert_allclose(decoded[kept], values[kept], atol=0.05)
    assert kept.mean() >= (0.01 if name == "topk" else 0.9)


class Plain(Codec):
    """A right one: the bytes of float32."""

    def encode(self, values: Any, seed: int) -> bytes:
        return bytes(values.tobytes())

    def max_payload_bytes(self, num_elements: int) -> int:
        return 4 * num_elements

    def decode(self, payload: Any, num_elements: int) -> Any:
        if len(payload) != 4 * num_elements:
            raise RejectedUpdate(Reason.MALFORMED, "another length")
        return np.frombuffer(payload, np.float32)


def _writes(self: Any, values: Any, seed: int) -> bytes:
    values *= 2
    return bytes(values.tobytes())


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"encode": _writes}, "Wrong.encode() wrote into the vector"),
        ({"encode": lambda self, values, seed: np.random.bytes(4000)}, "gave other bytes for the same seed"),
        ({"max_payload_bytes": lambda self, n: 3999}, "Wrong encodes 1000 elements in 4000 bytes, above its 3999"),
        (
            {"decode": lambda self, payload, n: np.zeros(n)},
            "Wrong.decode() gave float64 of shape (1000,); it is float",
        ),
        (
            {"decode": lambda self, payload, n: np.frombuffer(payload, np.float32)},
            "Wrong.decode() gave float32 of shape (0,); it is float32 of shape (1000,)",
        ),
        (
            {"decode": lambda self, payload, n: np.frombuffer(payload, np.float32, count=n)},
            "hostile bytes raised ValueError: buffer is smaller than requested size; it has to raise RejectedUpdate",
        ),
    ],
)
def test_a_codec_s_mistake_is_named(members: dict[str, Any], said: str) -> None:
    """What an author forgets."""
    round_trip(Plain())
    with pytest.raises(AssertionError) as caught:
        round_trip(type("Wrong", (Plain,), members)())
    assert said in str(caught.value)


class Sends(Method):
    """Whatever it was given."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def train(self, task: DeviceTask) -> Outcome:
        return Outcome(values=self.values, training=task.train())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros(8), "Sends sends float64 of shape (8,); it is float32 of shape (8,)"),
        (np.zeros(7, np.float32), "Sends sends float32 of shape (7,); it is float32 of shape (8,)"),
        ([0.0] * 8, "Sends sends list; it is float32 of shape (8,)"),
        (np.full(8, np.nan, np.float32), "Sends sends NaN or infinite values"),
    ],
)
def test_a_method_s_mistake_is_named(values: Any, said: str) -> None:
    """The form of what it sends."""
    with pytest.raises(AssertionError) as caught:
        one_task(Sends(values), nn.Linear(3, 2), DATA)
    assert said in str(caught.value)


def test_one_task_is_what_a_device_does() -> None:
    """The delta is what training did to the model, from a base version that stays."""
    model = nn.Linear(3, 2)
    before = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy().copy()
    outcome = one_task(LocalSGD(), model, DATA)
    after = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()
    np.testing.assert_array_equal(outcome.values, after - before)
    assert outcome.values.any()


def test_a_store_has_what_was_put_there() -> None:
    """And says what is missing, lost or away."""
    blobs = FakeBlobs({"a": b"123", "b": b"4"})
    blobs.lost_payloads.add("b")
    assert bytes(blobs.fetch("a", 3)) == b"123"
    for name, error in (("b", PayloadLost), ("c", MissingBlob)):
        with pytest.raises(error):
            blobs.fetch(name, 1)
    blobs.is_away = True
    with pytest.raises(BrokerUnavailable):
        blobs.fetch("a", 3)
    assert blobs.fetched == ["a", "b", "c", "a"]
