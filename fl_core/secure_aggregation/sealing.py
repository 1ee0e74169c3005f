"""Seeds on their way from a device to a keeper: sealed with a key of that moment, so that none else can read them.

X25519 (RFC 7748) between a key that is made for this one box and the keeper's, HKDF-SHA256 (RFC 5869) over both public
keys, ChaCha20-Poly1305 (RFC 8439) with the box's place as associated data. A key seals one box, so its nonce is 0.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fl_core.errors import UntrustedError

KEY_BYTES = 32
_TAG_BYTES = 16
_NONCE = bytes(12)


def sealing_key(key: Ed25519PrivateKey) -> X25519PrivateKey:
    """A keeper's private key for boxes, derived from the one that it signs with: there is no second secret to keep."""
    derived = HKDF(SHA256(), KEY_BYTES, salt=None, info=b"fedtide/sealing/1").derive(key.private_bytes_raw())
    return X25519PrivateKey.from_private_bytes(derived)


def box_bytes(num_bytes: int) -> int:
    """How long a box for so many bytes is."""
    return KEY_BYTES + num_bytes + _TAG_BYTES


def seal(secret: bytes, public_key: bytes, context: bytes) -> bytes:
    """A box that only the owner of the key can open, in this context alone.

    Args:
        public_key: the keeper's, X25519, 32 bytes.
        context: where the box belongs.

    Raises:
        UntrustedError: it is no key.
    """
    once = X25519PrivateKey.generate()
    public = once.public_key().public_bytes_raw()
    return public + _cipher(once, public_key, public + public_key).encrypt(_NONCE, secret, context)


def unseal(box: bytes, key: X25519PrivateKey, context: bytes) -> bytes:
    """What is in a box.

    Raises:
        UntrustedError: it was not sealed for this key in this context, or was damaged.
    """
    public = box[:KEY_BYTES]
    if len(box) < KEY_BYTES + _TAG_BYTES:
        raise UntrustedError(f"a box of {len(box)} bytes holds nothing.")
    try:
        return _cipher(key, public, public + key.public_key().public_bytes_raw()).decrypt(
            _NONCE, box[KEY_BYTES:], context
        )
    except InvalidTag:
        raise UntrustedError("a box was not sealed for this keeper, this update and these terms.") from None


def _cipher(key: X25519PrivateKey, other: bytes, both: bytes) -> ChaCha20Poly1305:
    try:
        shared = key.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:  # of another length, or a point that gives the same secret with every key
        raise UntrustedError("what should be an X25519 key is none.") from None
    return ChaCha20Poly1305(HKDF(SHA256(), 32, salt=None, info=b"fedtide/seeds/1\0" + both).derive(shared))
