"""Finished updates that the broker could not take: kept on disk until it can, also over a restart of the worker."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog

from fl_core.errors import RejectedUpdate
from fl_core.program.whole_file import whole_file
from fl_core.wire.messages import ModelUpdate

log = structlog.get_logger()

_MAGIC = b"FTUPD1\0\0"
_LENGTH = struct.Struct("<Q")


class Outbox:
    """One file per update in ``state_dir/outbox``: magic, header length, header, payload."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "outbox"

    def put(self, update: ModelUpdate, payload: bytes | memoryview) -> Path:
        """Keep an update; durable when this returns.

        Raises:
            OSError: the disk is full or read-only.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        header = update.to_bytes()
        path = self._folder / f"{update.campaign}.{update.task_id}.{update.attempt}.update"
        with whole_file(path, durable=True, private=True) as file:
            file.write(_MAGIC + _LENGTH.pack(len(header)) + header)
            file.write(payload)
        return path

    def __iter__(self) -> Iterator[tuple[Path, ModelUpdate, bytes]]:
        """What waits, the oldest first. A damaged file is set aside with a log line."""
        yield from self.read(self.paths())

    def read(self, paths: Iterable[Path]) -> Iterator[tuple[Path, ModelUpdate, bytes]]:
        """Those of ``paths`` that are still there."""
        for path in paths:
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # delivered meanwhile, by the process that kept it
            try:
                if data[:8] != _MAGIC:
                    raise ValueError("it does not begin as one")
                (length,) = _LENGTH.unpack_from(data, 8)
                update = ModelUpdate.from_bytes(data[16 : 16 + length])
                payload = data[16 + length :]
                if len(payload) != update.payload_bytes:
                    raise ValueError(f"it holds {len(payload)} of {update.payload_bytes} payload bytes")
            except (ValueError, struct.error, RejectedUpdate) as error:
                log.error("a kept update is damaged; setting it aside", file=str(path), reason=str(error))
                path.rename(path.with_suffix(".damaged"))
                continue
            yield path, update, payload

    def paths(self) -> list[Path]:
        """The files, the oldest first."""
        if not self._folder.is_dir():
            return []
        times = {}
        for path in self._folder.glob("*.update"):
            with contextlib.suppress(FileNotFoundError):
                times[path] = (path.stat().st_mtime_ns, path.name)
        return sorted(times, key=times.__getitem__)
