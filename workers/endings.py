"""How a training process ended, in words that a person can act on."""

from __future__ import annotations

import signal


def how_it_ended(status: int) -> str:
    """The exit status of a child in words.

    Args:
        status: as ``subprocess`` has it: the exit code, or the signal's number below zero.

    >>> how_it_ended(-11)
    'was killed by signal 11 (SIGSEGV)'
    >>> how_it_ended(3)
    'ended itself with code 3'
    """
    if status >= 0:
        return f"ended itself with code {status}"
    try:
        name = f" ({signal.Signals(-status).name})"
    except ValueError:
        name = ""
    # Nobody but the kernel or an operator sends this one.
    hint = "; is the device out of memory?" if -status == signal.SIGKILL else ""
    return f"was killed by signal {-status}{name}{hint}"


def what_was_raised(error: BaseException) -> str:
    """What user code raised, in words; ``sys.exit`` and Ctrl-C are exceptions too.

    >>> what_was_raised(SystemExit(3)), what_was_raised(ValueError("no"))
    ('ended itself with code 3 (sys.exit)', 'raised ValueError: no')
    """
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
        return f"ended itself with code {code} (sys.exit)"
    said = str(error)
    return f"raised {type(error).__name__}{f': {said}' if said else ''}"
