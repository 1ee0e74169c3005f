"""A file that waits for room: nothing is left out and nothing is doubled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog

from coordinator.storage import patient_file as module
from coordinator.storage.patient_file import PatientFile
from fl_core.errors import CampaignError


class Narrow:
    """A raw file with room for so many bytes more, which writes a part where not all fits."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self.room = file, room

    def write(self, data: bytes | bytearray) -> int:
        if self.room <= 0:
            raise OSError(28, "No space left on device")
        written = self._file.write(bytes(data[: self.room]))
        self.room -= written
        return int(written)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _file(path: Path, room: int) -> tuple[PatientFile, Narrow]:
    file = PatientFile(path, "the history")
    narrow = Narrow(file._file, room)
    file._file = narrow  # type: ignore[assignment]
    return file, narrow


def test_what_has_no_room_waits_and_is_written_in_order(tmp_path: Path) -> None:
    """Said once when it begins and once when it ends; it is not durable meanwhile."""
    file, narrow = _file(tmp_path / "f", 5)
    with structlog.testing.capture_logs() as told:
        for data in (b"abc", b"def", b"ghi"):
            file.append(data)
        assert ((tmp_path / "f").read_bytes(), file.num_bytes) == (b"abcde", 9)
        with pytest.raises(OSError, match="No space"):
            file.sync()
        narrow.room = 100
        file.sync()
    assert (tmp_path / "f").read_bytes() == b"abcdefghi"
    assert [row["log_level"] for row in told] == ["error", "info"]
    file.close()


def test_too_much_that_waits_is_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence: memory is no disk."""
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10)
    file, _ = _file(tmp_path / "f", 0)
    file.append(b"0123456789")
    with pytest.raises(CampaignError, match="11 bytes wait for it"):
        file.append(b"x")


def test_it_goes_on_behind_what_is_there(tmp_path: Path) -> None:
    """Its length counts that."""
    (tmp_path / "f").write_bytes(b"before")
    file = PatientFile(tmp_path / "f", "the history")
    file.append(b"!")
    file.close()
    assert (file.num_bytes, (tmp_path / "f").read_bytes()) == (7, b"before!")
