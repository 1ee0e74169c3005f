"""What tasks may name as code: the built-in parts, and what a device's owner has written down."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fl_core.allowance import AllowList, named_code
from fl_core.errors import SpecError
from fl_core.factory import call, gate, resolve
from fl_core.models.build import build_model

MODULE = """
import os, subprocess
from os import system
from subprocess import Popen as start
from fl_core.factory import call
ran = os.environ.setdefault("RAN_" + __name__, "yes")
def net(): return 1
def _secret(): return 2
class Method: pass
shortcut = call
inner = lambda **_: call("os:getcwd", {}, "inner")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's package with a submodule and a program, importable for one test."""
    name = f"own_package_{abs(hash(tmp_path))}"
    for path in (name, f"{name}_evil"):
        (tmp_path / path).mkdir()
        for file in ("__init__.py", "deep.py", "__main__.py"):
            (tmp_path / path / file).write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    "path",
    [
        "fl_core.models:mlp",
        "fl_core.models.lora:lora",
        "fl_core.data:digits",
        "fl_core.training.methods.personal:Personal",
        "fl_core.training.losses:Loss",
        "fl_core.codecs.fp32:Fp32",
    ],
)
def test_built_in_parts_need_no_allowance(path: str) -> None:
    """Models, data, methods, losses and codecs of fedtide resolve on every device."""
    with gate(AllowList()):
        assert callable(resolve(path, "key"))


@pytest.mark.parametrize(
    "path",
    [
        "os:system",
        "subprocess:Popen",
        "builtins:exec",
        "torch:load",
        "pickle:loads",
        "fl_core.factory:call",
        "fl_core.program.process:end_with_parent",
        "fl_core.broker.connection:connect",
        "fl_core.broker.server.embedded:EmbeddedServer",
        "workers.daemon:Daemon",
        # What an allowed module has imported from elsewhere.
        "fl_core.codecs:resolve",
        "fl_core.training.losses:resolve",
        "fl_core.data.files:Path",
        "fl_core.models.build:UninitializedParameter",
        # What is a module's own machinery.
        "fl_core.models:__class__",
        "fl_core.models:__delattr__",
        "fl_core.codecs:_own_codec",
        "fl_core.modelsevil:mlp",
    ],
)
def test_all_else_is_refused_in_one_sentence_that_says_how_to_permit_it(path: str) -> None:
    """The key, the name and the flag are in it; what else the installation has is not."""
    with gate(AllowList()), pytest.raises(SpecError) as caught:
        call(path, {}, "model.factory")
    said = str(caught.value)
    assert said.startswith(f"model.factory = {path!r} is not allowed on this device")
    assert f"--allow {path} " in said
    assert said.count(". ") == 0


def test_what_is_refused_is_not_imported(package: str) -> None:
    """Importing is running: a module that no entry covers is never loaded, nor is one that is a program."""
    for path in (f"{package}:net", f"{package}.deep:net", f"{package}.__main__:net", f"{package}_evil:net"):
        allowed = AllowList([package] if "__main__" in path or "_evil" in path else [])
        with gate(allowed), pytest.raises(SpecError, match="not allowed"):
            resolve(path, "data")
    assert not [name for name in sys.modules if name.startswith(package)]


def test_a_module_covers_what_is_defined_in_it_and_below(package: str) -> None:
    """Its functions, classes and submodules, but neither private names nor what came into it from elsewhere."""
    with gate(AllowList([package])):
        assert resolve(f"{package}:net", "key")() == 1
        assert resolve(f"{package}.deep:Method", "key").__name__ == "Method"
        for name in ("system", "start", "call", "shortcut", "_secret", "__class__"):
            with pytest.raises(SpecError, match=f"not allowed.* --allow {package}:{name} "):
                resolve(f"{package}:{name}", "key")


def test_a_name_covers_itself_alone(package: str) -> None:
    """Also a re-exported or a private one: it is what the owner wrote. Its module's other names stay out."""
    with gate(AllowList([f"{package}:shortcut", f"{package}:_secret"])):
        assert resolve(f"{package}:_secret", "key")() == 2
        assert callable(resolve(f"{package}:shortcut", "key"))
        for other in (f"{package}:net", f"{package}.deep:shortcut"):
            with pytest.raises(SpecError, match="not allowed"):
                resolve(other, "key")


def test_names_in_arguments_pass_the_same_gate(package: str) -> None:
    """A factory inside another one's arguments, and what an allowed callable looks up by itself."""
    inner = {"factory": "os:getcwd"}
    with gate(AllowList([package])):
        for factory, args in (
            ("fl_core.models:lora", inner),
            ("fl_core.models:lora", {"factory": "fl_core.models:lora", "args": inner}),
            ("fl_core.models:pipeline", {**inner, "devices": ["cpu"]}),
            (f"{package}:inner", {}),
        ):
            with pytest.raises(SpecError, match="'os:getcwd' is not allowed"):
                build_model(factory, args, 0)


def test_the_gate_is_open_for_the_owner_s_own_words_and_closes_again(package: str) -> None:
    """None lets everything through while it lasts; without a gate all is as a coordinator needs it."""
    assert callable(resolve("os:getcwd", "key"))
    with gate(AllowList()):
        with gate(None):
            assert callable(resolve("os:getcwd", "key"))
        with pytest.raises(SpecError, match="not allowed"):
            resolve("os:getcwd", "key")
    assert callable(resolve("os:getcwd", "key"))


@pytest.mark.parametrize("entry", ["", "a b", "a:b:c", "a.", ":b", "a:b.c", "../a", "a,b", "*", "fl_core.*"])
def test_an_entry_of_another_form_is_refused(entry: str) -> None:
    """One sentence with the entry and the two forms that there are."""
    with pytest.raises(SpecError) as caught:
        AllowList([entry])
    assert str(caught.value) == f"allow = {entry!r} is not a module; write it as MODULE or as MODULE:NAME."


def test_code_is_found_in_a_spec_at_any_depth() -> None:
    """Import paths in maps and lists count, other text does not."""
    section = {"method": "m:A", "args": {"public": "d:x", "more": ["e.f:g", {"deep": "h:i"}]}, "loss": "mse", "n": 1}
    assert list(named_code(section)) == ["m:A", "d:x", "e.f:g", "h:i"]
    assert not list(named_code(["http://host:80", ":6380", "a:b:c", "10:30", None]))
