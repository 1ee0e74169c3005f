"""Shared by both command lines: one sentence and exit code 2 for bad input, and settings from a TOML file."""

from __future__ import annotations

import sys
import tomllib
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import click

from fl_core.errors import FedtideError, InvariantError, SpecError
from fl_core.program.extras import EXTRAS, missing
from fl_core.program.plain_text import shown_lines
from fl_core.program.redaction import redact
from fl_core.program.toml_file import read_toml

EXIT_BAD_INPUT = 2
# Where click keeps the authority of the identity that the broker's password is of: nobody has typed it then.
AS_IDENTITY = "fedtide.as_identity"


class Setting(click.ParamType[tuple[str, Any]]):
    """``KEY=VALUE`` with a dotted key and a TOML value; a word that is no TOML value is text.

    >>> Setting().convert("stop.seconds=60", None, None), Setting().convert("codec.name=fp16", None, None)
    (('stop.seconds', 60), ('codec.name', 'fp16'))
    """

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """The pair.

        Raises:
            click.BadParameter: there is no ``=``, or the key has no section.
        """
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        key = key.strip()
        if not equals or "." not in key or not all(key.split(".")):
            self.fail(
                f"{value!r} is not of the form SECTION.KEY=VALUE; write for instance stop.seconds=60.", param, ctx
            )
        try:
            return key, tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            return key, text


def fail(error: FedtideError) -> NoReturn:
    """End the program with the error's sentence.

    Raises:
        SystemExit: always, with code 2.
    """
    click.secho(redact(f"Error: {shown_lines(error)}"), fg="red", err=True)
    raise SystemExit(EXIT_BAD_INPUT)


class Discreet(click.Command):
    """A command whose help and complaints show no password: click repeats defaults, and words that it does not know."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the command line."""
        try:
            return super().make_context(*args, **kwargs)
        except click.ClickException as error:
            error.message = redact(error.message)  # type: ignore[misc]
            raise

    def get_help(self, ctx: click.Context) -> str:
        """What ``--help`` prints."""
        return redact(super().get_help(ctx))


class FedtideCommand(Discreet):
    """A command whose expected errors and missing packages end it in one sentence; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        _warn_of_password(ctx)
        return self.guarded(ctx, super().invoke)

    @staticmethod
    def guarded(ctx: click.Context, invoke: Callable[[click.Context], Any]) -> Any:
        """Run what is behind a command line."""
        sys.excepthook = _show_bug
        try:
            return invoke(ctx)
        except click.ClickException as error:
            error.message = redact(error.message)  # type: ignore[misc]
            raise
        except InvariantError:
            raise
        except FedtideError as error:
            return fail(error)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in EXTRAS:
                raise
            return fail(SpecError(missing(ctx.command_path, str(error.name))))
        except BrokenPipeError:
            # `fedtide queues | head` is no error; Python must not complain about it at exit either.
            sys.stderr.close()
            raise SystemExit(0) from None
        except FileNotFoundError:
            if _has_working_directory():
                raise
            return fail(SpecError("the working directory is there no more; change to one that is, and start again."))


def _has_working_directory() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


_LONG_LIVED = ("run", "monitor", "top", "worker")


def _show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def _warn_of_password(ctx: click.Context) -> None:
    """Everybody on a machine reads the command lines of all its programs."""
    if ctx.command.name not in _LONG_LIVED or ctx.meta.get(AS_IDENTITY):
        return
    for name, whose, variable in (
        ("broker", "the broker's", "FEDTIDE_BROKER"),
        ("checkpoint_url", "the checkpoint's", "FEDTIDE_CHECKPOINT_URL"),
    ):
        url = str(ctx.params.get(name) or "")
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE and redact(url) != url:
            click.echo(
                f"Warning: others on this machine can read {whose} password in this command line; put the address into "
                f"{variable}.",
                err=True,
            )


def config_file(keys: Sequence[str]) -> Callable[[click.Context, click.Parameter, Path | None], None]:
    """A callback for ``--config``: reads a TOML file as the defaults of the other options.

    Args:
        keys: the settings that may stand in the file.
    """

    def read(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
        if path is None:
            return
        try:
            settings = read_toml(path)
        except SpecError as error:
            raise click.UsageError(f"--config {error}") from None
        for key in settings:
            if key not in keys:
                nearest = get_close_matches(key, keys, n=1)
                hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(keys)}."
                raise click.UsageError(f"--config {path}: unknown key {key!r}; {hint}")
        for key in ("queue", "allow", "blobs"):  # one, or a list of them
            if isinstance(settings.get(key), str):
                settings[key] = [settings[key]]
        ctx.default_map = {**(ctx.default_map or {}), **settings}

    return read
