"""Checkpoints: whatever happens to one while it is written or later, a whole one is loaded, or the loss is told."""

from __future__ import annotations

import os
import stat
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.launch.assemble import without_credentials
from coordinator.storage.checkpoint import CheckpointStore
from fl_core.aggregation.whole_model import CONSTANTS
from fl_core.errors import CampaignError, SpecError
from fl_core.spec import parse_spec, to_toml

META: dict[str, Any] = {
    "position": "5-0",
    "counts": [[1, 2], [3, 4]],
    "secret": b"\x00\xff",
    "accuracy": None,
    "x": 0.1,
}


def _tensors(value: float) -> dict[str, Any]:
    return {
        "parameters": np.full(100, value, np.float32),
        "server_optimizer.first": np.arange(6, dtype=np.float64).reshape(2, 3) * value,
        "empty": np.zeros((0, 3), np.float32),
        "count": np.array(int(value), np.int64),
    }


def _save(store: CheckpointStore, value: float, fence: int = 1) -> None:
    store.save(fence, _tensors(value), {**META, "value": value})


def _value(store: CheckpointStore) -> float | None:
    loaded = store.load()
    if loaded is None:
        return None
    tensors, meta = loaded
    expected = _tensors(meta["value"])
    assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in tensors.items()} == {
        name: (a.dtype, a.shape, a.tobytes()) for name, a in expected.items()
    }
    assert meta == {**META, "value": meta["value"]}
    return float(meta["value"])


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointStore]:
    """A store in a folder that does not exist yet, and one behind fsspec."""
    yield CheckpointStore(str(tmp_path / "deep" / "checkpoint") if request.param == "folder" else _memory_url())


def _memory_url() -> str:
    return f"memory://{uuid.uuid4().hex}/campaign"


# -- both kinds of store -------------------------------------------------------------------------------------------


def test_an_empty_store_has_nothing(store: CheckpointStore) -> None:
    """A campaign that never saved is told apart from one whose checkpoints are lost."""
    assert store.load() is None
    assert store.highest_fence() == 0


def test_what_was_saved_last_is_loaded(store: CheckpointStore) -> None:
    """Arrays come back to the bit with dtype and shape, plain values with their types, and the newest wins."""
    for value in (1.0, 2.0, 3.0):
        _save(store, value)
        assert _value(store) == value
    assert store.highest_fence() == 1


def test_a_lower_fence_never_outranks_a_higher(store: CheckpointStore) -> None:
    """A coordinator that lost its lease and wakes up in the middle of a save does not bring the old state back."""
    _save(store, 1.0, fence=7)
    _save(store, 2.0, fence=12)
    for value in (30.0, 31.0, 32.0, 33.0):
        _save(store, value, fence=7)
        assert _value(store) == 2.0
    assert store.highest_fence() == 12
    _save(store, 4.0, fence=12)
    assert _value(store) == 4.0


def test_fences_are_numbers_not_text(store: CheckpointStore) -> None:
    """Fence 1 000 000 outranks 999 999, and the hundred-millionth checkpoint the one before."""
    _save(store, 1.0, fence=999_999)
    _save(store, 2.0, fence=1_000_000)
    assert _value(store) == 2.0


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    """Whatever else lies in the folder is neither read as a checkpoint nor removed."""
    for name in ("notes.txt", "state-1.msgpack", "state-000001-00000009.safetensors", ".state-000001-00000009.partial"):
        (tmp_path / name).write_text("mine")
    store = CheckpointStore(str(tmp_path))
    assert store.load() is None
    for value in (1.0, 2.0, 3.0):
        _save(store, value)
    assert (tmp_path / "notes.txt").read_text() == (tmp_path / "state-1.msgpack").read_text() == "mine"
    assert _value(store) == 3.0


# -- on a disk -----------------------------------------------------------------------------------------------------


def test_two_are_kept(tmp_path: Path) -> None:
    """After any number of saves the folder holds the last two, each as two files, and nothing half-written."""
    store = CheckpointStore(str(tmp_path))
    for number in range(1, 6):
        _save(store, float(number))
    assert _files(tmp_path) == [
        "state-000001-00000004.msgpack",
        "state-000001-00000004.safetensors",
        "state-000001-00000005.msgpack",
        "state-000001-00000005.safetensors",
    ]


def test_two_are_kept_over_a_change_of_coordinator(tmp_path: Path) -> None:
    """The successor keeps its predecessor's last checkpoint until it has two of its own."""
    store = CheckpointStore(str(tmp_path))
    for value, fence in ((1.0, 1), (2.0, 1), (3.0, 2)):
        _save(store, value, fence)
    assert [name for name in _files(tmp_path) if name.endswith("msgpack")] == [
        "state-000001-00000002.msgpack",
        "state-000002-00000001.msgpack",
    ]
    _save(store, 4.0, 2)
    assert [name for name in _files(tmp_path) if name.endswith("msgpack")] == [
        "state-000002-00000001.msgpack",
        "state-000002-00000002.msgpack",
    ]


def test_nobody_else_reads_a_checkpoint(tmp_path: Path) -> None:
    """The state holds the campaign's secret: its files are for their owner only, whatever the umask says."""
    before = os.umask(0)
    try:
        _save(CheckpointStore(str(tmp_path / "checkpoint")), 1.0)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "checkpoint").iterdir()}
    assert modes == {0o600}


