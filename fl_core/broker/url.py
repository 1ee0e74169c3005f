"""The broker's address as people write it: checked before any client reads it, and shown without its password.

Two clients read it, redis-py and kombu, and each has its own idea of a character that is not percent-encoded: one
connects to another host than the other, or shows half of the password in what it says. So such a URL is refused here.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

from fl_core.errors import SpecError
from fl_core.program.redaction import hide

SCHEMES = ("redis", "rediss", "unix")
# What may stand in a user or a password as it is (RFC 3986, 3.2.1).
_ENCODED = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_OPTIONS = re.compile(r"db|username|password|protocol|client_name|health_check_interval|(?:ssl|socket)_[a-z_]+")
_CERT_REQS = ("required", "optional", "none")
_FORM = "write redis://HOST:PORT/0"
_RAW = (
    "broker: a user or a password in it holds a character that means something else in a URL; percent-encode it (@ is "
    "%40, / is %2F, : is %3A, # is %23, ? is %3F, % is %25, a space is %20)."
)


def public_url(url: str) -> str:
    """The URL without its password, for logs and messages; it need not be a good one.

    >>> public_url("redis://me:secret@host:6379/0")
    'redis://me@host:6379/0'
    """
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    # A password that was not percent-encoded may hold any character, a slash too: it ends at the last @.
    credentials, _, rest = rest.rpartition("@")
    user, _, password = credentials.partition(":")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    shown = user and mark and _ENCODED.fullmatch(user) and _ENCODED.fullmatch(password)
    return f"{scheme}{mark}{user}@{rest}" if shown else f"{scheme}{mark}{rest}"


def check_url(url: str) -> str:
    """The URL itself, if it can be one; its password is hidden from then on (``fl_core/program/redaction.py``).

    Raises:
        SpecError: the scheme is none that Redis has, host, port or database are none, an option is unknown, or a user
            or password is not percent-encoded.
    """
    shown = public_url(url)
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in SCHEMES:
        raise SpecError(f"broker = {shown!r} is not a Redis URL; {_FORM}, rediss://... or unix://PATH.")
    if _is_raw(scheme, rest):
        hide(*_guessed(rest))
        raise SpecError(_RAW)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise SpecError(f"broker = {shown!r} is not a URL; {_FORM}.") from None
    query = dict(parse_qsl(parts.query))
    for secret in (parts.password or "", query.get("password", "")):
        hide(secret, unquote(secret))
    if scheme != "unix":
        if not parts.hostname:
            raise SpecError(f"broker = {shown!r} is not a Redis URL, since it names no host; {_FORM}.")
        if not re.fullmatch(r"/?\d{0,6}/?", parts.path):
            raise SpecError(f"broker = {shown!r} is not a Redis URL, since its database is no number; {_FORM}.")
    if any(not _OPTIONS.fullmatch(key) for key in query):
        raise SpecError(f"broker = {shown!r} is not a Redis URL, since an option behind its ? is not known; {_FORM}.")
    if query.get("ssl_cert_reqs", _CERT_REQS[0]) not in _CERT_REQS:
        raise SpecError(f"broker = {shown!r}: its ssl_cert_reqs is not known; write one of {', '.join(_CERT_REQS)}.")
    return url


def same_server(one: str, other: str) -> bool:
    """Whether two URLs mean the same database of the same server, for any user; names are not looked up.

    >>> same_server("redis://me:secret@host", "rediss://host:6379/0"), same_server("redis://host", "redis://host/1")
    (True, False)
    """
    return _server(one) == _server(other)


def _server(url: str) -> tuple[str, str, str]:
    parts = urlsplit(public_url(url))
    if parts.scheme == "unix":
        return "", parts.path, ""
    return (parts.hostname or "localhost").lower(), str(parts.port or 6379), parts.path.strip("/") or "0"


def _is_raw(scheme: str, rest: str) -> bool:
    """Whether what stands before the host, or what should, is not percent-encoded."""
    netloc, tail = re.fullmatch(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    path, _, fragment = tail.partition("#")
    path, _, query = path.partition("?")
    credentials, at, _ = netloc.rpartition("@")
    if at and not all(_ENCODED.fullmatch(part) for part in credentials.split(":", 1)):
        return True
    if scheme == "unix":
        return bool(fragment) and "password=" in query
    in_option = re.search(r"(?:^|&)ssl_[a-z_]+=[^&]*@", query)
    return "@" in path or "@" in fragment or ("@" in query and not in_option)


def _guessed(rest: str) -> list[str]:
    credentials = rest.rpartition("@")[0]
    return [credentials, credentials.partition(":")[2]]
