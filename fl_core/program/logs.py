"""Logs: structlog, coloured lines for people, JSON lines when piped; foreign records (Celery's) in the same form."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, TextIO

import structlog

from fl_core.program.plain_text import shown_lines
from fl_core.program.redaction import redact

MAX_CHARACTERS = 100_000


def configure_logs(level: str = "info", *, json_lines: bool | None = None, stream: TextIO | None = None) -> None:
    """Send all log records to one stream.

    Args:
        level: the least severe level shown.
        json_lines: None chooses by whether standard error is a terminal.
        stream: None is standard error; a live display passes its own, so that lines appear above it.
    """
    if json_lines is None:
        json_lines = not sys.stderr.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if json_lines else "%H:%M:%S", utc=json_lines),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and "NO_COLOR" not in os.environ, pad_event_to=32)
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _printable,
                renderer,
                lambda _logger, _name, line: redact(str(line)),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # What these say at INFO is of use to their own developers only.
    for name in ("celery", "kombu", "amqp", "matplotlib", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def _printable(logger: Any, method: str, event: Any) -> Any:
    """Words of devices are logged too: none of them may control the terminal."""
    texts = {name: shown_lines(value, MAX_CHARACTERS) for name, value in event.items() if isinstance(value, str)}
    return {**event, **texts}
