"""Import paths: resolved where the code is installed, and one sentence when it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import DataError, SpecError
from fl_core.factory import call, check_import_path, resolve, split_import_path

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)

MODULE = """
from fl_core.errors import DataError
__all__ = []
number = 5
def add(a, b=1): return a + b
def bad_type(): return "a" + 1
def bad_value(): raise ValueError("this shard is empty")
def bad_file(): open("/nonexistent/shard.npz")
def bad_data(): raise DataError("no example")
def bug(): raise ZeroDivisionError("my own fault")
def leave(): raise SystemExit(3)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's own module, importable for one test."""
    name = f"own_code_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_broken.py").write_text("import there_is_no_such_package")
    (tmp_path / f"{name}_raises.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@given(st.lists(NAMES, min_size=1, max_size=3), NAMES)
def test_an_import_path_splits_at_its_colon(packages: list[str], name: str) -> None:
    """The module before the colon and the name behind it come back as they were written."""
    assert split_import_path(".".join(packages) + ":" + name, "key") == (".".join(packages), name)


@pytest.mark.parametrize(
    "path", ["", "a", "a.b", ":b", "a:", "a:b:c", "a..b:c", ".a:b", "a:b.c", "1a:b", "a-b:c", "a:b\n"]
)
def test_what_is_no_import_path_is_refused_by_key(path: str) -> None:
    """The error names the key, the value and the form that was wanted."""
    with pytest.raises(SpecError) as caught:
        split_import_path(path, "model.factory")
    assert str(caught.value) == (
        f"model.factory = {path!r} is not an import path; write it as 'package.module:callable'."
    )


def test_checking_a_path_does_not_import_it(module: str) -> None:
    """The check at start-up is cheap and safe: the module's code does not run, so even a broken one passes."""
    check_import_path(f"{module}_broken:f", "data")
    assert f"{module}_broken" not in sys.modules


@pytest.mark.parametrize("path", ["there_is_no_such_package:f", "there_is_no_such_package.deep:f", "__main__:f"])
def test_a_package_that_is_not_installed_is_told_at_start(path: str) -> None:
    """A missing top-level package is refused before anything starts; ``__main__`` is never one that travels."""
    with pytest.raises(SpecError, match=r"^data = '.*': there is no module '\w+' here; install it or start where"):
        check_import_path(path, "data")


def test_the_program_itself_is_no_package(tmp_path: Path) -> None:
    """Also where ``__main__`` is a plain script, which has no import spec, the answer is the sentence."""
    code = "from fl_core.factory import check_import_path; check_import_path('__main__:f', 'data')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("fl_core.errors.SpecError: data = '__main__:f': there is no module")


def test_a_path_resolves_to_what_it_names(module: str) -> None:
    """The callable itself comes back, and is called with the arguments as keywords."""
    assert resolve(f"{module}:add", "data")(1) == 2
    assert call(f"{module}:add", {"a": 1, "b": 5}, "data") == 6


@pytest.mark.parametrize(
    ("suffix", "said"),
    [
        ("_missing:f", "No module named"),
        ("_broken:f", "No module named 'there_is_no_such_package'; install it on this machine."),
        (":nothing", "has no callable 'nothing'; it has DataError, add, bad_type"),
        (":number", "has no callable 'number'"),
    ],
)
def test_what_cannot_be_resolved_is_told_with_its_remedy(module: str, suffix: str, said: str) -> None:
    """A missing module, a module that cannot import its own needs, a missing name, a name that is no callable."""
    with pytest.raises(SpecError) as caught:
        resolve(module + suffix, "data")
    assert str(caught.value).startswith(f"data = '{module}{suffix}': ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("add", {"c": 1}, "unexpected keyword argument 'c'"),
        ("add", {}, "missing 1 required positional argument"),
        ("bad_value", {}, "this shard is empty"),
        ("bad_file", {}, "No such file or directory"),
    ],
)
def test_a_factory_that_refuses_its_arguments_is_told(
    module: str, name: str, arguments: dict[str, int], said: str
) -> None:
    """The sentence names the key, the path, the arguments and what the factory said."""
    with pytest.raises(SpecError, match=f"^data = '{module}:{name}' failed with ") as caught:
        call(f"{module}:{name}", arguments, "data")
    assert said in str(caught.value)
    assert repr(arguments) in str(caught.value)


def test_a_factory_s_own_sentence_is_left_as_it_is(module: str) -> None:
    """An error of ours that a factory raises already says what to do; it is not wrapped in another."""
    with pytest.raises(DataError, match=r"^no example$"):
        call(f"{module}:bad_data", {}, "data")


@pytest.mark.parametrize(("name", "said"), [("bug", "ZeroDivisionError: my own fault"), ("leave", "SystemExit: 3")])
def test_a_bug_in_a_factory_is_one_sentence_too(module: str, name: str, said: str) -> None:
    """Whatever it raises, the sentence says what and in which line of the user's file; the rest goes to the log."""
    with pytest.raises(
        SpecError, match=rf"^data = '{module}:{name}' failed with \{{\}}: {said} \(.*{module}.py, line \d+\)\."
    ):
        call(f"{module}:{name}", {}, "data")


def test_a_module_that_raises_when_it_is_imported_is_told(module: str) -> None:
    """A syntax error or a bug at a module's top level is no traceback either."""
    with pytest.raises(SpecError, match=rf"importing {module}_raises raised ZeroDivisionError: .*line 1\); mend it\."):
        resolve(f"{module}_raises:f", "data")
