"""A short performance of the monkey: what `make chaos` does for hours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_is_lost_or_counted_twice_under_fire() -> None:
    """Coordinators, workers and the server die at random for 40 s: lost = doubled = 0, and the replay is equal."""
    command = [sys.executable, "-m", "tests.chaos.monkey", "--seconds", "40", "--seed", "20", "--min-updates", "100"]
    command += ["--scene", "plain"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=280, check=False)
    assert done.stdout.strip(), done.stderr[-4000:]
    verdict = json.loads(done.stdout.strip().splitlines()[-1])
    assert verdict["lost"] == 0, verdict
    assert verdict["doubled"] == 0, verdict
    assert verdict["replay_equal"], verdict
    assert not verdict["stood_still"], verdict
    assert verdict["remerge_merged_equal"], verdict
    assert verdict["remerge_relative_error"] < 1e-4, verdict
    assert verdict["issued"] == verdict["merged"] + verdict["rejected"] + verdict["expired"] + verdict["cancelled"]
    assert verdict["kills_coordinator"] >= 1
    assert verdict["kills_worker"] >= 1


@pytest.mark.slow
def test_hostile_bytes_do_no_harm() -> None:
    """Five seconds of the fuzzer: every entry ends as a counted rejection or a merge, in bounded memory."""
    from tests.fuzz.fuzz_admission import fuzz

    verdict = fuzz(5.0, seed=1)
    assert verdict["entries"] > 500
    assert verdict["merged"] > 10
