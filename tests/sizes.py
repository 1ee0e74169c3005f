"""How large the files and functions of the packages are: ``python -m tests.sizes`` prints the distribution."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[1]
PACKAGES = ("coordinator", "fedtide", "fl_core", "keepers", "workers")
LONG_FILE = 300
MANY_ARGUMENTS = 8


@dataclass(frozen=True)
class Function:
    """A function or method: where it stands, its lines with its docstring, its parameters but for self and cls."""

    place: str
    lines: int
    arguments: int


def files() -> dict[str, int]:
    """The lines of each module, by its path."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}


def functions() -> Iterator[Function]:
    """Every function and method, nested ones too."""
    for path in files():
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args
                names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
                names += [each.arg for each in (given.vararg, given.kwarg) if each is not None]
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                arguments = len(names) - (names[:1] in (["self"], ["cls"]))
                yield Function(f"{path}:{node.lineno} {node.name}", lines, arguments)


def main() -> None:
    """Print it."""
    by_path, every = files(), list(functions())
    lengths, depths = list(by_path.values()), [each.lines for each in every]
    long = sorted((path for path in by_path if by_path[path] > LONG_FILE), key=lambda path: -by_path[path])
    many = sorted((each for each in every if each.arguments >= MANY_ARGUMENTS), key=lambda each: -each.arguments)
    folder, most = Counter(str(Path(path).parent) for path in by_path).most_common(1)[0]
    print(f"files      {len(lengths)}, {sum(lengths)} lines")
    print(
        f"           median {median(lengths):.0f}, p90 {quantiles(lengths, n=10)[-1]:.0f}, longest {max(lengths)} lines"
    )
    print(f"           {len(long)} of more than {LONG_FILE} lines")
    print(*(f"             {by_path[path]:4} {path}" for path in long), sep="\n")
    print(f"folders    the fullest is {folder} with {most} files")
    print(f"functions  {len(depths)}")
    print(f"           median {median(depths):.0f}, p95 {quantiles(depths, n=20)[-1]:.0f}, longest {max(depths)} lines")
    print(f"           {len(many)} of {MANY_ARGUMENTS} arguments or more")
    print(*(f"             {each.arguments:4} {each.place}" for each in many), sep="\n")


if __name__ == "__main__":
    main()
