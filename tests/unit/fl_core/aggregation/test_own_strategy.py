"""A strategy of one's own: wrong members are refused when it is built, and what it does wrong later is one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fl_core.aggregation import Contribution, Merge, Strategy, build_strategy
from fl_core.errors import BrokerUnavailable, CampaignError, SpecError, UserCodeError
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("w", (3,)),))


class Pairs(Strategy):
    """A right one: two updates make a version."""

    def __init__(self, layout: Layout, initial: Parameters) -> None:
        super().__init__(layout, initial)
        self.waiting: list[Any] = []

    @property
    def buffer_count(self) -> int:
        return len(self.waiting)

    def offer(self, contribution: Contribution) -> Merge | None:
        self.waiting = [*self.waiting, contribution.delta.values.tolist()]
        return self.flush() if len(self.waiting) == 2 else None

    def flush(self, share: float = 1.0) -> Merge | None:
        if not self.waiting:
            return None
        self.parameters.values[:] += np.mean(self.waiting, axis=0).astype(np.float32)
        count, self.waiting, self.version = len(self.waiting), [], self.version + 1
        return Merge(self.version, count, (0,) * count, tuple(np.ones(count, np.float32)))

    def export_state(self) -> Any:
        return {"w": self.parameters.values}, {"version": self.version, "waiting": self.waiting}

    def restore_state(self, tensors: Any, meta: Any) -> None:
        self.parameters.values[:] = tensors["w"]
        self.version, self.waiting = meta["version"], meta["waiting"]


def delta(*values: float) -> Contribution:
    """An update as admission gives it, in memory that can be written."""
    return Contribution(Delta(np.array(values, np.float32)), 1, 0, "worker-0")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Strategy]:
    """Builds the right strategy with other members in the place of its own."""

    def made(**members: Any) -> Strategy:
        module = ModuleType("users")
        module.Mine = type("Mine", (Pairs,), members)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "users", module)
        spec = parse_spec({"model": {"factory": "a:b"}, "aggregation": {"strategy": "users:Mine"}})
        return build_strategy(spec, LAYOUT, Parameters(np.zeros(3, np.float32)))

    return made


def test_a_right_one_merges_and_resumes(build: Callable[..., Strategy]) -> None:
    """It is used through the same members as a built-in one, and its numbers become Python's own."""
    strategy = build()
    assert isinstance(strategy, Strategy)
    assert strategy.offer(delta(2, 0, 0)) is None
    tensors, meta = strategy.export_state()
    again = build()
    again.restore_state(tensors, meta)
    merges = [one.offer(delta(0, 4, 0)) for one in (strategy, again)]
    assert merges == [Merge(1, 2, (0, 0), (1.0, 1.0))] * 2
    assert all(type(weight) is float for weight in merges[0].weights)  # type: ignore[union-attr]
    assert again.parameters.values.tolist() == [1.0, 2.0, 0.0]
    assert strategy.update_elements(0) == 3


def _raise(error: BaseException) -> Callable[..., Any]:
    def raises(*_: Any) -> Any:
        raise error

    return raises


def returns(kind: Any) -> Callable[..., Any]:
    """A method that says what it returns."""

    def flush(self: Any, share: float = 1.0) -> Any: ...

    flush.__annotations__["return"] = kind
    return flush


WRONG_METHODS: list[tuple[dict[str, Any], str]] = [
    ({"offer": None}, "Mine.offer is None and no method; it is offer(contribution: Contribution) -> Merge | None; see"),
    ({"offer": lambda self: None}, "Mine.offer(self) cannot be called as offer(contribution): too many positional"),
    ({"flush": lambda self: None}, "Mine.flush(self) cannot be called as flush(share): too many positional"),
    ({"flush": lambda self, share: None}, "Mine.flush(self, share) cannot be called as flush(): missing a required"),
    ({"update_elements": lambda self: 3}, "Mine.update_elements(self) cannot be called as update_elements(part)"),
    ({"slow": staticmethod(lambda: None)}, "Mine.slow() cannot be called as slow(factor): too many positional"),
    ({"flush": returns(float)}, "Mine.flush says that it returns float; it is flush(share: float = 1.0) -> Merge | No"),
    ({"flush": returns(Merge | str)}, "Mine.flush says that it returns fl_core.aggregation.strategy.Merge | str; it "),
]


