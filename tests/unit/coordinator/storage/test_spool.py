"""Payloads on disk: what was put is got, by this coordinator or the next; files are used again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordinator.storage.spool import Spool
from fl_core.errors import CampaignError


def _get(spool: Spool, name: str, num_bytes: int) -> bytes | None:
    into = bytearray(num_bytes)
    return bytes(into) if spool.get(name, memoryview(into)) else None


def test_a_payload_comes_back_from_its_file(tmp_path: Path) -> None:
    """Also to a coordinator that is started later; another name brings nothing."""
    spool = Spool(tmp_path / "spool")
    spool.put("../1.1.w", b"first")
    spool.put("2.1.w", b"the second")
    assert _get(spool, "../1.1.w", 5) == b"first"
    later = Spool(tmp_path / "spool")
    assert _get(later, "2.1.w", 10) == b"the second"
    assert _get(later, "3.1.w", 5) is None
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["0", "1"]


def test_files_are_used_again_and_none_is_mistaken_for_another(tmp_path: Path) -> None:
    """Sizes may change; a dropped payload is gone, for the next coordinator once its file was used again."""
    spool = Spool(tmp_path / "spool")
    for number in range(20):
        payload = os.urandom(1000 + 100 * (number % 3))
        spool.put(f"{number}.1.w", payload)
        assert _get(spool, f"{number}.1.w", len(payload)) == payload
        spool.drop([f"{number - 1}.1.w", "never there"])
        assert _get(spool, f"{number - 1}.1.w", 5) is None
    assert len(list((tmp_path / "spool").iterdir())) == 2
    later = Spool(tmp_path / "spool")
    assert _get(later, "19.1.w", len(payload)) == payload
    later.keep_only(["19.1.w"])
    assert _get(later, "18.1.w", 5) is None
    later.put("20.1.w", b"x")
    assert len(list((tmp_path / "spool").iterdir())) == 2
    later.remove()
    assert not (tmp_path / "spool").exists()


def test_a_write_that_was_cut_short_does_not_bring_the_payload_back(tmp_path: Path) -> None:
    """The name is written last: half a payload has none."""
    spool = Spool(tmp_path / "spool")
    spool.put("1.1.w", b"a" * 100)
    with (tmp_path / "spool" / "0").open("r+b") as file:
        file.write(b"b" * 50)
        file.truncate(60)
    assert _get(Spool(tmp_path / "spool"), "1.1.w", 100) is None


def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    """The message names the folder."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CampaignError, match="free space or mend it"):
        Spool(tmp_path / "file" / "spool").put("1.1.w", b"x")
