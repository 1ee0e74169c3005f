"""Names that are taken: one sentence says whose they are, and where the other one lies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fl_core.errors import SpecError
from fl_core.factory import check_import_path, resolve
from fl_core.namesakes import OWN, ROOT, search_ours_first


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched last, as the one beside a spec is."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return tmp_path


def _package(folder: Path, name: str, **modules: str) -> Path:
    (folder / name).mkdir()
    for module, text in {"__init__": "", **modules}.items():
        (folder / name / f"{module}.py").write_text(text)
    return folder / name


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("verify", [check_import_path, resolve])
def test_a_package_called_like_one_of_ours_is_named(beside: Path, name: str, verify: object) -> None:
    """Never "No module named 'workers.nets'; install it", whether a folder or a file has the name."""
    assert callable(verify)
    theirs = _package(beside, name, nets="def make(): ...")
    said = (
        f"is a package of fedtide's own, and has no such module; yours at {theirs} cannot have that name, so rename it."
    )
    for path in (f"{name}.nets:make", f"{name}:make"):
        with pytest.raises(SpecError) as caught:
            verify(path, "model.factory")
        assert str(caught.value) == f"model.factory = {path!r}: {name!r} {said}"


def test_a_file_called_like_one_of_ours_is_named(beside: Path) -> None:
    """Beside a spec as well as a folder."""
    (beside / "workers.py").write_text("def make(): ...")
    with pytest.raises(SpecError, match=rf"yours at {beside}/workers\.py cannot have that name"):
        check_import_path("workers:make", "data")


def test_a_wrong_name_of_ours_is_no_clash() -> None:
    """What we have is found; what we have not is a slip of the pen."""
    check_import_path("fl_core.models:mlp", "model.factory")
    with pytest.raises(
        SpecError, match=r"'fl_core' is a package of fedtide's own, and has no such module; mend the name\."
    ):
        check_import_path("fl_core.modles:mlp", "model.factory")


def test_what_a_module_imports_is_named_too(beside: Path) -> None:
    """A module of the user's that imports from its neighbour, where the neighbour is hidden."""
    theirs = _package(beside, "workers", nets="def make(): ...")
    (beside / "model_beside.py").write_text("from workers.nets import make")
    with pytest.raises(SpecError) as caught:
        resolve("model_beside:make", "model.factory")
    assert str(caught.value) == (
        "model.factory = 'model_beside:make': No module named 'workers.nets'; "
        f"'workers' is {ROOT / 'workers'} here, which hides yours at {theirs}; rename yours."
    )


def test_any_installed_package_may_hide_one(beside: Path) -> None:
    """The same for names that are not ours."""
    theirs = _package(beside, "tomli_w", data="def load(): ...")
    with pytest.raises(SpecError, match=rf"'tomli_w' is \S+ here, which hides yours at {theirs}; rename yours\."):
        resolve("tomli_w.data:load", "data")
    for name, where in (("queue", r"\S+queue\.py here"), ("time", "built into Python")):
        (beside / f"{name}.py").write_text("def load(): ...")
        why = rf"no callable 'load'; '{name}' is {where}, which hides yours at {beside}/{name}"
        with pytest.raises(SpecError, match=why):
            resolve(f"{name}:load", "data")


def test_what_is_nowhere_has_to_be_installed() -> None:
    """No namesake, no word of one."""
    with pytest.raises(SpecError, match=r"No module named 'json\.nets'.*; install it on this machine\."):
        resolve("json.nets:make", "model.factory")


def test_folders_with_namesakes_are_searched_after_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory too; all others keep their place, and none is lost."""
    plain, theirs, here = (tmp_path / name for name in ("plain", "theirs", "here"))
    for folder in (plain, theirs, here):
        folder.mkdir()
    _package(theirs, "workers")
    (plain / "workers").mkdir()  # no package: Python takes ours wherever it lies
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [str(here), str(theirs), str(plain), str(ROOT), "/last"])
    search_ours_first()
    assert sys.path == [str(plain), str(ROOT), "/last", str(here), str(theirs)]
    monkeypatch.setattr(sys, "path", ["", str(theirs)])
    search_ours_first()
    assert sys.path == [str(ROOT), "", str(theirs)]
