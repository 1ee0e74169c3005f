"""Places of checkpoints, on a disk and behind fsspec: a file is there whole, or not at all."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from coordinator.storage.checkpoint_files import LocalFiles, RemoteFiles
from fl_core.errors import CampaignError


@pytest.fixture(params=["folder", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> LocalFiles | RemoteFiles:
    """A folder that does not exist yet."""
    if request.param == "folder":
        return LocalFiles(tmp_path / "deep" / "checkpoint")
    return RemoteFiles(f"memory://{uuid.uuid4().hex}/campaign")


def _put(files: LocalFiles | RemoteFiles, name: str, *parts: bytes) -> None:
    files.keep(name, files.stage(name, parts))


def test_a_staged_file_is_there_when_it_is_kept(files: LocalFiles | RemoteFiles) -> None:
    """All of its parts, and not before; written again it is replaced."""
    assert files.names() == []
    staged = files.stage("a", [b"one", memoryview(b"two")])
    assert "a" not in files.names()
    files.keep("a", staged)
    assert (files.names(), files.read("a")) == (["a"], b"onetwo")
    _put(files, "a", b"three")
    with files.open("a") as file:
        assert (file.read(2), file.read()) == (b"th", b"ree")


def test_what_is_removed_is_gone_and_what_is_not_there_does_no_harm(files: LocalFiles | RemoteFiles) -> None:
    """A file that another program has removed meanwhile is no fault."""
    _put(files, "a", b"1")
    _put(files, "b", b"2")
    files.remove("a")
    files.remove("a")
    assert files.names() == ["b"]


def test_nobody_else_reads_what_is_on_disk(tmp_path: Path) -> None:
    """It has the campaign's secret: for its owner only, whatever the umask says, and while it is written as well."""
    files, before = LocalFiles(tmp_path), os.umask(0)
    try:
        files.keep("a", files.stage("a", [b"1"]))
        files.stage("b", [b"2"]).close()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"a": 0o600, ".b.partial": 0o600}


class _Full(Sequence[bytes]):
    """Two parts, of which only the first has room."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override]
        raise NotImplementedError

    def __iter__(self) -> Iterator[bytes]:
        yield b"first"
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_rid_of_what_did_not_fit(tmp_path: Path) -> None:
    """What is there already stays."""
    files = LocalFiles(tmp_path)
    _put(files, "a", b"whole")
    with pytest.raises(OSError, match="No space"):
        files.stage("a", _Full())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert files.read("a") == b"whole"


def test_an_unknown_file_system_is_a_sentence() -> None:
    """When the store is made, and not at the first checkpoint."""
    with pytest.raises(CampaignError, match="checkpoints cannot go to 'nosuchfs://a/b'"):
        RemoteFiles("nosuchfs://a/b")
