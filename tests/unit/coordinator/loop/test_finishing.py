"""The last steps: the last version is scored, or the summary says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.loop.evaluation.scoring import Evaluation
from coordinator.outgoing.cadence import Cadence
from tests.unit.coordinator.loop.led import Led

EVALUATED = {"evaluation": {"data": "a:b", "every_versions": 3}}


class Scores:
    """Scores each version that it is asked for at the next look but so many; at the end it may hang or have died."""

    def __init__(self) -> None:
        self.led: Led
        self.busy = False
        self.has_results = False
        self.error: str | None = None
        self.died = False
        self.hangs_after = 1000
        self.asked = 0

    def request(self, head: object = None) -> None:
        self.busy = True
        self.asked += 1

    def take_results(self) -> list[Evaluation]:
        if not self.busy or self.asked > self.hangs_after:
            return []
        self.busy = False
        return [Evaluation(self.led.state.strategy.version, 0.5, {"accuracy": 0.5}, 10)]


def _led(folder: Path) -> tuple[Led, Scores]:
    scores = Scores()
    scores.led = Led(folder, evaluator=scores, cadence=Cadence(last_evaluation_seconds=30.0), **EVALUATED)
    return scores.led, scores


def test_the_last_version_is_scored_before_the_end(tmp_path: Path) -> None:
    """Whatever the interval of evaluations says."""
    led, _ = _led(tmp_path)
    summary = led.run()
    assert (summary["versions"], led.state.scores.version, summary["final_accuracy"]) == (10, 10, 0.5)
    assert "left_out" not in summary


@pytest.mark.parametrize("fault", ["hangs", "dies"])
def test_scores_that_do_not_come_are_named_in_the_summary(tmp_path: Path, fault: str) -> None:
    """Nobody waits for ever; the model is there all the same."""
    led, scores = _led(tmp_path)
    if fault == "hangs":
        scores.hangs_after = 1
    else:

        def between(waits: int) -> None:
            if waits == 5:
                scores.error, scores.died = "it died.", True

        led.between = between
    summary = led.run()
    (said,) = summary["left_out"]
    expected = "it took longer than 30 s" if fault == "hangs" else "it died."
    assert said == f"the evaluation of the last version: {expected}"
    assert (summary["state"], led.folder.model.is_file()) == ("finished", True)
