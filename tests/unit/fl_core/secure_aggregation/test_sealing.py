"""Boxes open for one key, in one context, and in one piece."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fl_core.errors import UntrustedError
from fl_core.identity.keys import make_key
from fl_core.secure_aggregation.sealing import box_bytes, seal, sealing_key, unseal

SECRET = bytes(range(64))


def test_a_box_opens_for_its_keeper_in_its_place_alone() -> None:
    """Another key, another context, any byte changed, any length: nothing comes out."""
    key, other = sealing_key(make_key()), sealing_key(make_key())
    box = seal(SECRET, key.public_key().public_bytes_raw(), b"here")
    assert len(box) == box_bytes(len(SECRET))
    assert unseal(box, key, b"here") == SECRET
    assert SECRET not in box
    bad = [(box, other, b"here"), (box, key, b"there")]
    bad += [(box[:at] + bytes([box[at] ^ 1]) + box[at + 1 :], key, b"here") for at in range(len(box))]
    bad += [(box[:length], key, b"here") for length in (0, 31, 47, 48, len(box) - 1)]
    for data, opener, context in bad:
        with pytest.raises(UntrustedError):
            unseal(data, opener, context)


def test_no_two_boxes_are_alike() -> None:
    """The same secret for the same keeper: a key of its own each time."""
    public = sealing_key(make_key()).public_key().public_bytes_raw()
    assert len({seal(SECRET, public, b"here")[:32] for _ in range(8)}) == 8


@pytest.mark.parametrize("public", [b"", bytes(32), b"\x01" + bytes(31), bytes(33)])
def test_what_is_no_key_is_refused(public: bytes) -> None:
    """Among them the points with which everybody has the same secret."""
    with pytest.raises(UntrustedError):
        seal(SECRET, public, b"here")
    with pytest.raises(UntrustedError):
        unseal((public + bytes(32))[:32] + bytes(80), X25519PrivateKey.generate(), b"here")


def test_the_key_follows_from_the_one_that_signs() -> None:
    """The same each time, and another one for another keeper."""
    key = make_key()
    assert sealing_key(key).private_bytes_raw() == sealing_key(key).private_bytes_raw()
    assert sealing_key(key).private_bytes_raw() != sealing_key(make_key()).private_bytes_raw()
    assert sealing_key(key).private_bytes_raw() != key.private_bytes_raw()
