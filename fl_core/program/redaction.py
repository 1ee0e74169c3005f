"""Passwords out of sentences: whatever is printed or logged passes here.

A URL's credentials are found by their form, wherever a URL is quoted. The password itself is known from the moment that
the broker's URL was read, and is found where it stands alone too, as in a server's answer that repeats a command.
"""

from __future__ import annotations

import re

MASK = "***"
# A shorter one would be found in words that have nothing to do with it.
MIN_LENGTH = 4

# Up to the last @ of the word: a password that was not percent-encoded may hold any character. The word PASSWORD is the
# one of our own hints.
_CREDENTIALS = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:@/?#'\"<>]*):(?!PASSWORD@)[^\s'\"<>]*@")
_QUERY = re.compile(r"((?:password|passwd|secret|token)=)[^&\s'\"#]+", re.IGNORECASE)
_secrets: set[str] = set()


def hide(*secrets: str) -> None:
    """Remember secrets of this process, in every way in which they may be written."""
    _secrets.update(secret for secret in secrets if len(secret) >= MIN_LENGTH)


def redact(text: str) -> str:
    """The text without credentials.

    >>> redact("reaching redis://me:pass@host:6379/0?x=1")
    'reaching redis://me:***@host:6379/0?x=1'
    """
    # Those that are known come first: half of one that looks like an option of an address would be left of it.
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    if "@" in text:
        text = _CREDENTIALS.sub(rf"\1:{MASK}@", text)
    if "=" in text:
        text = _QUERY.sub(rf"\1{MASK}", text)
    return text
