"""Python that the documents show is executed: a page's blocks in order, in one namespace, as a reader types them."""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import fedtide
from fl_core.broker.server.embedded import EmbeddedServer
from tests.docs.pages import PAGES, ROOT, Block, blocks, name_of
from tests.docs.stand_ins import put_up_a_campaign, run_without_processes

INSIDE = {"fl_core", "coordinator", "workers", "keepers"}
WITH_CODE = [page for page in PAGES if any(blocks(page, "python"))]
# Runs that pages open, by the example that makes them.
RUNS = {"attention-20261121-101500": "attention", "moons-20261121-101500": "own_code"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a short run of each example that pages open a run of, without its pictures."""
    folder, run, kept = tmp_path_factory.mktemp("runs"), run_without_processes(), []
    with pytest.MonkeyPatch.context() as patch:
        for name, example in RUNS.items():
            path = ROOT / "examples" / example
            patch.syspath_prepend(path)
            spec = tomllib.loads((path / "campaign.toml").read_text(encoding="utf-8"))
            spec["evaluation"].pop("show", None)
            kept.append(run(spec, fleet=path / "fleet.toml"))
            (folder / name).symlink_to(kept[-1].folder)
        yield folder


@pytest.fixture
def reader(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker_server: EmbeddedServer, client: redis.Redis
) -> dict[str, Any]:
    """A namespace, in a folder with the examples and runs of them, beside a broker with one campaign."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "runs").symlink_to(runs)
    monkeypatch.syspath_prepend(ROOT / "examples/own_code")
    connect = fedtide.connect
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fedtide, "run", run_without_processes())
    monkeypatch.setattr(fedtide, "connect", lambda broker: connect(broker_server.url))
    monkeypatch.setattr("fedtide.operate.time.sleep", put_up_a_campaign(client, "digits-1"))
    return {"__name__": "page"}


def _shown(page: Path) -> Iterator[tuple[Block, str | None]]:
    """Each Python block with the output that the page shows behind it, in a block of ``text``."""
    found = list(blocks(page, "python", "text"))
    for block, after in zip(found, [*found[1:], None], strict=True):
        if block.language == "python":
            yield block, after.text if after is not None and after.language == "text" else None


def _run(block: Block, namespace: dict[str, Any]) -> str:
    """Execute a block, or the session that it shows.

    Returns:
        What it printed.
    """
    if ">>> " in block.text:
        session = doctest.DocTestParser().get_doctest(
            block.text, namespace, str(block), name_of(block.page), block.line
        )
        doctest.DebugRunner(optionflags=doctest.ELLIPSIS).run(session, clear_globs=False)
        namespace.update(session.globs)
        return ""
    code = compile("\n" * (block.line - 1) + block.text, block.page, "exec")  # so that errors name the page's line
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, namespace)
    return printed.getvalue()


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_code_runs(page: Path, reader: dict[str, Any]) -> None:
    """As it stands; what a page shows as its output is what it prints."""
    for block, output in _shown(page):
        printed = _run(block, reader)
        assert output is None or printed == output, f"{block} prints {printed!r}"


def _imported(code: str) -> set[str]:
    """The packages that some code imports."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name.partition(".")[0] for name in found}


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_pages_need_the_front_door_alone(page: Path) -> None:
    """Of fedtide, what a reader imports is ``fedtide``."""
    for block in blocks(page, "python"):
        if ">>> " not in block.text:
            assert not _imported(block.text) & INSIDE, block


EXAMPLES = sorted(ROOT.glob("examples/**/*.py"))


@pytest.mark.parametrize("file", EXAMPLES, ids=name_of)
def test_examples_need_the_front_door_alone(file: Path) -> None:
    """Of fedtide, what an example's code imports is ``fedtide``."""
    assert not _imported(file.read_text(encoding="utf-8")) & INSIDE
