"""redis-py's errors, sorted once into three kinds: the broker is away, it refuses, or it is not what we need.

========================  ==================================================================  =======================
kind                      examples                                                            what the caller does
========================  ==================================================================  =======================
away                      no connection, out of memory, loading; a proxy's page or any other  waits, and says so
(``BrokerUnavailable``)   bytes that are not Redis'
refused                   NOAUTH, WRONGPASS, NOPERM                                           waits and says so, or
(``BrokerRefused``)                                                                           ends at its start
wrong                     WRONGTYPE, an unknown command, a cluster's MOVED                    ends in one sentence
(``BrokerUnfit``)
========================  ==================================================================  =======================
"""

from __future__ import annotations

import re

import redis

from fl_core.broker.line.reply_bound import ReplyTooLong
from fl_core.errors import BrokerError, BrokerRefused, BrokerUnavailable, BrokerUnfit, FedtideError

Kind = tuple[type[BrokerError], str]


def _away(what: str) -> Kind:
    return BrokerUnavailable, what


def _refused(what: str) -> Kind:
    return BrokerRefused, what


def _wrong(what: str) -> Kind:
    return BrokerUnfit, what


_SILENT = _away("the broker does not answer")
_GARBLED = _away("what answers at the broker's address does not speak as Redis does")
_REFUSED = _refused("the broker does not take this user or password; look at the URL and at the broker's ACL")
_CLUSTER = _wrong("the broker is a cluster; fedtide needs one server, which may have replicas")
_ODD = _wrong("the broker does not take the command; use Redis 7 or later, or Valkey, and a database of its own")

_TOO_LONG = _wrong("what a key holds is longer than anything of fedtide's; somebody else has written there")

# By the first word of an error reply.
_BY_CODE: dict[str, Kind] = {
    "OOM": _away("the broker is out of memory; raise maxmemory or lower dispatch.concurrency"),
    "READONLY": _away("the broker is a read-only replica; point fedtide to the primary"),
    "MISCONF": _away("the broker cannot write to its disk; free space there"),
    "LOADING": _away("the broker is loading its data"),
    "UNBLOCKED": _away("the broker changes its role"),
    "INPROG": _away("the broker changes its role"),
    "MASTERDOWN": _away("the broker is a replica that has lost its primary"),
    "NOREPLICAS": _away("the broker has fewer replicas than it wants for a write"),
    "BUSY": _away("the broker is busy with a script"),
    "EXECABORT": _away("the broker has dropped a transaction"),
    "CLUSTERDOWN": _away("the broker's cluster is down"),
    "TRYAGAIN": _away("the broker's cluster is moving keys"),
    "NOAUTH": _refused("the broker wants a password; write it into the URL, redis://USER:PASSWORD@HOST:PORT/0"),
    "WRONGPASS": _REFUSED,
    "NOPERM": _refused("the broker does not let this user do that; its ACL has to"),
    "DENIED": _refused("the broker does not take connections from here; it is in protected mode"),
    "WRONGTYPE": _wrong(
        "a key that is fedtide's holds something else; give fedtide a database that no other program writes to"
    ),
    "MOVED": _CLUSTER,
    "ASK": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
}
_CODE = re.compile(r"[A-Z][A-Z0-9_]*")
# Where the first word is only ERR, or none that Redis has.
_BY_TEXT: tuple[tuple[str, Kind], ...] = (
    ("max number of clients", _away("the broker has all the connections that it takes; raise its maxclients")),
    ("acl failure", _BY_CODE["NOPERM"]),
    ("no permissions", _BY_CODE["NOPERM"]),
    ("operation not permitted", _BY_CODE["NOAUTH"]),
    ("auth", _REFUSED),
    ("password", _REFUSED),
    ("unknown command", _wrong("the broker lacks a command that fedtide needs; use Redis 7 or later, or Valkey")),
    ("cluster", _CLUSTER),
    # What proxies say of the server behind them.
    ("connect", _SILENT),
    ("timed out", _SILENT),
    ("timeout", _SILENT),
    ("upstream", _SILENT),
    ("backend", _SILENT),
)
# What OpenSSL says where TLS does not come about. A certificate is good for a time, by the clock of who looks at it.
_BY_TLS: tuple[tuple[str, Kind], ...] = (
    (
        "certificate is not yet valid",
        _away("by this machine's clock, the broker's certificate is not good yet; set the clock"),
    ),
    (
        "certificate has expired",
        _away("by this machine's clock, the broker's certificate has expired; set the clock, or give it another one"),
    ),
    (
        "is not valid for",
        _away("the broker's certificate is for other names than the one in its address; make it one with that --host"),
    ),
    (
        "unsuitable certificate purpose",
        _away("what answers at the broker's address shows a certificate that is no server's, and is not believed"),
    ),
    (
        "certificate verify failed",
        _away("what answers at the broker's address has no certificate of the authority that this program trusts"),
    ),
    (
        "eof occurred in violation of protocol",
        _away(
            "the broker has cut the connection; if it always does, it may not take this program's certificate, which "
            "has to be good by the broker's clock"
        ),
    ),
    (
        "alert certificate expired",
        _away("by the broker's clock, this program's certificate has expired; set that clock, or have it renewed"),
    ),
    (
        "alert bad certificate",
        _away("the broker does not take this program's certificate, which may not be good yet by the broker's clock"),
    ),
    ("alert unknown ca", _away("the broker does not know the authority of this program's certificate")),
    ("certificate required", _away("the broker wants a certificate; start this program with --identity")),
    ("wrong version number", _away("what answers at the broker's address speaks no TLS")),
)
# By the name of redis-py's class, since not every version has each; the nearest ancestor counts.
_BY_CLASS: dict[str, Kind | None] = {
    "RedisError": _ODD,
    "ConnectionError": _SILENT,
    "TimeoutError": _SILENT,
    "MaxConnectionsError": _SILENT,
    "BusyLoadingError": _BY_CODE["LOADING"],
    "AuthenticationError": _REFUSED,
    "AuthorizationError": _REFUSED,
    "ExternalAuthProviderError": _REFUSED,
    "InvalidResponse": _GARBLED,
    "ResponseError": None,  # what it says decides
    "OutOfMemoryError": _BY_CODE["OOM"],
    "ReadOnlyError": _BY_CODE["READONLY"],
    "NoScriptError": _ODD,
    "ExecAbortError": _BY_CODE["EXECABORT"],
    "NoPermissionError": _BY_CODE["NOPERM"],
    "ClusterDownError": _BY_CODE["CLUSTERDOWN"],
    "MasterDownError": _BY_CODE["MASTERDOWN"],
    "TryAgainError": _BY_CODE["TRYAGAIN"],
    "AskError": _CLUSTER,
    "MovedError": _CLUSTER,
    "ClusterCrossSlotError": _CLUSTER,
    "ClusterError": _CLUSTER,
    "RedisClusterException": _CLUSTER,
    "SlotNotCoveredError": _CLUSTER,
    "CrossSlotTransactionError": _CLUSTER,
    "InvalidPipelineStack": _CLUSTER,
    "IncorrectPolicyType": _CLUSTER,
    "WatchError": _away("the broker has dropped a transaction"),
    "ChildDeadlockedError": _SILENT,
    "AuthenticationWrongNumberOfArgsError": _ODD,
    "ModuleError": _ODD,
    "NoSuchFieldsetError": _ODD,
    "DataError": _ODD,
    "PubSubError": _ODD,
    "LockError": _ODD,
    "LockNotOwnedError": _ODD,
}
# What parsing bytes that are no reply, or the reply to something else, raises in redis-py and hiredis.
_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError)


