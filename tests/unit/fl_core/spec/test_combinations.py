"""Every combination of built-in parts is refused by the table with its sentence, or it trains, codes and merges."""

from __future__ import annotations

import functools
import json
import re
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import fedtide
from fedtide.testing import one_task
from fl_core import codecs
from fl_core.aggregation import Contribution, build_strategy
from fl_core.built_in import CODECS, METHODS, SERVER_OPTIMIZERS, STALENESS, STRATEGIES
from fl_core.codecs import ErrorFeedback
from fl_core.codecs.model_payload import append_state, decode_update
from fl_core.errors import SpecError
from fl_core.factory import resolve
from fl_core.metrics import names as metric_names
from fl_core.models.build import build_model
from fl_core.models.mlp import mlp
from fl_core.spec import (
    AggregationSection,
    CampaignSpec,
    ServerOptimizerSection,
    TrainingSection,
    parse_section,
    parse_spec,
)
from fl_core.spec.combinations import METHOD_SENDS, ROWS, STRATEGY_SENDS, WITH_FEEDBACK, Choice, Row
from fl_core.spec.private_combinations import SUMMING
from fl_core.training.importance import accumulated
from fl_core.training.method import Outcome, build_method
from fl_core.training.one_task import encode
from fl_core.training.order import train_order
from fl_core.trial.parts import verify_parts
from fl_core.vectors import Delta, Parameters, SoftLabels
from fl_core.vectors.layout import Layout
from fl_core.wire.messages import TaskCall, TrainTask

PAGE = Path(__file__).parents[4] / "docs/methods.md"
SPEC_PAGE = PAGE.with_name("spec.md")
GENERATOR = torch.Generator().manual_seed(0)
PRIVATE = TensorDataset(torch.randn(24, 4, generator=GENERATOR), torch.arange(24) % 3)
PUBLIC = TensorDataset(torch.randn(6, 4, generator=GENERATOR), torch.zeros(6, dtype=torch.int64))
VECTORS = {"delta": Delta, "parameters": Parameters, "soft_labels": SoftLabels}
METHOD_ARGS = {
    "partial": {"num_parts": 2},
    "distillation": {"public_data": f"{__name__}:public", "num_classes": 3, "student_epochs": 1},
}
CENTRAL = {"mode": "central", "epsilon": 8.0}
LOCAL = {"mode": "local", "noise_multiplier": 1.0}
KEEPERS = {"keepers": ["a", "b", "c"]}
OPTIONS: list[dict[str, Any]] = [
    *({"codec": {"down": down}} for down in ("fp16", "bf16", "int8")),
    *({"codec": {"importance": importance}} for importance in ("gradient", "fisher", "attention")),
    {"codec": {"own_args": {"a": 1}}},
    *({"server_optimizer": {"name": name}} for name in SERVER_OPTIMIZERS),
    {"server_optimizer": {"momentum": 0.9}},
    {"server_optimizer": {"beta1": 0.5}},
    {"server_optimizer": {"learning_rate": 0.5}},
    *({"aggregation": {"staleness": name}} for name in STALENESS),
    *({"aggregation": {"args": {"rule": rule}}} for rule in ("median", "krum", "norm_clip", "cosine")),
    {"aggregation": {"args": {"temperature": 2.0}}},
    {"aggregation": {"example_weighting": True}},
    {"aggregation": {"max_wait_seconds": 1.0}},
    {"aggregation": {"max_update_norm": 1e9}},
    {"aggregation": {"buffer_size": 10_001}},
    *({"training": {name: 0.5}} for name in ("proximal_weight", "distillation_weight")),
    {"training": {"precision": "bfloat16"}},
    {"training": {"schedule": "plateau"}},
    {"privacy": CENTRAL},
    {"privacy": LOCAL},
    {"privacy": CENTRAL, "aggregation": {"example_weighting": True}},
    {"privacy": LOCAL, "aggregation": {"args": {"fairness": 0.5}}},
    {"privacy": CENTRAL, "aggregation": {"max_update_norm": 1e9}},
    {"privacy": CENTRAL, "checkpoint": {"keep_log": True}},
    {"privacy": {**LOCAL, "adaptive_clip": True}},
    {"privacy": {**LOCAL, "min_separation": 2}},
    {"secure_aggregation": KEEPERS},
    {"secure_aggregation": KEEPERS, "privacy": CENTRAL},
    {"secure_aggregation": KEEPERS, "privacy": LOCAL},
    {"secure_aggregation": {**KEEPERS, "clip": 1.0}, "privacy": CENTRAL},
    {"secure_aggregation": KEEPERS, "privacy": {**CENTRAL, "metrics": True}},
    {"secure_aggregation": KEEPERS, "aggregation": {"max_update_norm": 1e9}},
    {"secure_aggregation": KEEPERS, "aggregation": {"args": {"fairness": 0.5}}},
    {"secure_aggregation": KEEPERS, "aggregation": {"buffer_size": 9}},
    {"secure_aggregation": KEEPERS, "aggregation": {"buffer_size": 2048}},
]  # fmt: skip


