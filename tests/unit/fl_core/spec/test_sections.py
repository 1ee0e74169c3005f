"""The spec: defaults, one sentence per mistake, and a text form that loses nothing."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fl_core.errors import SpecError
from fl_core.spec import CampaignSpec, TrainingSection, load_spec, parse_section, parse_spec, to_toml

MODEL = {"model": {"factory": "a:b"}}
LEAST = "[model]\nfactory = 'a:b'\n"


def _load(tmp_path: Path, text: str, **overrides: Any) -> CampaignSpec:
    path = tmp_path / "spec.toml"
    path.write_text(text, encoding="utf-8")
    return load_spec(path, {key.replace("__", "."): value for key, value in overrides.items()})


def _complaint(tmp_path: Path, text: str, **overrides: Any) -> str:
    with pytest.raises(SpecError) as caught:
        _load(tmp_path, text, **overrides)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/spec.toml")
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path}/spec.toml").removeprefix(": ")


# -- defaults ------------------------------------------------------------------------------------------------------


def test_a_model_is_all_that_a_spec_needs(tmp_path: Path) -> None:
    """The defaults are FedBuff as its paper has it, on devices that run one epoch of SGD, with no stop condition."""
    spec = _load(tmp_path, LEAST)
    assert (spec.aggregation.strategy, spec.aggregation.buffer_size) == ("fedbuff", 10)
    assert (spec.aggregation.staleness, spec.aggregation.polynomial_exponent) == ("polynomial", 0.5)
    assert (spec.aggregation.max_staleness, spec.aggregation.mixing) == (50, 0.6)
    assert (spec.training.optimizer, spec.training.momentum, spec.training.epochs) == ("sgd", 0.0, 1)
    assert (spec.server_optimizer.name, spec.server_optimizer.learning_rate) == ("sgd", 1.0)
    assert (spec.dispatch.concurrency, spec.dispatch.queues) == (10, ("default",))
    assert not any(spec.stop.model_dump().values())
    assert spec.evaluation.data is None


def test_local_steps_replace_the_epochs() -> None:
    """A spec that counts steps leaves the epochs unset, and one that sets epochs gets them."""
    assert parse_spec({**MODEL, "training": {"local_steps": 5}}).training.local_epochs is None
    assert parse_spec({**MODEL, "training": {"local_epochs": 3}}).training.epochs == 3


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    """``learning_rate = 1`` means 1.0: TOML's integers are fine where a real number is wanted."""
    assert _load(tmp_path, LEAST + "[training]\nlearning_rate = 1").training.learning_rate == 1.0


def test_the_examples_of_the_project_are_valid() -> None:
    """Every spec in examples/ loads."""
    folder = Path(__file__).parents[4] / "examples"
    specs = [path for path in folder.rglob("*.toml") if "[model]" in path.read_text(encoding="utf-8")]
    assert specs
    for path in specs:
        load_spec(path)