def told(doing: str, error: Exception) -> BrokerError | None:
    """The error of ours that an exception from redis-py, hiredis or the network comes to; None for any other.

    Args:
        doing: what was being done, for the sentence.
        error: as it was caught.
    """
    if isinstance(error, FedtideError):
        return None
    kind = _kind(error)
    if kind is None:
        return None
    family, what = kind
    return family(f"{doing}: {what} ({_brief(error)}).")


def _kind(error: Exception) -> Kind | None:
    if isinstance(error, ReplyTooLong):
        return _TOO_LONG
    if (code := getattr(error, "status_code", None)) in _BY_CODE:  # redis-py takes it off the text
        return _BY_CODE[code]
    if isinstance(error, (OSError, redis.ConnectionError)) and (kind := _said_by_tls(str(error))) is not None:
        return kind
    for ancestor in type(error).__mro__:
        if ancestor.__module__.partition(".")[0] == "redis" and ancestor.__name__ in _BY_CLASS:
            return _BY_CLASS[ancestor.__name__] or _said(error)
    if isinstance(error, OSError):
        return _SILENT
    if isinstance(error, _NONSENSE) and _in_redis(error):
        return _GARBLED
    return None


def _said_by_tls(text: str) -> Kind | None:
    lower = text.lower()
    return next((kind for part, kind in _BY_TLS if part in lower), None)


def _said(error: Exception) -> Kind:
    # redis-py says before it which command of a pipeline was answered so.
    text = str(error).rpartition(" of pipeline caused error: ")[2]
    code = text.partition(" ")[0]
    if (kind := _BY_CODE.get(code)) is not None:
        return kind
    lower = text.lower()
    for part, kind in _BY_TEXT:
        if part in lower:
            return kind
    # redis-py takes ERR off the text; what is neither that nor a code of Redis' form was not said by Redis.
    return _ODD if getattr(error, "status_code", "ERR") == "ERR" or _CODE.fullmatch(code) else _GARBLED


def _in_redis(error: Exception) -> bool:
    """Whether it was raised below redis-py: our own mistakes stay what they are."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in ("redis", "hiredis"):
            return True
        trace = trace.tb_next
    return False


def _brief(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return "".join(character if character.isprintable() else "?" for character in text[:200]).rstrip(".")
