"""Tries people's code in a separate process, judged from outside.

Such code may hang, crash below Python or take all memory, and a launch has to say which. The child says what it does
before it does it, and what it found; the parent sees the rest.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import structlog

from fl_core.errors import FedtideError
from fl_core.program.process import end_with_parent, how_it_ended, without_main
from fl_core.trial.findings import Doing, Finding, Step
from fl_core.user_code import RAISED, describe, frames

log = structlog.get_logger()

TRIAL_SECONDS = 120.0
"""A trial that takes longer is refused, unless it is given more."""
FIRST_WORD_SECONDS = 5.0


def send_findings(connection: Connection, steps: Iterator[Step]) -> bool:
    """In the child: do the steps and send what they find. What they raise is a finding too.

    Returns:
        Whether all went well; in either case the parent learns that this was the end.
    """
    doing, failed = Doing("trial", "starting"), False
    try:
        for step in steps:
            if isinstance(step, Doing):
                doing = step
            else:
                failed |= step.verdict == "fail"
            connection.send(step)
    except FedtideError as error:
        failed = True
        # Nothing was launched yet that one could go on with.
        said = str(error).replace("mend it and go on with --resume.", "mend it.")
        connection.send(Finding(doing.name, "fail", said))
    except RAISED as error:
        failed = True
        log.error("the trial failed", doing=doing.what, traceback=frames(error))
        connection.send(Finding(doing.name, "fail", f"{doing.what} raised {describe(error, '')}", "mend it"))
    connection.send(None)
    return not failed


def follow(connection: Connection, process: BaseProcess, seconds: float, longer: str) -> list[Finding]:
    """In the parent: what the child finds, until it says that this is all, dies, or its time is over.

    Args:
        connection: from the child.
        process: the child, which goes on if it is not in time.
        seconds: for all steps together.
        longer: what gives it more time, for the sentence.
    """
    found: list[Finding] = []
    doing, started, pause = Doing("trial", "starting"), time.monotonic(), FIRST_WORD_SECONDS
    while True:
        left = started + seconds - time.monotonic()
        if not connection.poll(max(0.0, min(pause, left))):
            if left <= pause:
                late = f"{doing.what} did not end within {seconds:g} s"
                return [*found, Finding(doing.name, "fail", late, f"mend it, or {longer}")]
            log.info("still " + doing.what, seconds=round(time.monotonic() - started))
            pause *= 2
            continue
        try:
            step = connection.recv()
        except (EOFError, OSError):
            process.join(5)
            how = f"{doing.what} ended its process, which {how_it_ended(process.exitcode)}"
            return [*found, Finding(doing.name, "fail", how, "mend it")]
        if step is None:
            return found
        if isinstance(step, Doing):
            doing = step
        else:
            found.append(step)


def try_outside(steps: Callable[[], Iterable[Step]], seconds: float, longer: str) -> list[Finding]:
    """Do the steps in a child, which ends with this call.

    It is forked, unless there are other threads: they may hold locks that a forked child would wait for in vain.

    Args:
        steps: called in the child; beside other threads it has to be something that can be pickled.
        seconds, longer: as in ``follow``.
    """
    forked = threading.active_count() == 1
    context: Any = multiprocessing.get_context("fork" if forked else "spawn")
    near, far = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(near if forked else None, far, steps, os.getpid()), name="trial")
    with without_main():
        process.start()
    far.close()
    try:
        return follow(near, process, seconds, longer)
    finally:
        near.close()
        process.kill()
        process.join()


def _serve(near: Connection | None, far: Connection, steps: Callable[[], Iterable[Step]], parent: int) -> None:
    end_with_parent(parent)
    if near is not None:
        near.close()
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        send_findings(far, iter(steps()))
