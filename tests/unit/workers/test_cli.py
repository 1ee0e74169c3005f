"""``fedtide-worker``: where settings come from, and that a wrong one ends in one line, at once."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fl_core.identity.certificates import Role, issue, make_authority, read_certificate
from fl_core.identity.folder import complete, key_of, write_surroundings
from fl_core.identity.keys import make_key, public_bytes
from workers.cli import _settings, _take_identity, worker

GOOD = {"--broker": "redis://127.0.0.1:1/0", "--data": "json:loads"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("FEDTIDE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _arguments(**changes: str) -> list[str]:
    options = {**GOOD, **{"--" + name.replace("_", "-"): value for name, value in changes.items()}}
    return [word for pair in options.items() for word in pair]


def _parsed(*arguments: str) -> dict[str, Any]:
    """What the options are, without running anything."""
    return worker.make_context("fedtide-worker", list(arguments)).params


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(worker, arguments)


def _complaint(*arguments: str) -> str:
    result = _run(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.output
    assert "Traceback" not in result.output
    assert result.output.rstrip().endswith(errors[0])
    return errors[0].removeprefix("Error: ")


# -- where settings come from --------------------------------------------------------------------------------------


def test_flags_win_over_the_environment_and_that_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each setting comes from the nearest source that has it; what nobody sets has its default."""
    path = tmp_path / "worker.toml"
    path.write_text("broker = 'redis://file/0'\ndata = 'file:f'\nthreads = 1\nqueue = ['a', 'b']\ngrace_seconds = 1.5")
    monkeypatch.setenv("FEDTIDE_BROKER", "redis://environment/0")
    monkeypatch.setenv("FEDTIDE_DATA", "environment:f")
    parsed = _parsed("--config", str(path), "--data", "flag:f")
    assert (parsed["broker"], parsed["data"]) == ("redis://environment/0", "flag:f")
    assert (parsed["threads"], list(parsed["queue"]), parsed["grace_seconds"]) == (1, ["a", "b"], 1.5)
    assert (parsed["device"], parsed["name"], parsed["data_args"], parsed["celery_events"]) == ("auto", None, {}, False)


def test_the_environment_has_every_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container is set up without a command line: the file too is named by a variable."""
    path = tmp_path / "worker.toml"
    path.write_text("data = 'file:f'\nname = 'from-file'")
    values = {"CONFIG": str(path), "BROKER": "redis://e/0", "DATA_ARGS": '{"shard": 3}', "QUEUE": "a b", "THREADS": "2"}
    values |= {"STATE_DIR": "/var/lib/x", "CACHE_BYTES": "5", "CELERY_EVENTS": "true", "LOG_LEVEL": "debug"}
    for name, value in values.items():
        monkeypatch.setenv(f"FEDTIDE_{name}", value)
    parsed = _parsed()
    assert (parsed["broker"], parsed["data"], parsed["name"]) == ("redis://e/0", "file:f", "from-file")
    assert (parsed["data_args"], tuple(parsed["queue"]), parsed["threads"]) == ({"shard": 3}, ("a", "b"), 2)
    assert (parsed["state_dir"], parsed["cache_bytes"]) == (Path("/var/lib/x"), 5)
    assert (parsed["celery_events"], parsed["log_level"]) == (True, "debug")


def test_what_tasks_may_name_comes_from_flags_environment_or_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One entry or several, like the queues; an entry of another form ends the program at once."""
    path = tmp_path / "worker.toml"
    path.write_text("allow = 'mine'")
    assert list(_parsed("--config", str(path), *_arguments())["allow"]) == ["mine"]
    monkeypatch.setenv("FEDTIDE_ALLOW", "mine other:net")
    assert list(_parsed("--config", str(path), *_arguments())["allow"]) == ["mine", "other:net"]
    assert list(_parsed(*_arguments(), "--allow", "a.b", "--allow", "c:d")["allow"]) == ["a.b", "c:d"]
    said = _complaint(*_arguments(), "--allow", "a.b,c:d")
    assert said == "allow = 'a.b,c:d' is not a module; write it as MODULE or as MODULE:NAME."


