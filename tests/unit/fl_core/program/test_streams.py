"""Standard streams as programs are given them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BEGIN = "from fl_core.program.streams import outlive_readers, prepare_streams; prepare_streams(); "


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_stream_that_is_closed_is_no_file_s(closed: int) -> None:
    """Its number is taken, so that what is printed does not go into the next file that is opened."""
    code = BEGIN + "import os; print('out'); number = os.open(os.devnull, os.O_RDONLY); assert number > 2, number"
    done = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=lambda: os.close(closed), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_character_that_the_encoding_lacks_is_a_question_mark() -> None:
    """And ends nothing."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + "print('τ = 1')"], env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == b"? = 1\n"


def test_a_program_goes_on_when_its_reader_is_gone() -> None:
    """What it does is more than what it prints."""
    code = BEGIN + (
        "outlive_readers(); import sys; print('first', flush=True); sys.stdin.readline(); "
        "[print('more' * 1000, flush=True) for _ in range(100)]; sys.stderr.write('done')"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"first\n"
    program.stdout.close()
    _, said = program.communicate(b"go on\n", timeout=60)
    assert (program.returncode, said) == (0, b"done")
