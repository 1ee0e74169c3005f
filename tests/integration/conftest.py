"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A broker and a folder; whatever is started in it is ended with it."""
    lab = Lab(tmp_path)
    yield lab
    lab.close()
