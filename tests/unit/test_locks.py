"""requirements/ has every package that is installed, in a version that pyproject.toml allows, with its hashes."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = DOCUMENT["project"]
# The file of requirements/, and whether it has the package's own dependencies, its extras and groups.
LOCKS = {
    "dev": (True, ["dev"], ["build"]),
    "image": (True, ["coordinator", "examples", "monitor", "security"], []),
    "device": (True, ["security"], []),
    "build": (False, [], ["build"]),
}


def _locked(name: str) -> dict[str, list[Requirement]]:
    """What a file pins by name; a package has several pins where Python's version decides.

    Each entry is checked here: one version, by its number, and at least one hash.
    """
    text = (ROOT / f"requirements/{name}.txt").read_text().replace("\\\n", " ")
    pins: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pin, *hashes = line.split(" --hash=")
        assert hashes, f"{name}: {line} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each.strip()) for each in hashes), line[:80]
        requirement = Requirement(pin.strip())
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and requirement.url is None, f"{name}: {pin}"
        pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return pins


def _torch() -> Requirement:
    lines = (ROOT / "requirements/torch.txt").read_text().splitlines()
    (pin,) = [line for line in lines if line and not line.startswith("#")]
    return Requirement(pin)


def _wanted(lines: list[str]) -> list[Requirement]:
    """The lines, with those that name extras of this package replaced by what the extras ask for."""
    wanted = []
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            for extra in sorted(requirement.extras):
                wanted += _wanted(PROJECT["optional-dependencies"][extra])
        else:
            wanted.append(requirement)
    return wanted


def _asked_for(name: str) -> list[Requirement]:
    base, extras, groups = LOCKS[name]
    lines = list(PROJECT["dependencies"]) if base else []
    lines += [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    lines += [line for group in groups for line in DOCUMENT["dependency-groups"][group]]
    return _wanted(lines)


@pytest.mark.parametrize("name", LOCKS)
def test_lock_has_what_the_project_asks_for(name: str) -> None:
    """In a version that it allows: whoever adds a dependency or raises its bound has to say `make lock`."""
    pins = _locked(name)
    for wanted in _asked_for(name):
        if wanted.name == "torch":
            continue
        found = pins.get(canonicalize_name(wanted.name), [])
        assert found, f"{wanted} is missing in requirements/{name}.txt; make lock"
        for pin in found:
            (specifier,) = pin.specifier
            assert wanted.specifier.contains(specifier.version), f"{pin} against {wanted}; make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_lock_is_complete(name: str) -> None:
    """It is installed without a look at dependencies: all that its packages need here is in it, PyTorch's needs too."""
    pins = _locked(name)
    to_visit, seen = [(wanted.name, extra) for wanted in _asked_for(name) for extra in ("", *wanted.extras)], set()
    while to_visit:
        package, extra = to_visit.pop()
        if (package, extra) in seen:
            continue
        seen.add((package, extra))
        if package == "torch":
            requires = DOCUMENT["tool"]["uv"]["dependency-metadata"][0]["requires-dist"]
        else:
            assert canonicalize_name(package) in pins, f"{package} is missing in requirements/{name}.txt; make lock"
            requires = metadata.requires(package) or []
        for requirement in map(Requirement, requires):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                to_visit += [(requirement.name, each) for each in ("", *requirement.extras)]
    assert len(seen) >= len(pins) / 2


@pytest.mark.parametrize("name", [name for name in LOCKS if name != "dev"])
def test_locks_agree(name: str) -> None:
    """What runs in the image and on devices is what the tests ran with."""
    everything = _locked("dev")
    for package, pins in _locked(name).items():
        assert {str(pin) for pin in pins} <= {str(pin) for pin in everything[package]}


def test_locks_name_no_index() -> None:
    """Where packages come from is a matter of the machine."""
    for path in (ROOT / "requirements").iterdir():
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert not [line for line in lines if "://" in line or "index" in line.split()[0:1]], path


def test_pytorch_stands_apart_in_one_version() -> None:
    """One version everywhere, in no lock; what the locks take for its needs is what its CPU build declares."""
    (pin,) = _torch().specifier
    (declared,) = DOCUMENT["tool"]["uv"]["dependency-metadata"]
    assert (pin.operator, declared["name"], declared["version"]) == ("==", "torch", pin.version)
    assert not [name for name in LOCKS if "torch" in _locked(name)]
    installed = Version(metadata.version("torch"))
    if installed.local == "cpu" and installed.public == pin.version:
        real = {line for line in metadata.requires("torch") or [] if "extra ==" not in line}
        assert real == set(declared["requires-dist"])
