"""The outbox: an update that could not be delivered outlives the worker that made it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import RejectedUpdate
from fl_core.wire.messages import ModelUpdate
from workers.store.outbox import Outbox

UPDATE = ModelUpdate(
    campaign="digits-1",
    task_id="1-abc",
    attempt=1,
    worker="pi",
    base_version=3,
    num_examples=10,
    sends="delta",
    codec="fp32",
    layout_digest="a" * 32,
    payload_bytes=0,
    payload_digest="b" * 32,
    blob="",
    num_chunks=0,
    bytes_down=0,
    metrics={"loss": 0.5},
    seconds={"train": 1.0},
)


def _update(payload: bytes, **changes: object) -> ModelUpdate:
    return replace(UPDATE, payload_bytes=len(payload), **changes)


@given(st.binary(max_size=2000))
def test_an_update_survives_a_restart(tmp_path_factory: pytest.TempPathFactory, payload: bytes) -> None:
    """What one life of a worker keeps, the next one finds: header and payload to the byte."""
    folder = tmp_path_factory.mktemp("state")
    path = Outbox(folder).put(_update(payload), memoryview(payload))
    assert list(Outbox(folder)) == [(path, _update(payload), payload)]
    path.unlink()
    assert list(Outbox(folder)) == []


def test_a_worker_without_a_past_has_nothing_to_deliver(tmp_path: Path) -> None:
    """The folder is not needed before the first update is kept."""
    assert list(Outbox(tmp_path / "never" / "made")) == []
    assert not (tmp_path / "never").exists()


def test_the_oldest_comes_first(tmp_path: Path) -> None:
    """Updates are delivered in the order in which they were finished, whatever their names."""
    outbox = Outbox(tmp_path)
    paths = [outbox.put(_update(b"x", task_id=f"{number}-a"), b"x") for number in (9, 1, 5)]
    for age, path in enumerate(paths):
        os.utime(path, ns=(10**18 + age, 10**18 + age))
    assert [update.task_id for _, update, _ in outbox] == ["9-a", "1-a", "5-a"]


def test_the_same_update_is_kept_once(tmp_path: Path) -> None:
    """Keeping it again replaces it; another attempt, task or campaign has a file of its own."""
    outbox = Outbox(tmp_path)
    outbox.put(_update(b"old"), b"old")
    outbox.put(_update(b"newer"), b"newer")
    for changes in ({"attempt": 2}, {"task_id": "2-abc"}, {"campaign": "digits-2"}):
        outbox.put(_update(b"y", **changes), b"y")
    assert sorted(payload for _, _, payload in outbox) == [b"newer", b"y", b"y", b"y"]


def _damages(data: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "another kind of file": b"GIF89a" + data[6:],
        "cut in the magic": data[:5],
        "cut in the length": data[:12],
        "cut in the header": data[:60],
        "cut in the payload": data[:-1],
        "one byte more": data + b"\0",
        "a huge header length": data[:8] + b"\xff" * 8 + data[16:],
        "zeros": bytes(len(data)),
        "a flipped bit in the header": data[:20] + bytes([data[20] ^ 255]) + data[21:],
    }


@pytest.mark.parametrize("how", list(_damages(bytes(100))))
def test_a_damaged_file_is_set_aside(tmp_path: Path, how: str) -> None:
    """A file that a crash or a bad disk has damaged is renamed, not delivered, not lost, and stops no other."""
    outbox = Outbox(tmp_path)
    path = outbox.put(_update(b"12345678"), b"12345678")
    good = outbox.put(_update(b"good", task_id="2-abc"), b"good")
    path.write_bytes(_damages(path.read_bytes())[how])
    assert [found for found, _, _ in outbox] == [good]
    assert not path.exists()
    assert path.with_suffix(".damaged").exists()
    assert [found for found, _, _ in outbox] == [good]


def test_a_half_written_file_is_never_seen(tmp_path: Path) -> None:
    """A crash in the middle of keeping leaves a partial file, which is no update."""
    outbox = Outbox(tmp_path)
    path = outbox.put(_update(b"12345678"), b"12345678")
    path.rename(path.with_suffix(".partial"))
    assert list(outbox) == []


def test_a_file_that_is_delivered_meanwhile_is_passed_over(tmp_path: Path) -> None:
    """Two processes of one worker deliver from one outbox: what the other one was faster with is no error."""
    outbox = Outbox(tmp_path)
    for number in range(3):
        outbox.put(_update(b"x", task_id=f"{number}-a"), b"x")
    seen = []
    for path, update, _ in outbox:
        seen.append(update.task_id)
        for other in path.parent.iterdir():
            other.unlink()
    assert len(seen) == 1


def test_an_update_that_no_reader_takes_is_not_kept(tmp_path: Path) -> None:
    """What could never be delivered raises where it was made, and leaves no file."""
    with pytest.raises(RejectedUpdate):
        Outbox(tmp_path).put(_update(b"x", attempt=0), b"x")
    assert list(Outbox(tmp_path)) == []


def test_a_folder_that_cannot_be_written_raises(tmp_path: Path) -> None:
    """The caller learns that nothing was kept."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        Outbox(tmp_path / "file").put(_update(b"x"), b"x")