@pytest.mark.parametrize(("members", "said"), WRONG_METHODS)
def test_a_method_of_another_form_is_refused_with_its_class(members: dict[str, Any], said: str) -> None:
    """At the class statement: which method, and what it has to look like."""
    with pytest.raises(SpecError) as caught:
        type("Mine", (Pairs,), members)
    assert said in str(caught.value)
    assert "see fedtide.Strategy" in str(caught.value)


def test_a_method_that_says_the_same_in_other_words_is_fine() -> None:
    """A narrower type, none at all, one that cannot be read, a further argument with a default."""
    for kind in (Merge, None, Any, "NoSuchName"):
        type("Mine", (Pairs,), {"flush": returns(kind)})
    type("Mine", (Pairs,), {"offer": lambda self, contribution, again=False: None})


def test_a_campaign_names_the_key_of_a_class_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the launch it is one sentence, with the import path in front."""
    code = "import fedtide\n\nclass Mine(fedtide.Strategy):\n    def offer(self): ...\n"
    (tmp_path / "users_wrong.py").write_text(code)
    (tmp_path / "users_less.py").write_text(code.replace("def offer(self): ...", "def flush(self, share=1.0): ..."))
    (tmp_path / "users_duck.py").write_text(code.replace("(fedtide.Strategy)", ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    for path, said in (
        ("users_wrong:Mine", "'users_wrong:Mine': Mine.offer(self) cannot be called as offer(contribution)"),
        ("users_less:Mine", "'users_less:Mine': Mine lacks the method offer(contribution: Contribution) -> Merge | No"),
        ("users_duck:Mine", "'users_duck:Mine' does not inherit from fedtide.Strategy; write class Mine(fedtide.Str"),
    ):
        spec = parse_spec({"model": {"factory": "a:b"}, "aggregation": {"strategy": path}})
        with pytest.raises(SpecError) as caught:
            build_strategy(spec, LAYOUT, Parameters(np.zeros(3, np.float32)))
        assert str(caught.value).startswith("aggregation.strategy = ")
        assert said in str(caught.value)


WRONG_MEMBERS: list[tuple[dict[str, Any], str]] = [
    ({"held_vectors": "many"}, "with held_vectors = 'many'; it is a number of vectors"),
    ({"sends": "gradient"}, "with sends = 'gradient'; it is one of 'delta', 'parameters', 'soft_labels'"),
    ({"barrier": None}, "with barrier = None; it is True or False"),
    ({"version": property(lambda self: 1, lambda self, value: None)}, "with version = 1 and buffer_count = 0; both"),
    ({"parameters": property(_raise(KeyError("w")), lambda self, value: None)}, "members of a Mine raised KeyError"),
    ({"parameters": property(lambda self: None, lambda self, value: None)}, "with parameters of type NoneType; they"),
    ({"export_state": lambda self: None}, "with an export_state() that gave a NoneType, not two dictionaries"),
    ({"export_state": lambda self: ({"w": [1]}, {})}, "gave 'w' as list; it is an array of numbers"),
    ({"export_state": lambda self: ({}, {})}, "gave no 'version' among the plain values"),
    ({"export_state": lambda self: ({}, {"version": np.int64(0)})}, "gave values that are not plain (can not "),
    ({"restore_state": _raise(KeyError("w"))}, "cannot be had or be given to restore_state(): KeyError: 'w'"),
    ({"__init__": lambda self, layout, initial: 1 / 0}, "users:Mine' cannot be built: ZeroDivisionError: division by"),
    ({"__init__": lambda self, spec, layout, initial: None}, "Mine(spec, layout, initial) cannot be called as Mine(la"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "said"), WRONG_MEMBERS)
def test_what_cannot_work_is_refused_when_it_is_built(
    build: Callable[..., Strategy], members: dict[str, Any], said: str
) -> None:
    """A missing member, a wrong signature or type, a state that no checkpoint could hold: before a campaign begins."""
    with pytest.raises(SpecError) as caught:
        build(**members)
    assert str(caught.value).startswith("aggregation.strategy = 'users:Mine'")
    assert said in str(caught.value)


def _merge_of(*fields: Any) -> Callable[..., Any]:
    def offer(self: Any, contribution: Contribution) -> Merge:
        self.version += 1
        return Merge(*fields)

    return offer


def _shrink(self: Any, contribution: Contribution) -> Merge:
    self.parameters = Parameters(self.parameters.values[:2])
    self.version += 1
    return Merge(self.version, 1, (0,), (1.0,))


def _write(self: Any, contribution: Contribution) -> None:
    contribution.delta.values[:] *= 2


WRONG_OFFERS: list[tuple[Callable[..., Any], str]] = [
    (_raise(BrokerUnavailable("not really")), "offer(contribution) raised BrokerUnavailable: not really"),
    (_raise(CampaignError("not really")), "offer(contribution) raised CampaignError: not really"),
    (_raise(SystemExit(1)), "offer(contribution) raised SystemExit: 1"),
    (lambda self, _: 3, "it gave a int, neither a Merge nor None"),
    (lambda self, _: None, "it gave None, so version 0 stays and 1 updates wait; version is 0 and buffer_count 0"),
    (_merge_of(2, 1, (0,), (1.0,)), "its Merge made version 2 of 0, and version is 1"),
    (_merge_of(1, 2, (0,), (1.0,)), "its Merge counts 2 of 1 updates, and buffer_count is 0 after it"),
    (_merge_of(1, 1, (), (1.0,)), "its Merge of 1 updates has not one staleness and weight for each"),
    (_merge_of(1, 1, (0,), (np.nan,)), "its Merge has a weight that is not finite"),
    (_merge_of(1, 1, (0,), None), "its Merge holds no numbers: "),
    (_shrink, "it left parameters that are float32 of shape (2,); they are float32 of shape (3,)"),
    (_write, "offer(contribution) raised ValueError: output array is read-only"),
]


@pytest.mark.parametrize(("offer", "said"), WRONG_OFFERS)
def test_what_it_does_wrong_is_one_sentence(build: Callable[..., Strategy], offer: Any, said: str) -> None:
    """Whatever it raises, and whatever it says that the ledger could not believe."""
    strategy = build(offer=offer)
    with pytest.raises(UserCodeError) as caught:
        strategy.offer(delta(1, 1, 1))
    assert str(caught.value).startswith("aggregation.strategy = 'users:Mine'")
    assert said in str(caught.value)


def test_a_part_that_it_cannot_answer_for_is_unknown(build: Callable[..., Strategy]) -> None:
    """The number of the part comes from whoever sends an update: it must cost that update at most."""
    strategy: Any = build(update_elements=lambda self, part: {0: 3, 1: "many"}[part])
    assert [strategy.update_elements(part) for part in (0, 1, 2**53 - 1)] == [3, None, None]


def test_a_flush_has_to_merge_what_waits_and_a_state_has_to_be_plain(build: Callable[..., Strategy]) -> None:
    """At a campaign's end nothing may stay behind, and no checkpoint may fail later than the merge that spoilt it."""
    strategy = build(flush=lambda self, share=1.0: None)
    strategy.offer(delta(1, 1, 1))
    with pytest.raises(UserCodeError, match=r"flush.share.: it merged nothing while 1 updates wait"):
        strategy.flush(0.5)
    spoilt = build(offer=lambda self, contribution: self.waiting.append(np.float32(1)))
    spoilt.offer(delta(1, 1, 1))
    with pytest.raises(UserCodeError, match=r"export_state.*it gave values that are not plain"):
        spoilt.export_state()
    with pytest.raises(UserCodeError, match=r"restore_state.*it stands at version 0, the state is of 7"):
        build(restore_state=lambda self, tensors, meta: None).restore_state({}, {"version": 7})
