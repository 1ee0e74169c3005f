"""A file is there whole, or as it was before."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fl_core.program.whole_file import whole_file


@pytest.mark.parametrize("durable", [False, True])
def test_readers_see_the_old_content_until_all_of_the_new_one_is_there(tmp_path: Path, durable: bool) -> None:
    """The name changes hands when the block ends."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with whole_file(path, durable=durable) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    """The old content stays, and no other file."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_its_owners_from_the_first_byte(tmp_path: Path) -> None:
    """Also where a program that was killed has left an open one half written, or the name was open before."""
    path, partial = tmp_path / "a", tmp_path / ".a.partial"
    for left in (path, partial):
        left.write_bytes(b"left")
        left.chmod(0o666)
    with whole_file(path, private=True) as file:
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
        file.write(b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)


def test_a_disk_that_is_full_is_told(tmp_path: Path) -> None:
    """Also where only the last bytes do not fit, which wait in a buffer."""
    path = tmp_path / "a"
    (tmp_path / ".a.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"), whole_file(path) as file:
        file.write(b"x")
    assert not path.exists()
