"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: Path, *, durable: bool = False, private: bool = False) -> Iterator[BinaryIO]:
    """A file to write to. It takes ``path``'s name when the block has ended; where that raises, nothing is left of it.

    Args:
        path: what readers open; they see the old content or all of the new one.
        durable: after the block the new content survives a power cut.
        private: only its owner may read it, from the first byte.

    Raises:
        OSError: the disk is full or read-only.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with _open_private(partial) if private else partial.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        partial.replace(path)
        if durable:
            sync_folder(path.parent)
    except BaseException:
        # What fits of it on a full disk is missed there by everybody.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _open_private(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)  # what a program left that was killed may be open to others
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def sync_folder(folder: Path) -> None:
    """Make durable which files a folder has."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
