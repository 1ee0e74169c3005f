"""The hooks of pre-commit and `make lint` are the same checks."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_hooks_do_what_make_lint_does() -> None:
    """Each tool with the same command; the hooks call those of .venv and fetch nothing."""
    recipe = (ROOT / "Makefile").read_text().split("\nlint: install\n")[1].split("\n\n")[0]
    made = {re.sub(r" (\.|coordinator/\S+)$", "", line.strip()) for line in recipe.splitlines()}
    document = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (source,) = document["repos"]
    assert source["repo"] == "local"
    assert {hook["language"] for hook in source["hooks"]} == {"system"}
    hooked = {
        hook["entry"].replace(".venv/bin/", "$(BIN)/").replace(" --force-exclude", "") for hook in source["hooks"]
    }
    assert hooked == made
