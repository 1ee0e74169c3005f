"""TOML files as editors on any system write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.errors import SpecError
from fl_core.program.toml_file import read_toml


@pytest.mark.parametrize(
    "data",
    [b"a = '\xc3\xa4'\nb = 1\n", b"\xef\xbb\xbfa = '\xc3\xa4'\nb = 1\n", b"a = '\xc3\xa4'\r\nb = 1\r\n"],
    ids=["plain", "byte order mark", "Windows' line ends"],
)
def test_what_editors_write_is_read(tmp_path: Path, data: bytes) -> None:
    """A byte order mark and carriage returns mean nothing."""
    path = tmp_path / "spec.toml"
    path.write_bytes(data)
    assert read_toml(path) == {"a": "ä", "b": 1}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("a = 1".encode("utf-16"), "it is written in UTF-16; save it as UTF-8"),
        ("a = 1".encode("utf-16-be").join([b"\xfe\xff", b""]), "it is written in UTF-16; save it as UTF-8"),
        ("a = 1".encode("utf-32"), "it is written in UTF-32; save it as UTF-8"),
        (b"a = 1\n# pr\xfcfung", "line 2 has byte 0xfc, which is not UTF-8"),
        (b"a = = 1", "Invalid value (at line 1, column 5)"),
        (b"a = " + b"1" * 5000, "Exceeds the limit"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
    ],
    ids=["utf-16-le", "utf-16-be", "utf-32", "latin-1", "syntax", "number", "nesting"],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    """One sentence with the file and the reason; whoever wrote it need not know what a byte order mark is."""
    path = tmp_path / "spec.toml"
    path.write_bytes(data)
    with pytest.raises(SpecError) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path} is not valid TOML: ")
    assert said in str(caught.value)


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    """A folder, nothing at all, and a name that no file can have."""
    for path in (tmp_path, tmp_path / "none.toml", tmp_path / "a\0b"):
        with pytest.raises(SpecError, match="cannot be read"):
            read_toml(path)