def test_a_file_gives_the_factory_s_arguments_as_a_table(tmp_path: Path) -> None:
    """In TOML the arguments are a table with its own types, not JSON in a string."""
    path = tmp_path / "worker.toml"
    path.write_text("broker = 'redis://h/0'\ndata = 'a:b'\nqueue = 'gpu'\n[data_args]\nshard = 3\nnames = ['x']")
    parsed = _parsed("--config", str(path))
    assert (parsed["data_args"], tuple(parsed["queue"])) == ({"shard": 3, "names": ["x"]}, ("gpu",))


def test_queues_repeat() -> None:
    """A worker may serve several device classes."""
    assert tuple(_parsed(*_arguments(), "--queue", "a", "--queue", "b")["queue"]) == ("a", "b")
    assert _settings(_parsed(*_arguments())).queues == ("default",)


def test_an_identity_gives_name_queues_and_the_way_to_the_broker(tmp_path: Path) -> None:
    """And another name, or a queue that its certificate does not have, is refused."""
    now, key = datetime.datetime.now(datetime.UTC), make_key()
    authority, own = make_authority(key, "ours", now), key_of(tmp_path)
    write_surroundings(tmp_path, authority, broker="redis://127.0.0.1:1/0", blobs=":6380")
    der = issue(
        key, authority, name="dev-1", role=Role.DEVICE, public_key=public_bytes(own), now=now, days=1,
        queues=("phone", "lab"),
    )  # fmt: skip
    complete(tmp_path, own, read_certificate(der, authority))
    words = ("--identity", str(tmp_path), "--data", "json:loads")
    options = _parsed(*words)
    _take_identity(options)
    settings = _settings(options)
    assert (settings.name, settings.queues, settings.blobs) == ("dev-1", ("phone", "lab"), (":6380",))
    assert settings.broker.startswith("redis://dev-1:")
    assert "is not dev-1" in _complaint(*words, "--name", "other")
    assert "is none that dev-1 may serve (phone, lab)" in _complaint(*words, "--queue", "gpu")
    assert "holds no identity" in _complaint("--identity", str(tmp_path / "none"), "--data", "json:loads")


# -- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"broker": "http://host/0"}, "is not a Redis URL; write redis://HOST:PORT/0"),
        ({"broker": "redis://host:port/0"}, "is not a URL"),
        ({"broker": ""}, "is not a Redis URL"),
        ({"data": "there_is_none:f"}, "data = 'there_is_none:f': there is no module 'there_is_none' here; install it"),
        ({"data": "json"}, "data = 'json' is not an import path; write it as 'package.module:callable'."),
        ({"data_args": "{shard: 0}"}, "'{shard: 0}' is not JSON"),
        ({"data_args": "[1]"}, "'[1]' is not a JSON object; write for instance '{\"shard\": 0}'."),
        ({"name": "a b"}, "name = 'a b' is not a name; use letters, digits, '.', '_' and '-', at most 64."),
        ({"name": "a|b"}, "name = 'a|b' is not a name"),
        ({"name": "a\n"}, "is not a name"),
        ({"name": "x" * 65}, "at most 64."),
        ({"name": "-x"}, "name = '-x' is not a name"),
        ({"queue": "a:b"}, "queue = 'a:b' is not a name"),
        ({"threads": "many"}, "Invalid value for '--threads'"),
        ({"threads": "-1"}, "Invalid value for '--threads'"),
        ({"cache_bytes": "1 GiB"}, "Invalid value for '--cache-bytes'"),
        ({"grace_seconds": "-1"}, "Invalid value for '--grace-seconds'"),
        ({"log_level": "loud"}, "Invalid value for '--log-level'"),
    ],
)
def test_a_wrong_setting_ends_in_one_line_with_code_2(changes: dict[str, str], said: str) -> None:
    """The line names the setting, its value and the remedy; there is no traceback."""
    assert said in _complaint(*_arguments(**changes))


