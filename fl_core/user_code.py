"""Code that a spec names runs inside ours: what it raises becomes one sentence, and its members are checked when built.

The sentence names the key, the import path, the entry point and the error; the traceback goes to the log. An exception
is not let through as it is, whatever its type: a strategy that raises ``BrokerUnavailable`` would be called again.
"""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from fl_core.errors import SpecError, UserCodeError
from fl_core.program.process import how_it_ended

T = TypeVar("T")

RAISED = (Exception, SystemExit)
"""Exceptions that a call of user code may raise; Ctrl-C is not among them."""


def describe(error: BaseException, path: str) -> str:
    """An exception in words, with the place in the user's own package where it was raised, if it was raised there.

    Args:
        error: with its traceback.
        path: import path of what was called.

    >>> describe(ValueError("no such file"), "mine:data")
    'ValueError: no such file'
    """
    said = " ".join(str(error).split())[:500]
    place = _place(error.__traceback__, path.partition(":")[0].partition(".")[0])
    return f"{type(error).__name__}{': ' if said else ''}{said}{place}"


def what_was_raised(error: BaseException) -> str:
    """The same as a predicate: what the code did. ``sys.exit`` and Ctrl-C are exceptions too.

    >>> what_was_raised(SystemExit(3)), what_was_raised(ValueError("no"))
    ('ended with code 3 (sys.exit)', 'raised ValueError: no')
    """
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
        return f"{how_it_ended(code)} (sys.exit)"
    return f"raised {describe(error, '')}"


def _place(trace: TracebackType | None, package: str) -> str:
    found = ""
    while trace is not None:
        frame = trace.tb_frame
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
            found = f" ({frame.f_code.co_filename}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found


def was_entered(error: BaseException) -> bool:
    """Whether what was called has begun to run; False where it refused its arguments. For the frame that called it."""
    return error.__traceback__ is not None and error.__traceback__.tb_next is not None


def log_traceback(key: str, path: str, error: BaseException) -> None:
    """Write down where user code raised: the sentence that follows does not say it all."""
    import structlog  # for --help and typing errors, too much to load

    structlog.get_logger().error("code that the spec names raised", key=key, path=path, traceback=frames(error))


def frames(error: BaseException) -> str:
    """How an exception came about, for the log: the calls, then the exception."""
    return "".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}: {error}"


def each(key: str, path: str, entry_point: str, items: Iterable[T]) -> Iterator[T]:
    """The items, which user code makes one by one.

    Raises:
        UserCodeError: as ``running``.
    """
    iterator = iter(items)
    while True:
        with running(key, path, entry_point):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


@contextlib.contextmanager
def running(key: str, path: str, entry_point: str) -> Iterator[None]:
    """Around a call of user code.

    Args:
        key: of the spec, such as ``"training.loss"``.
        path: what it names.
        entry_point: what is called, such as ``"loss(output, target)"``.

    Raises:
        UserCodeError: it raised anything but a sentence of ours.
    """
    try:
        yield
    except (UserCodeError, SpecError):
        raise
    except RAISED as error:
        raise raised(key, path, entry_point, error) from error


def raised(key: str, path: str, entry_point: str, error: BaseException) -> UserCodeError:
    """The sentence for an exception that user code raised; its traceback is logged."""
    log_traceback(key, path, error)
    return UserCodeError(
        f"{key} = {path!r}: {entry_point} raised {describe(error, path)}; mend it and go on with --resume."
    )


def build(key: str, path: str, factory: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call what makes a strategy or a method.

    Raises:
        SpecError: it raised; as it stands where it was raised on purpose.
    """
    try:
        return factory(*arguments, **named)
    except SpecError:
        raise
    except RAISED as error:
        log_traceback(key, path, error)
        raise SpecError(f"{key} = {path!r} cannot be built: {describe(error, path)}.") from error


def verify_members(key: str, path: str, made: object, protocol: type, *calls: str) -> None:
    """Refuse an object that lacks members, or whose methods cannot be called as they will be.

    Args:
        key, path: what made it.
        made: the object.
        protocol: what it should be, for the sentence.
        calls: each method with its arguments, such as ``"flush(share)"``; a name without brackets is a plain member.

    Raises:
        SpecError: it names the first member that is wrong.
    """
    kind, see = type(made).__name__, f"see {protocol.__module__}.{protocol.__name__}"
    for call in calls:
        name, brackets, rest = call.partition("(")
        try:
            member = getattr(made, name)
        except AttributeError:
            raise SpecError(f"{key} = {path!r} gave a {kind}, which lacks {call}; {see}.") from None
        except RAISED as error:
            raise SpecError(f"{key} = {path!r}: reading {name} of a {kind} raised {describe(error, path)}.") from error
        if not brackets:
            continue
        if not callable(member):
            raise SpecError(f"{key} = {path!r} gave a {kind} whose {name} is {member!r:.80} and no method; {see}.")
        try:
            signature = inspect.signature(member)
        except (TypeError, ValueError):
            continue  # of C code, which does not say
        try:
            signature.bind(*(word for word in rest.rstrip(")").split(", ") if word))
        except TypeError as error:
            raise SpecError(
                f"{key} = {path!r}: {kind}.{name}{signature} cannot be called as {call}: {error}; {see}."
            ) from None
