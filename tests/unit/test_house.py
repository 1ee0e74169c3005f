"""The house is as docs/architecture.md draws it, and no room is overfull."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from tests.sizes import LONG_FILE, files

ROOT = Path(__file__).parents[2]
MAX_FILES = 16
PACKAGES = ("fedtide", "coordinator", "fl_core", "workers", "keepers")
ROOMS = sorted({path.parent for name in PACKAGES for path in (ROOT / name).rglob("*.py")})


def _drawn() -> set[Path]:
    """The folders of the drawing: those at its left edge, and those that stand indented below one."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("## The house")[1]
    above: list[tuple[int, Path]] = []
    drawn = set()
    for line in text.split("```")[1].splitlines():
        indent = len(line) - len(line.lstrip())
        above = [(level, folder) for level, folder in above if level < indent]
        inside = above[-1][1] if above else ROOT
        names = [word for word in line.split("  ") if word.strip().endswith("/")]
        for name in names:
            drawn.add(inside / name.strip().rstrip("/"))
        drawn |= {ROOT / "fl_core" / word.rstrip("/") for word in line.split() if word.count("/") == 2}
        if names:
            above.append((indent, inside / names[0].strip().rstrip("/")))
    return drawn


def test_the_page_draws_every_room() -> None:
    """And no room that is not there."""
    assert _drawn() == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_says_what_it_is_for(room: Path) -> None:
    """In the first sentence of its ``__init__``; and it holds so many files that one finds one's way."""
    text = (room / "__init__.py").read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert len(list(room.glob("*.py"))) <= MAX_FILES


def test_files_stay_short() -> None:
    """The median, and the few that are longer than a file of one idea should be; `python -m tests.sizes` names them."""
    lengths = files()
    long = {path: lines for path, lines in lengths.items() if lines > LONG_FILE}
    assert median(lengths.values()) < 150
    assert len(long) <= 5, long


# Modules of `coordinator/` that have no file of tests of their own, and why.
WITHOUT_A_FILE = {
    "campaign/effects": "values", "campaign/identity": "values", "launch/options": "values", "loop/parts": "values",
    "loop/evaluation/scoring": "an interface", "outgoing/cadence": "values", "outgoing/context": "values",
    "report/palette": "values",
    "launch/assemble": "programs: tests/integration/test_campaign.py",
    "loop/ending": "programs: tests/integration/test_ending.py",
    "launch/wiring": "the whole loop: tests/unit/coordinator/loop/led.py",
    "enrolment/devices": "a server's users: tests/integration/test_enrolment.py",
    "enrolment/servers": "a server's users: tests/integration/test_enrolment.py",
    "cli/enrolment": "programs: tests/integration/test_tls.py",
    "monitor/answers": "test_web.py", "monitor/guard": "test_settings.py", "monitor/tokens": "test_login.py",
}  # fmt: skip


def test_tests_mirror_the_coordinator() -> None:
    """Each module has its file of tests at the same place, but for those above; and none of those has one by now."""
    without = set()
    for path in (ROOT / "coordinator").rglob("*.py"):
        place = path.relative_to(ROOT / "coordinator")
        if (
            not path.stem.startswith("__")
            and not (ROOT / "tests/unit/coordinator" / place.with_name(f"test_{place.name}")).exists()
        ):
            without.add(place.with_suffix("").as_posix())
    assert without == set(WITHOUT_A_FILE)