def public() -> TensorDataset:
    """What the method and the strategy ``distillation`` name."""
    return PUBLIC


def document(strategy: str, method: str, codec: str, option: dict[str, Any] | None = None) -> dict[str, Any]:
    """A spec with these parts, and what they cannot start without."""
    sections: dict[str, dict[str, Any]] = {
        "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 4, "hidden": [5], "classes": 3}},
        "training": {"method": method, "method_args": METHOD_ARGS.get(method, {}), "batch_size": 8},
        "aggregation": {"strategy": strategy},
        "server_optimizer": {"learning_rate": 0.01} if strategy == "fadas" else {},
        "codec": {"name": codec, "fraction": 0.5} if codec == "topk" else {"name": codec},
    }
    for section, values in (option or {}).items():
        sections[section] = {**sections.get(section, {}), **values}
    return sections


def refusing(sections: dict[str, Any]) -> tuple[Row, str] | None:
    """The row of the table that speaks of a spec, and its sentence; each section is right by itself."""
    made = {
        name: field.annotation.model_validate(sections.get(name, {}))  # type: ignore[union-attr]
        for name, field in CampaignSpec.model_fields.items()
    }
    choice = Choice.of(CampaignSpec.model_construct(**made))
    return next(((row, sentence) for row in ROWS if (sentence := row.refuse(choice))), None)


@functools.cache
def trained(sends: str, importance: str, training: str) -> Outcome:
    """What one task comes to; strategies and codecs have no other part in it."""
    settings = parse_section(TrainingSection, json.loads(training), "training")
    torch.manual_seed(0)
    model = mlp(inputs=4, hidden=[5], classes=3)
    kind = accumulated(importance)
    return one_task(build_method(settings), model, PRIVATE, settings, sends=sends, importance=kind)


def works(sections: dict[str, Any]) -> None:
    """One task by the method, coded by the codec, merged by the strategy: the model moves, and stays finite."""
    spec = parse_spec(sections)
    model = build_model(spec.model.factory, spec.model.args, 0)
    layout = Layout.of(model)
    strategy = build_strategy(spec, layout, layout.flatten(model))
    verify_parts(spec, strategy, layout)
    importance = spec.codec.args.get("importance", "")
    outcome = trained(strategy.sends, importance, json.dumps(sections["training"]))
    order = train_order("a", spec, layout, strategy.sends)
    task = TrainTask.of(TaskCall(campaign="a", task_id="1-b", attempt=1, queue="default"), order)
    copy = Outcome(values=outcome.values.copy(), training=outcome.training, part=outcome.part)
    payload = encode(task, layout, copy, "pi", defaultdict(ErrorFeedback))
    chosen, size = codecs.codec(spec.codec.name, spec.codec.args), strategy.update_elements(outcome.part)
    assert size == outcome.values.size
    assert len(payload) <= chosen.max_payload_bytes(size)
    assert layout.num_state == 0
    values, _ = decode_update(chosen, layout, append_state(payload, layout, outcome.values, outcome.values), size)
    before = strategy.parameters.values.copy()
    for number in range(7):  # as many voters as the robust rules ask for at most
        strategy.offer(Contribution(VECTORS[strategy.sends](values), 24, 0, f"w{number}", {"loss": 1.0}, outcome.part))
    strategy.flush()
    assert strategy.version >= 1
    assert np.isfinite(strategy.parameters.values).all()
    assert (strategy.parameters.values != before).any()