def _damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    match how:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(data[: len(data) // 2])
        case "one byte short":
            path.write_bytes(data[:-1])
        case "zeros":
            path.write_bytes(bytes(len(data)))
        case "one bit":
            path.write_bytes(data[:-9] + bytes([data[-9] ^ 4]) + data[-8:])
        case "rubbish":
            path.write_bytes(b"\xc1" * len(data))


WAYS = ["gone", "empty", "half", "one byte short", "zeros", "one bit", "rubbish"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("suffix", ["safetensors", "msgpack"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, how: str, suffix: str) -> None:
    """A crash between or within the two files, or a damage later, falls back to the checkpoint before."""
    store = CheckpointStore(str(tmp_path))
    _save(store, 1.0)
    _save(store, 2.0)
    _damage(tmp_path / f"state-000001-00000002.{suffix}", how)
    assert _value(store) == 1.0
    _save(store, 3.0)
    assert _value(store) == 3.0


@pytest.mark.parametrize("how", [way for way in WAYS if way != "gone"])
@pytest.mark.parametrize("suffix", ["safetensors", "msgpack"])
def test_when_every_checkpoint_is_damaged_the_operator_is_told(tmp_path: Path, how: str, suffix: str) -> None:
    """Nothing is started from version 0 behind the operator's back: the error names each checkpoint and its damage."""
    store = CheckpointStore(str(tmp_path))
    _save(store, 1.0)
    _save(store, 2.0)
    for number in (1, 2):
        _damage(tmp_path / f"state-000001-0000000{number}.{suffix}", how)
    with pytest.raises(CampaignError, match=r"no checkpoint in .* is whole") as caught:
        store.load()
    assert "state-000001-00000001" in str(caught.value)
    assert "state-000001-00000002" in str(caught.value)
    _save(store, 3.0)
    assert _value(store) == 3.0


@given(st.sampled_from(["safetensors", "msgpack"]), st.integers(0, 10**6), st.integers(0, 7))
def test_no_flipped_bit_is_ever_loaded(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, place: int, bit: int
) -> None:
    """Any single bit of either file may flip: the state that is loaded is the one before, never a damaged one."""
    folder = tmp_path_factory.mktemp("checkpoint")
    store = CheckpointStore(str(folder))
    _save(store, 1.0)
    _save(store, 2.0)
    path = folder / f"state-000001-00000002.{suffix}"
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        assert _value(store) == 1.0
    except CampaignError as error:
        assert "has format" in str(error)  # the one byte that says which program can read it


def test_a_checkpoint_of_a_newer_program_is_not_passed_over(tmp_path: Path) -> None:
    """Going back to the checkpoint before would lose work: the operator is told to use the newer program."""
    import msgpack

    store = CheckpointStore(str(tmp_path))
    _save(store, 1.0)
    _save(store, 2.0)
    path = tmp_path / "state-000001-00000002.msgpack"
    path.write_bytes(msgpack.packb({**msgpack.unpackb(path.read_bytes()), "format": 3}))
    with pytest.raises(
        CampaignError, match="has format 3, this program reads 1 and 2; use the version of fedtide that wrote"
    ):
        store.load()


def test_constants_are_written_once(tmp_path: Path) -> None:
    """A frozen base is in one file that every checkpoint names; without it none is whole."""
    store, base = CheckpointStore(str(tmp_path)), np.arange(1000, dtype=np.float32)
    for value in (1.0, 2.0, 3.0):
        store.save(1, {**_tensors(value), CONSTANTS: base}, META)
    [file] = [path for path in tmp_path.iterdir() if path.name.startswith("constants-")]
    assert file.stat().st_size > base.nbytes > sum(path.stat().st_size for path in tmp_path.glob("state-*"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    tensors, _ = store.load() or ({}, {})
    assert tensors[CONSTANTS].tobytes() == base.tobytes()
    assert tensors["parameters"].tobytes() == _tensors(3.0)["parameters"].tobytes()
    file.write_bytes(file.read_bytes()[:-4] + b"else")
    with pytest.raises(CampaignError, match=r"no checkpoint in .* is whole"):
        store.load()


def test_a_checkpoint_of_the_release_before_is_read(tmp_path: Path) -> None:
    """Format 1 had everything in the two files."""
    import msgpack

    store = CheckpointStore(str(tmp_path))
    _save(store, 1.0)
    path = tmp_path / "state-000001-00000001.msgpack"
    path.write_bytes(msgpack.packb({**msgpack.unpackb(path.read_bytes()), "format": 1}))
    assert _value(store) == 1.0


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A disk that is full or read-only is the operator's: one sentence with the place."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CampaignError, match=r"the checkpoint cannot be written to .*file.*; free space or mend it\."):
        _save(CheckpointStore(str(tmp_path / "file" / "checkpoint")), 1.0)


def test_a_url_from_which_the_password_was_left_out_is_refused() -> None:
    """As it stands in a run's folder: the sentence says where the whole one goes."""
    spec = parse_spec({"model": {"factory": "a:b"}, "checkpoint": {"url": "s3://me:pass@host/bucket"}})
    kept = parse_spec(tomllib.loads(to_toml(without_credentials(spec))))
    assert kept.checkpoint.url == "s3://me:***@host/bucket"
    with pytest.raises(SpecError, match="give it whole in FEDTIDE_CHECKPOINT_URL"):
        CheckpointStore(kept.checkpoint.url)
