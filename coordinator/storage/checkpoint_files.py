"""Places of checkpoints: a local folder, or one behind fsspec. A file is staged first, and gets its name at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from fl_core.errors import CampaignError


def _write(file: BinaryIO, parts: Sequence[bytes | memoryview]) -> None:
    try:
        file.writelines(parts)
        file.flush()
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        raise


class LocalFiles:
    """A local folder: new file, fsync, rename, fsync of the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Of all files in it."""
        return [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []

    def read(self, name: str) -> bytes:
        """One file, whole."""
        return (self._folder / name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        """One file, to be read in parts."""
        return (self._folder / name).open("rb")

    def stage(self, name: str, parts: Sequence[bytes | memoryview]) -> BinaryIO:
        """Write a file that is not there before :meth:`keep`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f".{name}.partial"
        # The state holds the campaign's secret: nobody else on this machine may read it.
        file = os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        try:
            _write(file, parts)
        except OSError:
            partial.unlink(missing_ok=True)  # what fits of it on a full disk is missed there by everybody
            raise
        return file

    def keep(self, name: str, file: BinaryIO) -> None:
        """Make a staged file durable, under its name."""
        with file:
            os.fsync(file.fileno())
        (self._folder / f".{name}.partial").replace(self._folder / name)
        self._sync_folder()

    def append(self, name: str, data: bytes) -> None:
        """Write behind what a file has, durably; where there is none, one is made."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / name
        is_new = not path.exists()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as file:
            _write(file, [data])
            os.fsync(file.fileno())
        if is_new:
            self._sync_folder()

    def _sync_folder(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self._folder / name).unlink(missing_ok=True)


class RemoteFiles:
    """A folder behind fsspec, whose file systems make a file visible when it is closed.

    Raises:
        CampaignError: there is no such file system, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise CampaignError(f"checkpoints cannot go to {url!r}: {error}.") from error

    def names(self) -> list[str]:
        """Of all files in it."""
        if not self._fs.isdir(self._root):
            return []
        return [str(path).rpartition("/")[2] for path in self._fs.ls(self._root, detail=False)]

    def read(self, name: str) -> bytes:
        """One file, whole."""
        data: bytes = self._fs.cat_file(f"{self._root}/{name}")
        return data

    def open(self, name: str) -> BinaryIO:
        """One file, to be read in parts."""
        return cast(BinaryIO, self._fs.open(f"{self._root}/{name}", "rb"))

    def stage(self, name: str, parts: Sequence[bytes | memoryview]) -> BinaryIO:
        """Write a file that is not there before :meth:`keep`."""
        # Far away is slow; what has to happen between two merges happens here.
        file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - closed by keep
        _write(file, parts)
        return file

    def keep(self, name: str, file: BinaryIO) -> None:
        """Make a staged file durable, under its name."""
        self._fs.makedirs(self._root, exist_ok=True)
        with file, self._fs.open(f"{self._root}/{name}", "wb") as there:
            file.seek(0)
            shutil.copyfileobj(file, there, 2**20)

    def append(self, name: str, data: bytes) -> None:
        """Write behind what a file has; such stores replace files whole."""
        self._fs.makedirs(self._root, exist_ok=True)
        path = f"{self._root}/{name}"
        before: bytes = self._fs.cat_file(path) if self._fs.exists(path) else b""
        self._fs.pipe_file(path, before + data)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self._fs.exists(f"{self._root}/{name}"):
            self._fs.rm_file(f"{self._root}/{name}")
