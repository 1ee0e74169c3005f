"""What both command lines share: expected errors end a program in one sentence, settings may stand in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from fl_core.errors import BrokerUnavailable, CampaignError, FedtideError, InvariantError, SpecError
from fl_core.program.command_line import FedtideCommand, config_file

KEYS = ("broker", "queue", "threads")


@click.command(cls=FedtideCommand, context_settings={"auto_envvar_prefix": "DEMO"})
@click.option(
    "--config", type=click.Path(path_type=Path), is_eager=True, expose_value=False, callback=config_file(KEYS)
)
@click.option("--broker", default="none")
@click.option("--queue", multiple=True, default=("default",))
@click.option("--threads", type=int, default=0)
def demo(**options: Any) -> None:
    """Say what the options are."""
    click.echo(f"{options['broker']} {','.join(options['queue'])} {options['threads']}")


def _run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(demo, arguments, env=environment)


@pytest.mark.parametrize("kind", [SpecError, BrokerUnavailable, CampaignError])
def test_an_expected_error_ends_with_its_sentence_and_code_2(kind: type[FedtideError]) -> None:
    """Whoever has to act reads one line, and a script sees exit code 2."""

    @click.command(cls=FedtideCommand)
    def failing() -> None:
        raise kind("port = 0 is wrong; name another.")

    result = CliRunner().invoke(failing)
    assert result.exit_code == 2
    assert result.output == "Error: port = 0 is wrong; name another.\n"


def test_a_bug_keeps_its_traceback() -> None:
    """An invariant that does not hold is ours to mend: it is not turned into a sentence for the user."""

    @click.command(cls=FedtideCommand)
    def failing() -> None:
        raise InvariantError("this cannot happen")

    result = CliRunner().invoke(failing)
    assert isinstance(result.exception, InvariantError)
    assert result.exit_code == 1


def test_flags_come_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    """Each source is overridden by the one that is nearer to the person who types."""
    path = tmp_path / "settings.toml"
    path.write_text("broker = 'file'\nthreads = 3\nqueue = ['a', 'b']")
    assert _run().output == "none default 0\n"
    assert _run("--config", str(path)).output == "file a,b 3\n"
    assert _run("--config", str(path), DEMO_BROKER="environment").output == "environment a,b 3\n"
    assert _run("--config", str(path), "--broker", "flag", DEMO_BROKER="environment").output == "flag a,b 3\n"
    assert _run("--config", str(path), "--queue", "c").output == "file c 3\n"
    assert _run(DEMO_CONFIG=str(path)).output == "file a,b 3\n"


def test_one_queue_may_stand_without_brackets(tmp_path: Path) -> None:
    """``queue = "gpu"`` is one queue, not three of one letter."""
    path = tmp_path / "settings.toml"
    path.write_text("queue = 'gpu'")
    assert _run("--config", str(path)).output == "none gpu 0\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("brokr = 'x'", "unknown key 'brokr'; did you mean 'broker'?"),
        ("zzz = 1", "unknown key 'zzz'; known keys: broker, queue, threads."),
        ("a = = 1", "is not valid TOML: Invalid value (at line 1, column 5)."),
        ("threads = 'many'", "Invalid value for '--threads'"),
        ("queue = 5", "Invalid value for '--queue'"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    """Unknown keys, broken syntax and wrong types end with code 2 and a sentence."""
    path = tmp_path / "settings.toml"
    path.write_text(text)
    result = _run("--config", str(path))
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A missing file and one that is not text end with code 2 and a sentence too."""
    assert "cannot be read (No such file or directory)" in _run("--config", str(tmp_path / "none.toml")).output
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"\xff\xfe")
    assert "is not valid TOML" in _run("--config", str(path)).output
