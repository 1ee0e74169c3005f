"""A new project: a package with a model and data, a spec, a fleet, a profile and a test."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from string import Template

from fl_core.errors import SpecError
from fl_core.namesakes import OWN

_TEMPLATES = Path(__file__).with_name("templates")
TEMPLATES = {
    "vision": "A small convolutional network on images that stay on the devices.",
    "text": "A text classifier on words that stay on the devices.",
    "tabular": "A classifier of table rows that stay on the devices.",
    "timeseries": "A forecast of sensors' readings that stay on the devices.",
    "llm": "Low-rank adapters of a language model, on texts that stay on the devices.",
}
"""The templates, and what each is, in one sentence."""


def make_project(name: str, template: str, inside: Path) -> Path:
    """Write a project's folder.

    Args:
        name: of the folder, and of the package in it.
        template: one of ``TEMPLATES``.
        inside: where the folder is made.

    Returns:
        The folder.

    Raises:
        SpecError: the name is none for a package, or is taken; the folder is there, or cannot be written.
    """
    _verify_name(name)
    folder = inside / name
    words = {"package": name, "campaign": name.lower().replace("_", "-"), "what": TEMPLATES[template]}
    words["settings"] = Template(_read(template, "settings.toml")).substitute(words)
    try:
        folder.mkdir(parents=True)
        for path, text in _files(name, template):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(Template(text).substitute(words), encoding="utf-8")
    except FileExistsError:
        raise SpecError(f"{folder} is there already; give another name, or remove it.") from None
    except OSError as error:
        raise SpecError(f"{folder} cannot be written ({error.strerror}); make room there.") from error
    return folder


def _files(name: str, template: str) -> Iterator[tuple[str, str]]:
    for path in ("README.md", "campaign.toml", "fleet.toml", "phones.toml"):
        yield path, _read("common", path)
    test = "test_campaign.py"
    yield f"tests/{test}", _read("common", test)
    yield f"{name}/__init__.py", f'"""{TEMPLATES[template]}"""\n'
    for path in ("model.py", "data.py"):
        yield f"{name}/{path}", _read(template, path)


def _read(folder: str, name: str) -> str:
    # Python files have another suffix here: they are not fedtide's, and are checked where they are written.
    stored = f"{name}.txt" if name.endswith(".py") else name
    return (_TEMPLATES / folder / stored).read_text(encoding="utf-8")


def _verify_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) or keyword.iskeyword(name):
        raise SpecError(f"{name!r} is no name for a package; use lower-case letters, digits and '_', at most 32.")
    if name in OWN or name in sys.stdlib_module_names or find_spec(name) is not None:
        raise SpecError(f"{name!r} is the name of a package that is here already; give another name.")