# -- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # unknown keys
        ("[trainig]\nloss = 'mse'", "unknown key 'trainig'; did you mean 'training'?"),
        ("[training]\nbatchsize = 1", "unknown key 'training.batchsize'; did you mean 'batch_size'?"),
        (
            "[stop]\nzzz = 1",
            "unknown key 'stop.zzz'; known keys: updates, versions, seconds, accuracy, loss, failures_",
        ),
        # wrong types
        ("[training]\nbatch_size = 'a'", "training.batch_size = 'a' is not accepted; input should be a valid integer."),
        ("[training]\nbatch_size = 1.0", "training.batch_size = 1.0 is not accepted; input should be a valid integer."),
        (
            "[training]\nbatch_size = true",
            "training.batch_size = True is not accepted; input should be a valid integer.",
        ),
        (
            "[training]\nlearning_rate = true",
            "training.learning_rate = True is not accepted; input should be a valid number.",
        ),
        (
            "[training]\nlearning_rate = nan",
            "training.learning_rate = nan is not accepted; input should be a finite number.",
        ),
        ("[dispatch]\nqueues = 'gpu'", "dispatch.queues = 'gpu' is not accepted; input should be a valid list."),
        ("[[stop]]\nupdates = 1", "stop = [{'updates': 1}] is not accepted; write it as a table, [stop]."),
        # out of range
        (
            "[training]\nbatch_size = 0",
            "training.batch_size = 0 is not accepted; input should be greater than or equal to 1.",
        ),
        ("[stop]\naccuracy = 1.9", "stop.accuracy = 1.9 is not accepted; input should be less than or equal to 1."),
        ("[campaign]\nseed = -1", "campaign.seed = -1 is not accepted; input should be greater than or equal to 0."),
        ("[dispatch]\nqueues = []", "dispatch.queues = () is not accepted; name at least one."),
        ("[dispatch]\nqueues = ['a', 'a']", "dispatch.queues = ['a', 'a'] is not accepted; a queue is named twice; "),
        ("[codec]\nname = 'zip'", "codec.name = 'zip' is not accepted; it is one of 'fp32', 'fp16', 'bf16', 'int8', "),
        ("[codec]\nname = 'ckks'", "encrypted updates cannot be sent yet: fl_core.encrypted_sum has their arithmetic,"),
        (
            "[training]\noptimizer = 'sdg'",
            "training.optimizer = 'sdg' is not accepted; input should be 'sgd', 'adam' or",
        ),
        ("[campaign]\nname = 'Big'", "campaign.name = 'Big' is not accepted; use lower-case letters, digits, "),
        # import paths
        (
            "[evaluation]\ndata = 'mnist'",
            "evaluation.data = 'mnist' is not accepted; write an import path, 'package.module:callable'.",
        ),
        ("[aggregation]\nstrategy = 'fedbuf'", "; did you mean 'fedbuff'?"),
        ("[aggregation]\nstrategy = 'zzz'", "or an import path 'package.module:callable'."),
        # privacy
        ("[privacy]\nepsilon = 8", "privacy: epsilon is given without mode; add mode = 'central'"),
        (
            "[privacy]\nmode = 'central'",
            "privacy: epsilon and noise_multiplier are both missing; give the budget epsilon, or the noise.",
        ),
        (
            "[privacy]\nmode = 'local'\nepsilon = 8\nnoise_multiplier = 1",
            "privacy: epsilon and noise_multiplier are both set; keep one of them, the other one follows.",
        ),
        ("[privacy]\nmode = 'centre'", "privacy.mode = 'centre' is not accepted; input should be 'off', 'central' or"),
        ("[privacy]\nmode = 'central'\nepsilon = 0", "privacy.epsilon = 0 is not accepted; input should be greater"),
        ("[privacy]\nmode = 'central'\nepsilon = 8\ndelta = 1", "privacy.delta = 1 is not accepted; input should be"),
        # keys that do not go together
        (
            "[stop]\naccuracy = 0.9",
            "stop.accuracy and stop.loss need evaluation.data; name held-out data or remove them.",
        ),
        ("[stop]\nloss = 0.1", "stop.accuracy and stop.loss need evaluation.data; name held-out data or remove them."),
        (
            "[training]\nlocal_epochs = 1\nlocal_steps = 1",
            "local_epochs and local_steps are both set; keep one of them.",
        ),
        (
            "[training]\noptimizer = 'adam'\nmomentum = 0.9",
            "momentum = 0.9 belongs to optimizer = 'sgd'; remove it for",
        ),
        ("[server_optimizer]\nname = 'yogi'\nmomentum = 0.9", "momentum = 0.9 belongs to name = 'sgd'; remove it for"),
        ("[server_optimizer]\namsgrad = true", "amsgrad = true belongs to name = 'adam'; remove it for 'sgd'."),
        ("[server_optimizer]\nname = 'fedadam'\namsgrad = true", "belongs to name = 'adam'; remove it for 'fedadam'."),
        ("[server_optimizer]\nepsilon = 0.1", "epsilon = 0.1 belongs to name = 'adam' or 'adagrad' or 'fedadam' or"),
        ("[server_optimizer]\nname = 'adagrad'\nbeta1 = 0.0", "beta1 = 0.0 belongs to name = 'adam' or 'fedadam'"),
        (
            "[aggregation]\nbuffer_size = 10_001",
            "aggregation.buffer_size = 10001 is far above dispatch.concurrency = 10;",
        ),
        (
            "[aggregation]\nstrategy = 'fedavg'\nmax_wait_seconds = 1.0",
            "aggregation.max_wait_seconds is for strategies with a buffer, and fedavg has none that could wait;",
        ),
        (
            "[training]\nmethod = 'per_fedavg'\n[codec]\nname = 'topk'\nimportance = 'fisher'",
            "codec.importance = 'fisher' is not read with training.method = 'per_fedavg'",
        ),
        ("[guard]\nfactor = 1.0", "guard.factor = 1.0 is not accepted; input should be greater than 1."),
        ("[guard]\nrate_factor = 1.0", "guard.rate_factor = 1.0 is not accepted; input should be less than 1."),
        # arguments that cannot travel
        (
            "[model.args]\nsince = 2020-01-01",
            "model.args: '2020-01-01' is a date, which cannot travel; write it as text.",
        ),
        ("[model.args]\nrate = nan", "model.args: nan is not finite; give a number."),
        ("[evaluation.data_args]\nseed = 99999999999999999999", "does not fit 64 bits; give a smaller number."),
        (
            "[aggregation.args]\nx = [[1, {at = 10:00:00}]]",
            "aggregation.args: '10:00:00' is a time, which cannot travel",
        ),
    ],
)
def test_every_mistake_is_one_sentence_with_key_value_and_remedy(tmp_path: Path, text: str, said: str) -> None:
    """Unknown keys, wrong types, values out of range, paths that are none, keys that exclude each other."""
    assert said in _complaint(tmp_path, LEAST + text)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    """The one key without a default is asked for, as a section and inside it."""
    assert _complaint(tmp_path, "") == "model is missing; add it."
    assert _complaint(tmp_path, "[model]\nargs = {}") == "model.factory is missing; add it."
    assert _complaint(tmp_path, "[model]\nfactory = 'mlp'") == (
        "model.factory = 'mlp' is not accepted; write an import path, 'package.module:callable'."
    )


