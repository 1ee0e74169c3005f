"""Vectors that a training method keeps on this device, from one task of a campaign to the next and over a restart."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import numpy as np
import structlog

from fl_core.errors import DataError
from fl_core.program.whole_file import whole_file
from fl_core.vectors import FloatArray

log = structlog.get_logger()

MAX_CAMPAIGNS = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class DeviceMemory(MutableMapping[str, FloatArray]):
    """One ``.npy`` file per vector in ``state_dir/KIND/CAMPAIGN``; of each kind, the campaigns used last are kept.

    A vector is replaced whole or not at all. What cannot be read is as if it were not there, with a line in the log.

    Args:
        state_dir: the worker's.
        campaign: whose memory this is.
        kind: a folder for each kind of memory: a method's own, unless another is named.

    Attributes:
        folder: where the vectors lie.
    """

    def __init__(self, state_dir: Path, campaign: str, kind: str = "memory") -> None:
        self._root = state_dir / kind
        self.folder = self._root / campaign

    def __getitem__(self, name: str) -> FloatArray:
        path = self._path(name)
        try:
            with path.open("rb") as file:
                values = np.lib.format.read_array(file, allow_pickle=False)
        except FileNotFoundError:
            raise KeyError(name) from None
        except Exception as error:  # of a damaged header, numpy raises whatever Python's tokenizer does
            log.error("the device's memory cannot be read; starting without it", file=str(path), reason=str(error))
            raise KeyError(name) from None
        if values.dtype != np.float32 or values.ndim != 1:
            log.error("the device's memory is no vector; starting without it", file=str(path))
            raise KeyError(name)
        vector: FloatArray = values
        if not np.isfinite(vector).all():
            log.error("the device's memory is not finite; starting without it", file=str(path))
            raise KeyError(name)
        return vector

    def __setitem__(self, name: str, values: FloatArray) -> None:
        """Keep a vector.

        Raises:
            DataError: the disk is full or read-only.
        """
        path = self._path(name)
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True)
                self._forget_old()
            with whole_file(path, private=True) as file:
                vector = np.asarray(values, np.float32)
                np.save(file, vector, allow_pickle=False)
                # It writes by a buffer of its own, and does not notice that the last of it finds the disk full.
                if os.fstat(file.fileno()).st_size <= vector.nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.utime(self.folder)
        except OSError as error:
            raise DataError(
                f"{path} cannot be written ({error.strerror}); give the worker a state_dir that it can write to."
            ) from error

    def __delitem__(self, name: str) -> None:
        """Forget a vector."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        if self.folder.is_dir():
            yield from sorted(path.stem for path in self.folder.glob("*.npy"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def forget(self) -> None:
        """Forget all of the campaign's vectors; what the disk refuses to give up goes with the oldest campaigns."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise DataError(f"a method named a vector {name!r:.100}; use letters, digits, '.', '_' and '-'.")
        return self.folder / f"{name}.npy"

    def _forget_old(self) -> None:
        folders = [path for path in self._root.iterdir() if path.is_dir()]
        folders.sort(key=lambda path: path.stat().st_mtime_ns)
        for path in folders[:-MAX_CAMPAIGNS]:
            with contextlib.suppress(OSError):
                shutil.rmtree(path)