def judge(sections: dict[str, Any]) -> Row | None:
    """The row that refuses these parts, with its sentence; None where they work."""
    if (found := refusing(sections)) is None:
        works(sections)
        return None
    row, sentence = found
    with pytest.raises(SpecError) as caught:
        parse_spec(sections)
    assert sentence in str(caught.value)
    return row


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_combination_is_refused_or_works(strategy: str) -> None:
    """A strategy with all methods and codecs."""
    fine = {(m, c) for m, c in product(METHODS, CODECS) if judge(document(strategy, m, c)) is None}
    sent = STRATEGY_SENDS[strategy]
    assert {method for method, _ in fine} == {
        method
        for method in METHODS
        if sent in METHOD_SENDS[method] and ("partial" in (strategy, method)) == (strategy == method == "partial")
    }
    lossy = {"topk"} if sent != "delta" or strategy == "robust" else set()
    assert {codec for _, codec in fine} == set(CODECS) - lossy


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_option_is_refused_or_works(strategy: str) -> None:
    """A strategy with the methods that go with it, with and without a codec that leaves something out."""
    methods = [m for m in METHODS if refusing(document(strategy, m, "fp32")) is None]
    for method, codec, option in product(methods, ("fp32", "topk"), OPTIONS):
        sections = document(strategy, method, codec, option)
        try:
            judge(sections)
        except SpecError as error:  # a setting of another strategy's: refused when it is built, by its name
            assert re.search("unknown key|would move each parameter|is too small|is below buffer_size", str(error)), (
                option
            )


def test_no_row_is_idle() -> None:
    """Each row refuses something of what the tests above try, so none says what another one has said before."""
    fired = set()
    for strategy, method, codec in product(STRATEGIES, METHODS, CODECS):
        for option in [{}, *OPTIONS]:
            if (found := refusing(document(strategy, method, codec, option))) is not None:
                fired.add(found[0].what)
    assert fired == {row.what for row in ROWS}


@pytest.mark.parametrize("privacy", [CENTRAL, LOCAL], ids=["central", "local"])
def test_with_privacy_each_part_works_or_is_refused_by_a_row(privacy: dict[str, Any]) -> None:
    """Strategies, methods and codecs; what a row of privacy's refuses is named by its own key."""
    fine = set()
    for strategy, method, codec in product(STRATEGIES, METHODS, CODECS):
        if judge(document(strategy, method, codec, {"privacy": privacy})) is None:
            fine.add((strategy, method, codec))
    assert {codec for _, _, codec in fine} == set(CODECS) - {"topk"}
    assert {method for _, method, _ in fine} == {"local", "personal", "per_fedavg"}
    deltas = set(STRATEGIES) - {"fedasync", "distillation", "partial"}
    assert {strategy for strategy, _, _ in fine} == (set(SUMMING) if privacy is CENTRAL else deltas)


def test_every_metric_goes_with_privacy() -> None:
    """Scores are of published versions, on the coordinator's own data: nothing of a device is in them."""
    for name in metric_names.METRICS:
        loss = "mse" if metric_names.kind_of(name) == "numbers" else "cross_entropy"
        sections = document("fedbuff", "local", "fp32", {"privacy": CENTRAL, "training": {"loss": loss}})
        spec = parse_spec({**sections, "evaluation": {"data": "a:b", "metrics": [name]}})
        assert [metric.name for metric in spec.metrics] == [name]


