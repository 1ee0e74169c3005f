"""The documents name what the program has: every key, every command, every option, and only files that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from coordinator.cli import fedtide
from coordinator.launch.fleet import FleetWorker
from fl_core.errors import Reason
from fl_core.spec import CampaignSpec
from tests.docs.pages import PAGES, ROOT, name_of
from workers.cli import worker
from workers.identity.command import enroll


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in CampaignSpec.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        yield name, field.annotation
    yield "worker", FleetWorker


FIELDS = {f"{section}.{key}": field for section, model in _sections() for key, field in model.model_fields.items()}


def _rows() -> dict[str, list[str]]:
    """docs/spec.md's tables: key -> values, default, meaning."""
    lines = (ROOT / "docs/spec.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]
    return {row[0].strip(" `"): row[1:] for row in cells}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return f"`{value}`"


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _choices(part)]


@pytest.mark.parametrize("key", FIELDS)
def test_each_key_is_documented_with_its_default(key: str) -> None:
    """docs/spec.md has a row for the key, with the default of the model, every choice, and a meaning."""
    row = _rows().get(key)
    assert row is not None, f"docs/spec.md lacks a row for {key}"
    values, default, meaning = row
    assert default == _default(FIELDS[key]), f"docs/spec.md says another default for {key}"
    for choice in _choices(FIELDS[key].annotation):
        assert f"`{choice}`" in values, f"docs/spec.md lacks {key} = {choice!r}"
    assert len(meaning) > 5


def test_no_row_is_left_of_a_key_that_is_gone() -> None:
    """docs/spec.md has no row for a key that the models do not have."""
    assert set(_rows()) == set(FIELDS)


def test_each_command_is_in_the_readme() -> None:
    """Every command of `fedtide` has a row in the README's table of commands."""
    readme = (ROOT / "README.md").read_text()
    missing = [name for name in fedtide.commands if not re.search(rf"^\| `fedtide {name}\b", readme, re.MULTILINE)]
    assert not missing


def test_each_option_of_the_worker_is_documented() -> None:
    """docs/devices.md has a row for every option of fedtide-worker."""
    text = (ROOT / "docs/devices.md").read_text()
    options = [option for option in worker.params if isinstance(option, click.Option)]
    assert options
    for option in options:
        assert f"| `{option.opts[0]}" in text, f"docs/devices.md lacks {option.opts[0]}"


def test_options_in_the_documents_exist() -> None:
    """Each `--option` that a document gives to one of the programs is one that it has."""
    programs = {
        f"fedtide {name}": command for name, command in fedtide.commands.items() if not isinstance(command, click.Group)
    }
    programs["fedtide-worker"], programs["fedtide-worker enroll"] = worker, enroll
    for name, group in [(name, group) for name, group in fedtide.commands.items() if isinstance(group, click.Group)]:
        programs |= {f"fedtide {name} {inner}": command for inner, command in group.commands.items()}
    for path in PAGES:
        text = path.read_text().replace("\\\n", " ")
        for line in text.splitlines():
            for program, command in programs.items():
                if match := re.search(rf"(?:^|[\s`/]){re.escape(program)}(?![\w-])(?! enroll)([^`#|&;]*)", line):
                    known = {name for option in command.params for name in option.opts}
                    used = set(re.findall(r"(?<!\S)--[a-z-]+", match[1]))
                    assert used <= known | {"--help"}, f"{path.name}: {line.strip()}"


def test_each_reason_of_a_rejection_is_explained() -> None:
    """docs/architecture.md names every reason for which an update can be rejected."""
    text = (ROOT / "docs/architecture.md").read_text()
    assert not [reason.value for reason in Reason if f"`{reason.value}`" not in text]


def test_files_named_in_the_code_exist() -> None:
    """Comments and docstrings send readers to files that are there."""
    named = re.compile(
        r"(?<![\w/.])((?:coordinator|workers|fl_core|fedtide|deploy|examples|docs|tests|benchmarks)/[\w./-]*"
        r"\.(?:py|md|toml|lua|js|html|css|conf))\b"
    )
    for folder in ("fedtide", "fl_core", "coordinator", "workers", "keepers", "tests", "benchmarks", "examples"):
        for file in (ROOT / folder).rglob("*.py"):
            for name in named.findall(file.read_text(encoding="utf-8")):
                assert (ROOT / name).exists(), f"{name_of(file)} names {name}"


RECORDS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_a_decision_is_recorded_in_three_parts(record: Path) -> None:
    """Context, decision, consequences, short; and the index has it under its number and title."""
    text = record.read_text(encoding="utf-8")
    number, title = re.match(r"# (\d+)\. (.+)", text).groups()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= 60
    assert f"| {number} | [{title}]({record.name}) |" in (record.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link of a document leads to a file of the repository, and every anchor to a heading."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), f"{path.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{path.name} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_files_named_in_the_documents_exist(path: Path) -> None:
    """A path in backquotes that begins with one of the repository's folders exists."""
    for name in re.findall(
        r"`((?:coordinator|workers|fl_core|fedtide|benchmarks|deploy|examples|docs|tests)/[\w./-]*)`", path.read_text()
    ):
        assert (ROOT / name).exists(), f"{path.name} names {name}"