def test_further_mistakes_are_counted(tmp_path: Path) -> None:
    """The first mistake is told and the others are counted, so that nobody believes that one fix is enough."""
    assert _complaint(tmp_path, LEAST + "[stop]\nx=1\ny=2\nz=3").endswith(" (2 more problems after this one.)")
    assert _complaint(tmp_path, LEAST + "[stop]\nx=1\ny=2").endswith(" (1 more problem after this one.)")


def test_a_long_value_is_shown_in_part(tmp_path: Path) -> None:
    """A value of a thousand characters does not make a sentence of a thousand."""
    assert len(_complaint(tmp_path, LEAST + f"[training]\nbatch_size = '{'x' * 5000}'")) < 400


def test_what_is_no_toml_is_told_with_its_place(tmp_path: Path) -> None:
    """A syntax error names line and column; bytes that are not text, a missing file and a folder are told apart."""
    assert "is not valid TOML" in _complaint(tmp_path, "a = = 1")
    assert "line 1, column 5" in _complaint(tmp_path, "a = = 1")
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"bytes.toml is not valid TOML"):
        load_spec(path)
    with pytest.raises(SpecError, match=r"none.toml cannot be read \(No such file or directory\); give the path of"):
        load_spec(tmp_path / "none.toml")
    with pytest.raises(SpecError, match=r"cannot be read \(Is a directory\)"):
        load_spec(tmp_path)


def test_a_section_alone_is_validated_the_same_way() -> None:
    """A device that gets bad training settings says whose they are and which key is wrong."""
    assert parse_section(TrainingSection, {"batch_size": 4}, "the task").batch_size == 4
    with pytest.raises(SpecError, match=r"^the task: unknown key 'batchsize'; did you mean 'batch_size'\?$"):
        parse_section(TrainingSection, {"batchsize": 4}, "the task")