@pytest.mark.parametrize("mode", ["central", "local", "keepers"])
def test_running_statistics_are_refused_until_they_are_frozen(mode: str) -> None:
    """They have no norm that is clipped, and no masks; what does not travel needs none."""
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    protection = {"secure_aggregation": KEEPERS} if mode == "keepers" else {"privacy": {"mode": mode, "epsilon": 8.0}}
    for frozen in (False, True):
        layout = Layout.of(module, {"*running*": "constant"} if frozen else {})
        spec = parse_spec(document("fedbuff", "local", "fp32", protection))
        strategy = build_strategy(spec, layout, layout.flatten(module))
        if frozen:
            verify_parts(spec, strategy, layout)
        else:
            with pytest.raises(SpecError, match="running statistics of the model"):
                verify_parts(spec, strategy, layout)


def test_an_own_part_is_judged_by_what_it_is() -> None:
    """What a spec cannot know of it, the table is told at launch."""
    spec = parse_spec(
        {
            "model": {"factory": "a:b"},
            "training": {"method": "my:method"},
            "aggregation": {"strategy": "my:strategy"},
            "codec": {"name": "my:codec", "down": "fp16"},
        }
    )

    def said(**facts: Any) -> str:
        choice = Choice.of(spec, **facts)
        return next((sentence for row in ROWS if (sentence := row.refuse(choice))), "")

    assert said(merges="delta", sends=("delta",), has_feedback=True) == ""
    assert "sends soft labels and aggregation.strategy = 'my:strategy' merges delta" in said(
        merges="delta", sends=("soft_labels",), has_feedback=False
    )
    assert "'my:codec' is for deltas" in said(merges="parameters", sends=("parameters",), has_feedback=True)
    assert "codec.down = 'fp16'" in said(merges="parameters", sends=("parameters",), has_feedback=False)


def test_what_the_table_knows_is_what_the_classes_say() -> None:
    """Of names and of what is sent there is one truth."""
    for name, path in STRATEGIES.items():
        assert resolve(path, name).sends == STRATEGY_SENDS[name]  # type: ignore[attr-defined]
    for name, path in METHODS.items():
        assert resolve(path, name).sends == METHOD_SENDS[name]  # type: ignore[attr-defined]
    for name in CODECS:
        assert codecs.codec(name).needs_feedback == (name in WITH_FEEDBACK)
        assert codecs.codec(name).name == name
    assert get_args(AggregationSection.model_fields["staleness"].annotation) == tuple(STALENESS)
    assert get_args(ServerOptimizerSection.model_fields["name"].annotation) == tuple(SERVER_OPTIMIZERS)
    for name, path in {**STALENESS, **SERVER_OPTIMIZERS}.items():
        assert resolve(path, name).__doc__


@pytest.mark.parametrize(
    ("key", "names"), [("aggregation.strategy", STRATEGIES), ("training.method", METHODS), ("codec.name", CODECS)]
)
def test_the_spec_s_page_lists_each_name(key: str, names: dict[str, str]) -> None:
    """Those that there are, and no other."""
    (row,) = (line for line in SPEC_PAGE.read_text().splitlines() if line.startswith(f"| `{key}`"))
    assert set(re.findall(r"`(\w+)`", row.split(" | ")[1])) == set(names)


def test_each_built_in_part_is_at_the_front_door() -> None:
    """What a spec names, a script builds from ``fedtide``."""
    for table in (STRATEGIES, METHODS, CODECS, STALENESS, SERVER_OPTIMIZERS):
        for name, path in table.items():
            assert getattr(fedtide, path.partition(":")[2]) is resolve(path, name)


def test_the_page_has_the_table() -> None:
    """Row by row."""
    section = PAGE.read_text().split("## What does not go together")[1].split("\n#")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert rows == [f"| {row.what} | {row.why} |" for row in ROWS]
