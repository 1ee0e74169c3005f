"""Command lines that the documents show: each program's own parser takes them, and what is cheap is run."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest
import redis
from click.testing import CliRunner

from coordinator.cli import fedtide
from coordinator.enrolment.authority import create_authority
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.identity.certificates import Role
from keepers.cli import keeper
from tests.docs.pages import PAGES, ROOT, Block, blocks, name_of
from workers.cli import worker
from workers.identity.command import enroll

# Programs of others: that they take these words was tried by hand, and there is no parser of theirs to ask.
FOREIGN = {"docker", "redis-server", "tensorboard", "pip", "rm"}
# They only look at the broker, and are done at once.
CHEAP = ("fedtide campaigns", "fedtide workers", "fedtide rejected latest")

COMMANDS = [block for page in PAGES for block in blocks(page, "sh", "console")]
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


def _lines(block: Block) -> Iterator[list[str]]:
    """The block's commands as words; of a console's block, what follows a prompt."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if block.language == "console":
            if not line.startswith("$ "):
                continue
            line = line.removeprefix("$ ")
        words = shlex.split(re.sub(r"\$\([^)]*\)", "SUBSTITUTED", line), comments=True)
        while words and ASSIGNMENT.fullmatch(words[0]):
            words = words[1:]
        if words:
            yield words


def _parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """What click does before it calls the command: options, their types, and files that have to be there."""
    with command.make_context(command.name, words, parent=parent) as context:
        if isinstance(command, click.Group):
            if parent is None:
                context.obj = context.params.get("identity")
            _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert inner is not None
            _parse(inner, rest, context)


def _verify(words: list[str]) -> None:
    """That the command line can work as it stands, in the current directory."""
    program, *rest = words
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if program == "fedtide":
        _parse(fedtide, rest)
    elif program == "fedtide-worker":
        enrols = rest[:1] == ["enroll"]
        _parse(enroll if enrols else worker, rest[enrols:])
    elif program == "fedtide-keeper":
        _parse(keeper, rest)
    elif program == "make":
        assert set(targets) >= {word for word in rest if not ASSIGNMENT.fullmatch(word)}
    elif program in ("python", ".venv/bin/python"):
        module = rest[1]
        assert rest[0] == "-m"
        named = f'"{module.replace("_", "-")}>' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert named or importlib.util.find_spec(module), module
        assert all(Path(word).exists() for word in rest[2:] if "/" in word)
    elif program == "celery":
        assert importlib.util.find_spec(rest[rest.index("-A") + 1])
    elif program == "export":
        assert all(ASSIGNMENT.fullmatch(word) for word in rest)
    elif program == ".":
        assert rest == [".venv/bin/activate"]
    else:
        assert program in FOREIGN


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what a checkout has that commands name; runs that pages name by their date lie there."""
    for name in ("examples", "deploy", "tests", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    authority = create_authority(tmp_path / "authority", "ours")
    for role in (Role.COORDINATOR, Role.OPERATOR, Role.MONITOR):
        authority.make_identity(role.value, role, 1, broker="rediss://broker.example.org:6380/0")
    for name in ("BROKER", "CONFIG", "BLOBS"):
        monkeypatch.delenv(f"FEDTIDE_{name}", raising=False)
    return tmp_path


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_each_command_line_is_taken(block: Block, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the program's own parser, with the files that it names; no program is shown that is not known here."""
    lines = list(_lines(block))
    assert lines
    for words in lines:
        if words[0] == "cd":
            monkeypatch.chdir(words[1])
            continue
        if words[0] == "export":
            for assignment in words[1:]:
                monkeypatch.setenv(*assignment.split("=", 1))
        for word in words:
            if word.startswith("runs/"):
                Path(word).mkdir(parents=True, exist_ok=True)
        _verify(words)


@pytest.mark.parametrize("line", CHEAP)
def test_what_only_looks_runs(line: str, broker_server: EmbeddedServer, client: redis.Redis, checkout: Path) -> None:
    """Each of these stands on some page, and on an empty broker ends with an answer or one sentence."""
    assert any(f"`{line}`" in text or f"{line}\n" in text for text in (page.read_text("utf-8") for page in PAGES))
    done = CliRunner().invoke(fedtide, [*line.split()[1:], "--broker", broker_server.url])
    assert done.exit_code in (0, 2), done.output
    assert done.output.strip()


def _shown() -> Iterator[tuple[Block, str]]:
    """Blocks of one command line whose output the page shows right behind them."""
    for page in PAGES:
        found = list(blocks(page, "sh", "text", "python"))
        for block, after in pairwise(found):
            if (block.language, after.language) == ("sh", "text"):
                yield block, after.text


def _steady(text: str) -> str:
    """The text without what differs from one machine and run to the next: times, memory, threads, torch's build."""
    return re.sub(r"[\d.]+ (m?s|MB at most|threads?)\b|torch \S+", r"\1", text)


@pytest.mark.parametrize(("block", "output"), [pytest.param(*shown, id=str(shown[0])) for shown in _shown()])
def test_shown_output_is_what_comes(block: Block, output: str, checkout: Path) -> None:
    """But for measured times and sizes, line by line."""
    ((program, *words),) = _lines(block)
    done = CliRunner().invoke({"fedtide": fedtide, "fedtide-worker": worker}[program], words)
    assert _steady(done.stdout) == _steady(output)


def test_commands_stand_in_fences() -> None:
    """An indented block has no language, so its commands would go untested."""
    bare = [block for page in PAGES for block in blocks(page, "")]
    assert not [str(block) for block in bare if re.match(r"(\$ )?fedtide(-worker)? ", block.text)]


def test_the_readme_names_the_pages() -> None:
    """Each page of docs/ can be reached from the README or from a page that the README links to."""
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)#\s:]+\.md)", page.read_text(encoding="utf-8"))
        waiting += [(page.parent / target).resolve() for target in links]
    assert not [name_of(page) for page in PAGES if "docs" in page.parts and page not in seen]