# -- overrides -----------------------------------------------------------------------------------------------------


def test_an_override_replaces_the_file_s_value(tmp_path: Path) -> None:
    """A flag wins over the file, makes the section when it is not there, and is validated like the file."""
    assert _load(tmp_path, LEAST + "[stop]\nseconds = 1.0\nupdates = 3", stop__seconds=5.0).stop.seconds == 5.0
    assert _load(tmp_path, LEAST, stop__seconds=5.0).stop.seconds == 5.0
    assert "stop.seconds = -1 is not accepted" in _complaint(tmp_path, LEAST, stop__seconds=-1)


def test_an_override_in_what_is_no_table_is_told(tmp_path: Path) -> None:
    """Where the file has a number instead of a section, the error is the file's, not a crash of the override."""
    assert _complaint(tmp_path, "stop = 5\n" + LEAST, stop__seconds=5.0) == (
        "stop = 5 is not accepted; write it as a table, [stop]."
    )


# -- text form, identity -------------------------------------------------------------------------------------------

RATES = st.floats(1e-300, 1e300)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,20}", fullmatch=True)
ARGUMENTS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.recursive(
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "campaign": st.fixed_dictionaries({"name": NAMES, "seed": st.integers(0, 2**63 - 1)}),
        "model": st.fixed_dictionaries({"factory": st.just("a.b:c"), "args": ARGUMENTS}),
        "training": st.fixed_dictionaries(
            {"learning_rate": RATES, "batch_size": st.integers(1, 10**9)},
            optional={"local_steps": st.integers(1, 100), "max_gradient_norm": RATES, "loss": st.text(max_size=10)},
        ),
        "aggregation": st.fixed_dictionaries(
            {
                "strategy": st.sampled_from(["fedbuff", "robust", "my.own:strategy"]),
                "buffer_size": st.integers(1, 1000),
                "max_staleness": st.integers(0, 10**6),
                "args": ARGUMENTS,
            }
        ),
        "dispatch": st.fixed_dictionaries({"queues": st.lists(NAMES, min_size=1, max_size=4, unique=True)}),
        "evaluation": st.fixed_dictionaries({"data": st.just("a:b"), "data_args": ARGUMENTS}),
        "stop": st.fixed_dictionaries({}, optional={"updates": st.integers(1, 10**9), "loss": st.floats(-1e9, 1e9)}),
    }
)


@given(DOCUMENTS)
def test_the_text_form_is_the_same_spec(document: dict[str, Any]) -> None:
    """``to_toml`` writes TOML that loads as an equal spec with the same digest, whatever names and numbers it holds."""
    spec = parse_spec(document)
    again = parse_spec(tomllib.loads(to_toml(spec)))
    assert again == spec
    assert again.digest() == spec.digest()


def test_the_digest_names_the_whole_spec() -> None:
    """Two specs that differ in one value anywhere have different digests; spelling out a default changes nothing."""
    plain = parse_spec(MODEL)
    assert parse_spec({**MODEL, "training": {"batch_size": 32}}).digest() == plain.digest()
    assert parse_spec({**MODEL, "training": {"batch_size": 33}}).digest() != plain.digest()
    assert parse_spec({"model": {"factory": "a:b", "args": {"x": 1}}}).digest() != plain.digest()


def test_a_spec_does_not_change() -> None:
    """A validated spec is frozen, in each of its sections."""
    spec = parse_spec(MODEL)
    with pytest.raises(ValidationError, match="frozen"):
        spec.stop = spec.stop
    with pytest.raises(ValidationError, match="frozen"):
        spec.training.batch_size = 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[evaluation]\ndata_args = { split = 'test' }\n", "data_args without data"),
        ("[training]\nschedule = 'plateau'\n", "'plateau' counts evaluations, and there are none"),
    ],
)
def test_what_needs_held_out_data_is_refused_without(tmp_path: Path, text: str, words: str) -> None:
    """It would be silently without effect."""
    assert words in _complaint(tmp_path, LEAST + text)