def test_what_is_missing_is_named() -> None:
    """Broker and data have no default."""
    assert "Missing option '--broker'" in _complaint("--data", "json:loads")
    assert "Missing option '--data'" in _complaint("--broker", "redis://h/0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("brokr = 'x'", "unknown key 'brokr'; did you mean 'broker'?"),
        ("zzz = 1", "unknown key 'zzz'; known keys: broker, identity, data, data_args, queue, allow, blobs,"),
        ("a = = 1", "is not valid TOML: Invalid value (at line 1, column 5)."),
        ("data_args = [1]", "Invalid value for '--data-args'"),
        ("threads = 'many'", "Invalid value for '--threads'"),
        ("config = 'other.toml'", "unknown key 'config'"),
    ],
)
def test_a_wrong_file_ends_in_one_line_with_code_2(tmp_path: Path, text: str, said: str) -> None:
    """An unknown key, broken TOML and a wrong type in the file are told like those on the command line."""
    path = tmp_path / "worker.toml"
    path.write_text(text)
    assert said in _complaint("--config", str(path), *_arguments())


def test_a_wrong_environment_ends_in_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is checked like a flag."""
    monkeypatch.setenv("FEDTIDE_THREADS", "many")
    assert "Invalid value for '--threads'" in _complaint(*_arguments())


def test_no_password_is_repeated(tmp_path: Path) -> None:
    """click repeats words that it does not know, and shows defaults in its help: neither with a password in them."""
    path = tmp_path / "worker.toml"
    path.write_text("broker = 'redis://me:s3cret@host:6379/0'")
    shown = _run("--config", str(path), "--help").output
    assert "redis://me:***@host:6379/0" in shown
    assert "s3cret" not in shown
    for words in (["redis://me:s3cret@h"], ["--brokr=redis://me:s3cret@h"], ["--threads", "redis://me:s3cret@h"]):
        assert "s3cret" not in _complaint(*_arguments(), *words)
    said = _complaint(*_arguments(broker="redis://:s3/cret@host:6379/0"))
    assert "percent-encode" in said
    assert "cret" not in said


# -- weight --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["-h"], 0), (["--version"], 0), (_arguments(data="no_such_package:f"), 2), (_arguments(threads="many"), 2)],
    ids=["help", "version", "data", "threads"],
)
def test_nothing_heavy_is_loaded_for_help_and_mistakes(arguments: list[str], code: int) -> None:
    """``--help`` and the answer to a typing error come at once: torch, celery, redis and pydantic stay unloaded."""
    program = (
        "import sys\nfrom workers.__main__ import main\nsys.argv[0] = 'fedtide-worker'\n"
        "try:\n    main()\nfinally:\n    print('LOADED', *sys.modules)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=root, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert ("--emulate-delay-seconds" in done.stdout) == (arguments == ["-h"])
    assert "Traceback" not in done.stderr
    loaded = set(done.stdout.partition("LOADED")[2].split())
    assert "workers.cli" in loaded
    assert not loaded & {"torch", "celery", "kombu", "redis", "pydantic", "numpy", "structlog"}


def test_a_device_has_an_architecture_and_a_speed_of_its_own(tmp_path: Path) -> None:
    """The options of the methods and of trials reach the settings, from flags and from a file alike."""
    from workers.cli import _settings

    flags = _parsed(
        *_arguments(model="a.b:wide", model_args='{"width": 3}', emulate_example_seconds="0.25", emulate_attack="scale")
    )
    path = tmp_path / "worker.toml"
    path.write_text(
        "broker = 'redis://h/0'\ndata = 'a:b'\nmodel = 'a.b:wide'\nemulate_example_seconds = 0.25\n"
        "emulate_attack = 'scale'\n[model_args]\nwidth = 3"
    )
    for options in (flags, _parsed("--config", str(path))):
        settings = _settings(options)
        assert (settings.model, settings.model_args) == ("a.b:wide", {"width": 3})
        assert (settings.emulate_example_seconds, settings.emulate_attack) == (0.25, "scale")
    plain = _settings(_parsed(*_arguments()))
    assert (plain.model, plain.emulate_example_seconds, plain.emulate_attack) == ("", 0.0, "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "wide"}, "model = 'wide' is not an import path"),
        ({"model_args": "[]"}, "'[]' is not a JSON object"),
        ({"emulate_example_seconds": "-1"}, "Invalid value for '--emulate-example-seconds'"),
        ({"emulate_attack": "rude"}, "Invalid value for '--emulate-attack'"),
    ],
)
def test_a_wrong_architecture_or_speed_is_told(changes: dict[str, str], said: str) -> None:
    """One line, before anything heavy is loaded."""
    assert said in _complaint(*_arguments(**changes))
