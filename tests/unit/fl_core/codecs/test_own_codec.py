"""A codec of one's own, by import path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fl_core.codecs import Codec, codec
from fl_core.codecs.own_codec import OwnCodec, verify_codec
from fl_core.errors import Reason, RejectedUpdate, SpecError
from fl_core.spec import parse_spec
from fl_core.vectors import read_all


class Signs(Codec):
    """One byte per element: its sign, times a scale that both sides know."""

    needs_feedback = True

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def encode(self, values: Any, seed: int) -> bytes:
        return np.sign(values).astype(np.int8).tobytes()

    def max_payload_bytes(self, num_elements: int) -> int:
        return num_elements

    def decode(self, payload: Any, num_elements: int) -> Any:
        if len(payload) != num_elements:
            raise RejectedUpdate(Reason.MALFORMED, "another length")
        return np.frombuffer(payload, np.int8).astype(np.float32) * np.float32(self.scale)


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    module = ModuleType("own_signs")
    module.Signs, module.Half = Signs, type("Half", (Codec,), {"encode": Signs.encode})  # type: ignore[attr-defined]
    sys.modules["own_signs"] = module
    yield
    del sys.modules["own_signs"]


def test_it_encodes_and_decodes_with_its_own_settings() -> None:
    """What a spec says in codec.own_args reaches it, there and back."""
    section = parse_spec(
        {"model": {"factory": "a:b"}, "codec": {"name": "own_signs:Signs", "own_args": {"scale": 0.5}}}
    ).codec
    own = codec(section.name, section.args)
    payload = own.encode(np.array([3.0, 0.0, -2.0], np.float32), seed=0)
    assert read_all(own.decode(payload, 3)).tolist() == [0.5, 0.0, -0.5]


def test_what_lacks_members_is_refused() -> None:
    """One sentence, with the place where the members are listed; so for settings that it does not take."""
    with pytest.raises(SpecError, match=r"Half lacks the method decode\(payload: memoryview \| bytes, num_el"):
        codec("own_signs:Half")
    with pytest.raises(SpecError, match=r"codec.name"):
        codec("own_signs:Signs", {"size": 3})
    sys.modules["own_signs"].Duck = type("Duck", (), {})  # type: ignore[attr-defined]
    with pytest.raises(SpecError, match=r"does not inherit from fedtide.Codec; write class Duck\(fedtide.Codec\)"):
        codec("own_signs:Duck")
    with pytest.raises(SpecError, match=r"codec.name = 'none_such:Codec'"):
        codec("none_such:Codec")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"name": "int8", "own_args": {"a": 1}}, "own_args belongs to a codec of your own; 'int8' does not read it"),
        ({"name": "int8", "importance": "fisher"}, "importance = 'fisher' belongs to name = 'topk'; 'int8' does not"),
        ({"name": "topk", "fraction": 0.0}, "codec.fraction = 0.0 is not accepted"),
        ({"name": "topk", "importance": "size"}, "codec.importance = 'size' is not accepted"),
        ({"name": "own_signs:"}, "codec.name = 'own_signs:' is not accepted"),
    ],
)
def test_settings_of_another_codec_are_refused(section: dict[str, Any], said: str) -> None:
    """A key that nobody would read is an error."""
    with pytest.raises(SpecError) as caught:
        parse_spec({"model": {"factory": "a:b"}, "codec": section})
    assert said in str(caught.value)


class Trusting(Signs):
    """Believes whatever it is sent."""

    decode = staticmethod(lambda payload, num_elements: np.frombuffer(payload, np.float32))  # type: ignore[assignment]


def test_a_payload_that_it_cannot_read_costs_the_update() -> None:
    """Whatever decode raises on it, and whatever it makes of it, the sender is refused and the campaign goes on."""
    own = OwnCodec("own_signs:Trusting", Trusting())
    with pytest.raises(
        RejectedUpdate, match=r"malformed: codec.name = 'own_signs:Trusting' raised ValueError: .*decode"
    ):
        own.decode(b"abc", 3)
    with pytest.raises(RejectedUpdate, match=r"decoded \(1,\) elements, the vector has 3"):
        own.decode(b"abcd", 3)
    with pytest.raises(RejectedUpdate, match="another length"):
        OwnCodec("own_signs:Signs", Signs()).decode(b"abc", 4)
    assert OwnCodec("own_signs:Signs", Signs()).decode(b"\x01\x00\xff", 3).tolist() == [1, 0, -1]


WRONG_CODECS: list[tuple[dict[str, Any], str]] = [
    ({"encode": lambda self, values: b""}, "Wrong.encode(self, values) cannot be called as encode(values, seed): too"),
    ({"decode": None}, "Wrong.decode is None and no method; it is decode("),
    (
        {"encode": lambda self, values, seed: values.undo()},
        "cannot bring 5 elements there and back: Attribute",
    ),
    ({"max_payload_bytes": lambda self, n: 1}, "encodes 5 elements in 5 bytes, and says at most 1"),
    ({"decode": lambda self, payload, n: np.zeros(n)}, "decodes float64 of shape (5,); it is float32 of shape (5,)"),
    ({"decode": lambda self, payload, n: [0.0] * n}, "cannot bring 5 elements there and back: "),
]


@pytest.mark.parametrize(("members", "said"), WRONG_CODECS)
def test_one_that_cannot_work_is_refused_at_launch(members: dict[str, Any], said: str) -> None:
    """A wrong signature when its class is made; wrong bytes or values when a vector is brought there and back."""
    with pytest.raises(SpecError) as caught:
        sys.modules["own_signs"].Wrong = type("Wrong", (Signs,), members)  # type: ignore[attr-defined]
        verify_codec("own_signs:Wrong", codec("own_signs:Wrong"), 5)
    assert said in str(caught.value)
