"""A user's own code that raises while a campaign runs: one sentence, and the campaign goes on once it is mended."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.lab import Lab, assert_identity
from tests.integration.test_bad_input import assert_one_sentence

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


METRIC = """
from pathlib import Path

class Odd:
    def update(self, output, target):
        merges = Path("run/history.jsonl")
        if {broken} and merges.exists() and merges.read_text().count('"merge"') > 6: raise OverflowError("odd")

    def compute(self): return 0.5
"""


def test_a_strategy_from_the_skeleton_is_mended_resumed_and_ends(lab: Lab) -> None:
    """As CONTRIBUTING has it, with a fault in it, and then beside a metric of the user's own that raises.

    Exit code 2 with the part, the entry point, the error and the line; then the same campaign goes on and ends with an
    odd number of updates, of which the last is flushed. What its log proves is the same model: the half-done merge has
    left no trace.
    """
    (skeleton,) = re.findall(r"```python\n(import numpy.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    code, metric = lab.folder / "users_skeleton.py", lab.folder / "users_metric.py"
    adds, breaks = "self.sum += contribution.delta.values", "if self.version == 5: contribution.worker / 2"
    code.write_text(skeleton.replace(adds, f"{adds}\n        {breaks}"))
    metric.write_text(METRIC.format(broken=True))
    spec = lab.spec(
        aggregation={"strategy": "users_skeleton:MyStrategy", "args": {"rate": 0.5}},
        checkpoint={"keep_log": True},
        evaluation={"data": "fl_core.data:digits", "data_args": {"split": "test"}, "metrics": ["users_metric:Odd"]},
        stop={"updates": 31},
    )
    lab.worker("one", delay=0.02)
    first = lab.run(spec)
    assert first.wait(60) == 2
    line = code.read_text().split("\n").index(f"        {breaks}") + 1
    words = ("users_skeleton:MyStrategy", "offer(contribution) raised TypeError", f"users_skeleton.py, line {line}")
    assert_one_sentence(first.output, *words, "--resume")
    assert "in offer" in first.output, "the log has the calls"
    told = lab.ask("status", "trial")
    assert told["state"] == "failed"
    assert "offer(contribution) raised TypeError" in told["stop_reason"]
    code.write_text(skeleton)
    second = lab.run(spec, "--resume", name="second")
    assert second.wait(60) == 2
    assert_one_sentence(second.output, "users_metric:Odd", "OverflowError: odd", "users_metric.py, line 7", "--resume")
    metric.write_text(METRIC.format(broken=False))
    third = lab.run(spec, "--resume", name="third")
    assert third.wait(60) == 0, third.output
    summary = lab.summary()
    assert_identity(summary)
    assert (summary["state"], summary["merged"], summary["metrics"]["Odd"]["final"]) == ("finished", 31, 0.5)
    replay = lab.program("coordinator", "replay", "run", name="replay")
    assert replay.wait(60) == 0, replay.output


SHOW_AND_DATA = """
from fl_core.data import digits

calls = []

class Fading:
    def __init__(self): self.examples = digits(split="test")
    def __len__(self): return len(self.examples)
    def __getitem__(self, index):
        if {broken}: raise OSError("the disk is gone")
        return self.examples[index]

def show(model, summary, folder): raise LookupError("no prompt")
"""


def test_an_end_that_raises_still_ends(lab: Lab) -> None:
    """The last evaluation and the show fail: model, summary and table are there, and what was left out is named."""
    code = lab.folder / "users_end.py"
    code.write_text(SHOW_AND_DATA.format(broken="summary_exists()").replace("calls = []", SUMMARY_EXISTS))
    spec = lab.spec(
        evaluation={"data": "users_end:Fading", "show": "users_end:show", "every_versions": 1000}, stop={"updates": 6}
    )
    lab.worker("one")
    program = lab.run(spec)
    assert program.wait(60) == 0, program.output
    assert (
        "left out: the evaluation of the last version: evaluation.data = 'users_end:Fading': reading" in program.output
    )
    assert "left out: evaluation.show: evaluation.show = 'users_end:show' failed with {}: LookupError" in program.output
    assert (lab.folder / "run" / "model.safetensors").exists()
    assert lab.summary()["merged"] == 6


DEADLY = """
import os, signal
from fl_core.data import digits

def held_out():
    if {deadly}: os.kill(os.getpid(), signal.SIGSEGV)
    return digits(split="test")
"""


def test_an_evaluation_that_crashes_ends_a_campaign_that_needs_it(lab: Lab) -> None:
    """Below Python nothing can be raised: a launch tries it first and refuses it.

    A campaign that was launched untried ends after three processes, and goes on once it is mended.
    """
    code = lab.folder / "users_data.py"
    code.write_text(DEADLY.format(deadly=True))
    spec = lab.spec(evaluation={"data": "users_data:held_out"}, stop={"updates": None, "accuracy": 0.12})
    refused = lab.run(spec, name="refused")
    assert refused.wait(60) == 2
    assert_one_sentence(refused.output, "loading evaluation.data = 'users_data:held_out' ended its process", "SIGSEGV")
    lab.worker("one", delay=0.05)
    first = lab.run(spec, "--trial-seconds", "0")
    assert first.wait(120) == 2
    assert "nothing was tried before the launch" in first.output
    words = ("died 3 times in a row", "SIGSEGV, a crash below Python", "stop.accuracy needs evaluations", "--resume")
    assert_one_sentence(first.output, *words)
    code.write_text(DEADLY.format(deadly=False))
    again = lab.run(spec, "--resume", name="again")
    assert again.wait(60) == 0, again.output
    assert lab.summary()["stop_reason"] == "accuracy"


def test_a_campaign_of_which_nothing_comes_ends_with_a_code(lab: Lab) -> None:
    """Every update is refused: it does not wait for the end of its time, says what they have in common, and fails."""
    lab.worker("one")
    program = lab.run(lab.spec(training={"learning_rate": 1e30, "local_steps": 3}, stop={"failures_without_merge": 20}))
    assert program.wait(60) == 1
    assert_one_sentence(
        program.output, "nothing came of campaign trial-", "no update was merged", "(not_finite 20, by one)"
    )
    assert "Lower training.learning_rate = 1e+30" in program.output
    summary = lab.summary()
    assert (summary["state"], summary["stop_reason"], summary["merged"]) == ("stopped", "fruitless", 0)
    assert_identity(summary)


SUMMARY_EXISTS = """
from pathlib import Path

def summary_exists():  # whether the campaign has ended
    history = Path("run/history.jsonl")
    return history.exists() and '"end"' in history.read_text()
"""
