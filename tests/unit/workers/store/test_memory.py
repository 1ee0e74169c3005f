"""What a device remembers: whole or not at all, over restarts, within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_core.errors import DataError
from fl_core.training.draft import Draft
from workers.store.memory import MAX_CAMPAIGNS, DeviceMemory

VALUES = np.arange(5, dtype=np.float32)


def test_a_vector_survives_the_process(tmp_path: Path) -> None:
    """Another memory of the same campaign finds it to the bit; another campaign's does not."""
    memory = DeviceMemory(tmp_path, "digits-1")
    memory["personal"] = VALUES
    memory["model.0f"] = VALUES * 2
    again = DeviceMemory(tmp_path, "digits-1")
    assert again["personal"].tobytes() == VALUES.tobytes()
    assert (list(again), len(again)) == (["model.0f", "personal"], 2)
    assert "personal" not in DeviceMemory(tmp_path, "digits-2")
    assert list(DeviceMemory(tmp_path, "digits-2")) == []
    del memory["personal"]
    assert "personal" not in again
    with pytest.raises(KeyError):
        del memory["personal"]


def test_a_vector_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that ends in the middle leaves the vector before, and nothing that counts as one."""
    memory = DeviceMemory(tmp_path, "digits-1")
    memory["personal"] = VALUES

    def full(file: object, *_: object, **__: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); give the worker a state"):
            memory["personal"] = VALUES * 2
    assert memory["personal"].tolist() == VALUES.tolist()
    assert list(memory) == ["personal"]
    memory["personal"] = VALUES * 3
    assert memory["personal"].tolist() == (VALUES * 3).tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path: Path, data: st.DataObject) -> None:
    """Cut short, overwritten anywhere, or something else altogether: never an exception of its own, nor a pickle."""
    memory = DeviceMemory(tmp_path, "digits-1")
    memory["personal"] = VALUES
    path = tmp_path / "memory" / "digits-1" / "personal.npy"
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    match data.draw(st.sampled_from(["cut", "changed", "other"])):
        case "cut":
            whole = whole[:place]
        case "changed":
            whole[place : place + 4] = data.draw(st.binary(min_size=1, max_size=4))
        case _:
            whole = bytearray(data.draw(st.sampled_from([b"PK\x03\x04", b"\x80\x04N.", b"", b"\x93NUMPY"])))
            whole += data.draw(st.binary(max_size=40))
    path.write_bytes(whole)
    found = memory.get("personal")
    assert found is None or (found.dtype == np.float32 and found.ndim == 1)


@pytest.mark.parametrize("values", [np.ones((2, 2), np.float32), np.ones(3), np.array([1, 2])])
def test_what_is_no_vector_is_passed_over(tmp_path: Path, values: np.ndarray) -> None:  # type: ignore[type-arg]
    """Another shape or type in the file, of another program, is not handed to a method."""
    memory = DeviceMemory(tmp_path, "digits-1")
    memory["personal"] = VALUES
    np.save(tmp_path / "memory" / "digits-1" / "personal.npy", values)
    assert memory.get("personal") is None


def test_the_campaigns_used_last_are_kept(tmp_path: Path) -> None:
    """The ninth campaign pushes out the one that was written to longest ago."""
    for number in range(MAX_CAMPAIGNS):
        DeviceMemory(tmp_path, f"c-{number}")["personal"] = VALUES
        os.utime(tmp_path / "memory" / f"c-{number}", (number, number))
    DeviceMemory(tmp_path, "c-0")["personal"] = VALUES  # used again
    DeviceMemory(tmp_path, "new")["personal"] = VALUES
    left = {path.name for path in (tmp_path / "memory").iterdir()}
    assert left == {"c-0", *(f"c-{number}" for number in range(2, MAX_CAMPAIGNS)), "new"}


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 129, "ü", "a\n"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    """A method cannot write outside its campaign's folder."""
    memory = DeviceMemory(tmp_path, "digits-1")
    with pytest.raises(DataError, match="a method named a vector"):
        memory[name] = VALUES
    with pytest.raises(DataError, match="a method named a vector"):
        memory.get(name)
    assert not (tmp_path / "memory").exists()


def test_a_bad_day_is_not_remembered(tmp_path: Path) -> None:
    """A task's vectors are kept together, and none of them where one, or what is sent, is not finite; what lies on
    the disk and is not finite is as if it were not there."""
    memory, good, bad = DeviceMemory(tmp_path, "c"), np.ones(3, np.float32), np.array([1, np.nan, 2], np.float32)
    draft = Draft(memory)
    draft["personal"], draft["base"] = good, 2 * good
    assert (draft["personal"].tolist(), list(draft), len(memory)) == ([1.0] * 3, ["base", "personal"], 0)
    assert draft.keep(good)
    for vectors, sent in (({"personal": bad, "base": 3 * good}, good), ({"personal": 4 * good}, bad)):
        draft.update(vectors)
        assert not draft.keep(sent)
        assert [memory[name].tolist() for name in ("personal", "base")] == [[1.0] * 3, [2.0] * 3]
    del draft["base"]
    assert "base" not in draft
    assert draft.keep(good)
    assert list(memory) == ["personal"]
    memory["personal"] = bad
    assert "personal" not in memory
