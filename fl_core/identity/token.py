"""The one-time token that a person carries to a device: where the broker is, whom to trust, and two secrets."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import ClassVar

from fl_core.errors import RejectedUpdate, SpecError
from fl_core.names import is_name
from fl_core.wire.checks import bytes_of, is_count, is_text
from fl_core.wire.record import Record, checked
from fl_core.wire.signed import is_certificate

SECRET_BYTES = 32
_MARK = "fedtide-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Record):
    """What a device needs to ask for its certificate, once.

    Attributes:
        name: of the device, as the authority knows it.
        broker: the Redis URL, without user and password.
        blobs: the second server's place, or empty.
        authority: its certificate, DER: what the device will trust.
        password: of the broker's user for the enrolment; it may do nothing else and ends with it.
        pem: key and certificate of an invited one, for a server that takes nobody without; as short-lived as the token.
        secret: shared with the authority alone; the request is authenticated with it (HMAC-SHA256).
        expires_ms: by the authority's clock, ms since 1970; the device's own may be wrong.
    """

    max_bytes: ClassVar[int] = 16 * 1024

    name: str = checked(is_name)
    broker: str = checked(is_text)
    blobs: str = checked(is_text)
    authority: bytes = checked(is_certificate)
    password: str = checked(is_text)
    pem: bytes = checked(is_certificate)
    secret: bytes = checked(bytes_of(SECRET_BYTES))
    expires_ms: int = checked(is_count)

    def to_text(self) -> str:
        """The token as one word."""
        return _MARK + base64.urlsafe_b64encode(self.to_bytes()).decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> Token:
        """Read a token that somebody pasted; line breaks in it do no harm.

        Raises:
            SpecError: it is none, or a part of one.
        """
        word = "".join(text.split())
        body = word.removeprefix(_MARK)
        if body == word or len(body) > 2 * cls.max_bytes:
            raise SpecError(f"this is no token; one begins with {_MARK!r} and `fedtide device add NAME` prints it.")
        try:
            return cls.from_bytes(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (binascii.Error, ValueError, RejectedUpdate):
            raise SpecError("the token is damaged or cut off; copy the whole word, or make another one.") from None
