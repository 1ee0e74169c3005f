"""The front door: every name that it promises is there, and looking at the door opens nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fedtide


def test_every_name_is_there() -> None:
    """``__all__`` is sorted, each of its names can be had, and each is documented."""
    assert fedtide.__all__ == sorted(fedtide.__all__)
    for name in fedtide.__all__:
        assert getattr(fedtide, name).__doc__, name
    assert set(fedtide.__all__) <= set(dir(fedtide))


def test_a_name_that_is_not_there_is_an_ordinary_error() -> None:
    """As any module has it."""
    with pytest.raises(AttributeError, match="no attribute 'fed_avg'"):
        _ = fedtide.fed_avg


def test_the_import_alone_is_light() -> None:
    """Neither torch nor Redis nor Celery is loaded before something is asked for."""
    heavy = "{'torch', 'redis', 'celery', 'numpy', 'pydantic'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, fedtide; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
