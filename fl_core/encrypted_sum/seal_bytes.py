"""TenSEAL's containers (protocol buffers around SEAL 4's streams), as far as residues go in and out of them.

Only what TenSEAL itself has just written is read here, and what it is given was written here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_HEADER = struct.Struct("<HBBBBHQ")  # magic, header's size, version (2), compression, reserved, bytes in all
_NOT_COMPRESSED = 0
_INTEGER, _DOUBLE, _LENGTH = 0, 1, 2  # protocol buffers' wire types


def fields(message: bytes) -> dict[int, bytes]:
    """A message's fields of bytes and doubles, by number; integers are left out.

    Raises:
        ValueError: it has a field of another form.
    """
    return dict(_fields(message))


def field(number: int, content: bytes) -> bytes:
    """One field of bytes."""
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def double(number: int, value: float) -> bytes:
    """One field of a double."""
    return _varint(number << 3 | _DOUBLE) + struct.pack("<d", value)


def packed(number: int, value: int) -> bytes:
    """One field of a list of one integer."""
    return field(number, _varint(value))


def unwrap(stream: bytes, num_bytes: int) -> tuple[bytes, bytes]:
    """An object of SEAL's: what stands before its numbers, and its numbers, the last ``num_bytes`` of it.

    Raises:
        ValueError: it is shorter.
    """
    import zstandard

    body = zstandard.ZstdDecompressor().decompressobj().decompress(stream[_HEADER.size :])
    if len(body) < num_bytes:
        raise ValueError(f"an object of {len(body)} bytes; its numbers alone would take {num_bytes}")
    return body[:-num_bytes], body[-num_bytes:]


def wrap(like: bytes, before: bytes, numbers: bytes) -> bytes:
    """The inverse of ``unwrap``, not compressed; ``like`` lends its header."""
    magic, size, major, minor, _, reserved, _ = _HEADER.unpack(like[: _HEADER.size])
    total = _HEADER.size + len(before) + len(numbers)
    return _HEADER.pack(magic, size, major, minor, _NOT_COMPRESSED, reserved, total) + before + numbers


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        if tag & 7 == _LENGTH:
            length, position = _read_varint(message, position)
        elif tag & 7 == _DOUBLE:
            length = 8
        elif tag & 7 == _INTEGER:
            _, position = _read_varint(message, position)
            continue
        else:
            raise ValueError(f"a field of wire type {tag & 7}")
        yield tag >> 3, message[position : position + length]
        position += length


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
