"""Checkpoints: a campaign's state on disk (or on any fsspec file system), written so that a crash leaves one whole.

A checkpoint is two files: ``state-<fence>-<n>.safetensors`` with the arrays, then ``state-<fence>-<n>.msgpack`` with
everything else and the digest of both. The second one is the commit: a checkpoint without it does not exist. The one
before is kept. What never changes, a model's constants, is in a file of its own that each checkpoint names,
``constants-<digest>.safetensors``, and is written once.

Arrays are written from where they lie, without a copy in memory, which belongs between two merges; making them durable
can go on beside. ``fence`` is the writer's fencing token: a coordinator that lost its lease and wakes up in the middle
of a save writes under its old fence, which its successor's checkpoints outrank.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import numpy as np
import numpy.typing as npt
import xxhash

from coordinator.storage.checkpoint_files import LocalFiles, RemoteFiles
from coordinator.storage.tensor_file import Arrays, read_tensor_file, tensor_file_parts
from fl_core.aggregation.whole_model import CONSTANTS
from fl_core.errors import CampaignError, SpecError
from fl_core.program.crash_points import crash_point
from fl_core.program.redaction import MASK

FORMAT_VERSION = 2
READABLE = (1, 2)
"""1 had the constants in each checkpoint."""
KEPT = 2


@dataclass(frozen=True, slots=True)
class Begun:
    """A checkpoint that does not exist yet: its arrays in a file under another name, and the record that commits it."""

    number: tuple[int, int]
    arrays: BinaryIO
    record: bytes


class CheckpointStore:
    """The checkpoints of one campaign in one folder.

    Args:
        url: a folder, or an fsspec URL such as ``s3://bucket/campaign`` (its file system has to be installed).

    Attributes:
        files: the folder's.
        damaged: what is wrong with checkpoints that are newer than the one that :meth:`load` gave.

    Raises:
        SpecError: the URL's password was left out.
    """

    def __init__(self, url: str) -> None:
        if f":{MASK}@" in url or f"={MASK}" in url:
            raise SpecError(
                f"checkpoint.url = {url!r} is as a run's folder keeps it, without its password; give it whole in "
                "FEDTIDE_CHECKPOINT_URL or with --checkpoint-url."
            )
        self.files: LocalFiles | RemoteFiles = RemoteFiles(url) if "://" in url else LocalFiles(Path(url))
        self._url = url
        self._damaged: set[tuple[int, int]] = set()
        self.damaged: tuple[str, ...] = ()

    def save(self, fence: int, tensors: Arrays, meta: Mapping[str, Any]) -> None:
        """Make the state durable.

        Raises:
            CampaignError: the folder cannot be written.
        """
        self.finish(self.begin(fence, tensors, meta))

    def begin(self, fence: int, tensors: Arrays, meta: Mapping[str, Any]) -> Begun:
        """Write the state down, not yet durable; when this returns, the arrays may change.

        Raises:
            CampaignError: the folder cannot be written.
        """
        packed = msgpack.packb(dict(meta))
        record = {"format": FORMAT_VERSION, "digest": _digest(tensors, packed), "meta": packed}
        constants = {name: array for name, array in tensors.items() if name == CONSTANTS and array.size}
        with self._writing():
            if constants:
                record["constants"] = name = f"constants-{_digest(constants, b'')}.safetensors"
                if name not in self.files.names():
                    self.files.keep(name, self.files.stage(name, tensor_file_parts(constants)))
                tensors = {name: array for name, array in tensors.items() if name not in constants}
            number = (fence, max((n for f, n in self._numbers() if f == fence), default=0) + 1)
            arrays = self.files.stage(f"{_name(number)}.safetensors", tensor_file_parts(tensors))
        return Begun(number, arrays, msgpack.packb(record))

    def finish(self, begun: Begun) -> None:
        """Make what was begun durable.

        Raises:
            CampaignError: the folder cannot be written.
        """
        with self._writing():
            number = begun.number
            before = sorted(n for n in self._numbers() if n < number)
            # A damaged one is none that could be gone back to, and is not counted as one.
            earlier = [n for n in before if n not in self._damaged]
            self.files.keep(f"{_name(number)}.safetensors", begun.arrays)
            crash_point("mid_checkpoint")
            commit = f"{_name(number)}.msgpack"
            self.files.keep(commit, self.files.stage(commit, [begun.record]))
            for old in [*earlier[: -(KEPT - 1)], *self._damaged.intersection(before)]:
                # The commit goes first: a crash in between leaves arrays without meaning, not a broken checkpoint.
                self.files.remove(f"{_name(old)}.msgpack")
                self.files.remove(f"{_name(old)}.safetensors")
            self._remove_unfinished(number)

    def _remove_unfinished(self, number: tuple[int, int]) -> None:
        """What writers that died left behind: arrays without a commit, and files under another name."""
        names = set(self.files.names())
        for name in names:
            match = re.fullmatch(r"(\.?)(state-(\d+)-(\d+))\.(?:safetensors|msgpack)(?:\.partial)?", name)
            if match is None or (int(match[3]), int(match[4])) >= number:
                continue
            if match[1] or f"{match[2]}.msgpack" not in names:
                self.files.remove(name)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CampaignError(
                f"the checkpoint cannot be written to {self._url} ({error}); free space or mend it."
            ) from error

    def drop_earlier(self) -> None:
        """Remove all but the newest: they hold what nobody may have any more."""
        for number in sorted(self._numbers())[:-1]:
            self.files.remove(f"{_name(number)}.msgpack")
            self.files.remove(f"{_name(number)}.safetensors")

    def highest_fence(self) -> int:
        """The highest fencing token that has saved here; 0 if none has."""
        return max((fence for fence, _ in self._numbers()), default=0)

    def load(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]] | None:
        """The newest whole checkpoint; None if there never was one. What was passed over is in ``damaged``.

        Raises:
            CampaignError: there are some, but each of them is damaged.
        """
        problems, damaged = [], set()
        for number in sorted(self._numbers(), reverse=True):
            try:
                record, meta = self._record(number)
                with self.files.open(f"{_name(number)}.safetensors") as file:
                    tensors = read_tensor_file(file)
                if "constants" in record:
                    with self.files.open(record["constants"]) as file:
                        tensors |= read_tensor_file(file)
                if _digest(tensors, record["meta"]) != record["digest"]:
                    raise ValueError("its content does not have its digest")
            except _DAMAGE as error:
                problems.append(f"{_name(number)}: {error}")
                damaged.add(number)
                continue
            self._damaged, self.damaged = damaged, tuple(problems)
            return tensors, meta
        self._verify_none(problems)
        return None

    def peek(self) -> dict[str, Any] | None:
        """What the newest checkpoint says beside its arrays, which are not read; None if there never was one.

        Raises:
            CampaignError: there are some, but each of them is damaged.
        """
        problems = []
        for number in sorted(self._numbers(), reverse=True):
            try:
                return self._record(number)[1]
            except _DAMAGE as error:
                problems.append(f"{_name(number)}: {error}")
        self._verify_none(problems)
        return None

    def _record(self, number: tuple[int, int]) -> tuple[dict[str, Any], dict[str, Any]]:
        record = msgpack.unpackb(self.files.read(f"{_name(number)}.msgpack"), raw=False, strict_map_key=False)
        if record["format"] not in READABLE:
            raise CampaignError(
                f"{_name(number)} in {self._url} has format {record['format']}, this program reads "
                f"{' and '.join(map(str, READABLE))}; use the version of fedtide that wrote it."
            )
        return record, msgpack.unpackb(record["meta"], raw=False, strict_map_key=False)

    def _verify_none(self, problems: list[str]) -> None:
        if problems:
            raise CampaignError(f"no checkpoint in {self._url} is whole ({'; '.join(problems)}).")

    def _numbers(self) -> list[tuple[int, int]]:
        found = (re.fullmatch(r"state-(\d+)-(\d+)\.msgpack", name) for name in self.files.names())
        return [(int(match.group(1)), int(match.group(2))) for match in found if match]


# Whatever reading a file that was changed may raise.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def _name(number: tuple[int, int]) -> str:
    return f"state-{number[0]:06}-{number[1]:08}"


def _digest(tensors: Arrays, meta: bytes) -> str:
    state = xxhash.xxh3_128(meta)
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        state.update(f"{name} {array.dtype.str} {array.shape}".encode())
        state.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return state.hexdigest()
