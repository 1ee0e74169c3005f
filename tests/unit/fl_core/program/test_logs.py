"""Log lines: one form for ours and for others', fit for a screen, and without passwords."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from fl_core.program.logs import configure_logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where lines go; all is as before afterwards."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    made = io.StringIO()
    try:
        yield made
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**before)


def test_lines_are_json_for_programs(stream: io.StringIO) -> None:
    """Ours with their fields, and those of libraries from a warning on."""
    configure_logs("info", json_lines=True, stream=stream)
    log = structlog.get_logger("of this test")
    log.info("merged", version=3, worker="pi\x1b[31m")
    log.debug("not shown")
    logging.getLogger("celery").info("not shown")
    logging.getLogger("celery").warning("lost redis://me:secret@host/0")
    ours, celery = map(json.loads, stream.getvalue().splitlines())
    assert (ours["event"], ours["version"], ours["worker"], ours["level"]) == ("merged", 3, "pi?[31m", "info")
    assert celery["event"] == "lost redis://me:***@host/0"


def test_lines_are_words_for_people(stream: io.StringIO) -> None:
    """With the time and the fields."""
    configure_logs("debug", json_lines=False, stream=stream)
    structlog.get_logger("of this test, too").debug("merged", version=3)
    assert "merged" in stream.getvalue()
    assert "version" in stream.getvalue()
