"""Redis' failures: what is worth a retry is told from what is wrong, and no reply is taken for another command's."""

from __future__ import annotations

import contextlib
import enum
import importlib
import pkgutil
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import redis
from redis._parsers import _RESP2Parser

from fl_core.broker.bulk import blobs
from fl_core.broker.connection import broker_errors, connect
from fl_core.broker.line import failures
from fl_core.errors import BrokerError, BrokerRefused, BrokerUnavailable, BrokerUnfit, MissingBlob


@contextlib.contextmanager
def _answering(reply: bytes | Callable[[], bytes]) -> Iterator[str]:
    """The URL of a server that gives one answer to every command (but OK to a client that introduces itself)."""
    answer = reply if callable(reply) else lambda: reply

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, contextlib.suppress(OSError, ValueError):
            while head := lines.readline():
                words = []
                for _ in range(int(head[1:])):
                    length = int(lines.readline()[1:])
                    words.append(lines.read(length + 2)[:-2])
                said = {b"CLIENT": b"+OK\r\n", **({b"PING": b"+PONG\r\n"} if callable(reply) else {})}
                connection.sendall(said.get(words[0].upper()) or answer())

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def _say(answer: str) -> Exception:
    """What comes of a server that answers so."""
    with (
        _answering(f"-{answer}\r\n".encode()) as url,
        connect(url) as client,
        pytest.raises(Exception) as caught,
        broker_errors("writing"),
    ):
        client.set("key", b"value")
    return caught.value


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("LOADING Redis is loading the dataset in memory", "writing: the broker "),
        ("MISCONF Redis is configured to save RDB snapshots", "writing: the broker cannot write to its disk; free "),
        ("BUSY Redis is busy running a script.", "writing: the broker is busy with a script ("),
        (
            "NOREPLICAS Not enough good replicas to write.",
            "writing: the broker has fewer replicas than it wants for a write (",
        ),
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            "writing: the broker is out of memory; raise maxmemory or lower dispatch.concurrency (",
        ),
        (
            "READONLY You can't write against a read only replica.",
            "writing: the broker is a read-only replica; point fedtide to the primary (",
        ),
        ("MASTERDOWN Link with MASTER is down.", "writing: the broker is a replica that has lost its primary ("),
        ("CLUSTERDOWN The cluster is down", "writing: the broker's cluster is down ("),
        ("TRYAGAIN Multiple keys request", "writing: the broker's cluster is moving keys ("),
    ],
)
def test_a_server_that_cannot_serve_now_is_worth_a_retry(answer: str, said: str) -> None:
    """The sentence says what was being done, what an operator should do, and what Redis said."""
    error = _say(answer)
    assert isinstance(error, BrokerUnavailable), repr(error)
    assert str(error).startswith(said)
    assert str(error).endswith(").")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("NOAUTH Authentication required.", "writing: the broker wants a password; write it into the URL"),
        ("WRONGPASS invalid username-password pair", "writing: the broker does not take this user or password"),
        ("NOPERM this user has no permissions to run the 'set' command", "writing: the broker does not let this user"),
        ("ERR ACL failure in script: no permissions to access a key", "writing: the broker does not let this user"),
        ("DENIED Redis is running in protected mode", "writing: the broker does not take connections from here"),
        ("ERR Client sent AUTH, but no password is set", "writing: the broker does not take this user or password"),
    ],
)
def test_a_server_that_refuses_says_so_and_is_waited_for(answer: str, said: str) -> None:
    """Rights and passwords are edited while programs run: that is no absence, and no end either."""
    error = _say(answer)
    assert isinstance(error, BrokerRefused), repr(error)
    assert isinstance(error, BrokerUnavailable)
    assert str(error).startswith(said)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("ERR unknown command 'FOO', with args beginning with: 'ROOMS'", "writing: the broker lacks a command"),
        (
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "writing: a key that is fedtide's holds something else; give fedtide a database",
        ),
        (
            "Command # 1 (ZADD fedtide:campaigns 1 a) of pipeline caused error: WRONGTYPE Operation against a key",
            "writing: a key that is fedtide's holds something else",
        ),
        ("MOVED 3999 127.0.0.1:6381", "writing: the broker is a cluster"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "writing: the broker is a cluster"),
        ("ERR value is not an integer or out of range", "writing: the broker does not take the command"),
        ("BUSYGROUP Consumer Group name already exists", "writing: the broker does not take the command"),
    ],
)
def test_a_wrong_command_is_not_retried(answer: str, said: str) -> None:
    """What waiting does not help with ends a program, with one sentence."""
    error = _say(answer)
    assert isinstance(error, BrokerUnfit), repr(error)
    assert str(error).startswith(said)
    assert "\n" not in str(error)


def _all_kinds(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*map(_all_kinds, kind.__subclasses__()))


def _of_redis() -> list[type[Exception]]:
    """Every class of exceptions that redis-py and hiredis have."""
    for module in pkgutil.walk_packages(redis.__path__, "redis."):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)
    others = {one for one in vars(redis.exceptions).values() if isinstance(one, type) and issubclass(one, Exception)}
    own = {one for one in others | _all_kinds(redis.RedisError) if one.__module__.partition(".")[0] == "redis"}
    assert len(own) > 30
    return sorted(own, key=lambda kind: (kind.__module__, kind.__name__))


@pytest.mark.parametrize("kind", _of_redis(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_each_error_of_redis_py_is_sorted(kind: type[Exception]) -> None:
    """Each class of the installed redis-py comes to one of the three; one that is new there has to be added here."""
    error = kind.__new__(kind, "said")
    error.args = ("said",)
    with pytest.raises(BrokerError, match=r"^reading: .*\)\.$"), broker_errors("reading"):
        raise error
    if kind.__module__ == "redis.exceptions" and not issubclass(kind, enum.Enum):
        assert kind.__name__ in failures._BY_CLASS


NOT_REDIS = [
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<html>no</html>\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"220 mail ESMTP ready\r\n",
    b":not a number\r\n",
    b"$nine\r\n",
    b"$-7\r\n",
    b"*-7\r\n",
    b"*many\r\n",
    b"*1\r\n" * 2000 + b":1\r\n",
    b"$3\r\nabcdefgh\r\n",
    b"\xff\xfe\x00\x01\r\n",
    b"-\xff\xfe\xfd\r\n",
    b"\r\n",
    b"\x15\x03\x03\x00\x02\x02\x46\r\n",
    b"+OK\r\n+OK\r\n+OK\r\n",
    b"-no upstream host\r\n",
    b"-ERR Connection timed out\r\n",
]


@pytest.mark.parametrize("page", NOT_REDIS, ids=lambda page: repr(page[:24]))
@pytest.mark.parametrize("parser", ["hiredis", "python"])
def test_what_is_not_redis_is_waited_for(page: bytes, parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's page, another protocol, a reply of the wrong type: whichever way the broker is asked, it is away."""
    with _answering(page) as url, connect(url, timeout_seconds=0.3) as client:
        if parser == "python":
            client.connection_pool.connection_kwargs["parser_class"] = _RESP2Parser
        asked: list[Callable[[], object]] = [
            client.time,
            lambda: client.hgetall("key"),
            lambda: client.zrevrange("key", 0, 5, withscores=True),
            lambda: client.xread({"key": "0-0"}),
            lambda: client.xrange("key"),
            lambda: client.info("everything"),
            lambda: client.pipeline(transaction=True).time().hgetall("key").execute(),
            lambda: client.quick("GET", "key"),
            lambda: (client.later("HDEL", "key", "field"), client.quick("GET", "key")),
            lambda: blobs.get(client, "blob", 10),
            lambda: blobs.put(client, "blob", b"payload"),
        ]
        for ask in asked:
            # A value of another size than announced is a blob that is not there; all else is no Redis.
            with contextlib.suppress(BrokerUnavailable, MissingBlob), broker_errors("reading"):
                ask()


def test_one_who_answers_twice_does_not_put_replies_out_of_step() -> None:
    """What came unasked is never taken for the reply to the next command."""
    replies = iter([b"+one\r\n+unasked\r\n", b"+two\r\n", b"-ERR no\r\n+unasked\r\n", b"+three\r\n"])
    with _answering(replies.__next__) as url, connect(url) as client:
        with pytest.raises(redis.InvalidResponse):
            client.quick("GET", "key")
        assert client.quick("GET", "key") == b"two"
        with pytest.raises(redis.InvalidResponse):
            client.quick("GET", "key")
        assert client.quick("GET", "key") == b"three"


def test_a_page_in_the_place_of_an_unread_reply_costs_one_command() -> None:
    """``later`` leaves a reply unread; whatever comes instead, the commands after it get their own replies."""
    replies = iter([NOT_REDIS[0], b"+two\r\n", b"-NOAUTH go\r\n", b"+three\r\n"])
    with _answering(replies.__next__) as url, connect(url) as client:
        client.later("HDEL", "key", "field")
        with pytest.raises(BrokerUnavailable), broker_errors("reading"):
            client.quick("GET", "key")
        assert client.quick("GET", "key") == b"two"
        client.later("HDEL", "key", "field")
        assert client.quick("GET", "key") == b"three"


def test_a_refused_connection_is_the_broker_s_absence() -> None:
    """Nobody listens: the sentence names what was being done, once, and ends properly."""
    said = r"^claiming a task: the broker does not answer \(.*refused.*\)\.$"
    with pytest.raises(BrokerUnavailable, match=said), broker_errors("claiming a task"):
        connect("redis://127.0.0.1:1/0").ping()


def test_a_server_that_hangs_up_or_is_silent_is_away() -> None:
    """A connection that closes in the middle of an answer, and one that never answers, are worth a retry too."""
    with _answering(b"$100\r\nhalf") as url, pytest.raises(BrokerUnavailable), broker_errors("reading"):
        connect(url, timeout_seconds=0.2).get("key")
    with _answering(b"") as url, pytest.raises(BrokerUnavailable, match="Timeout"), broker_errors("reading"):
        connect(url, timeout_seconds=0.2).get("key")


@pytest.mark.parametrize("error", [OSError("no route"), BrokenPipeError(), redis.TimeoutError("slow"), TimeoutError()])
def test_whatever_the_network_raises_is_one_family(error: Exception) -> None:
    """The caller retries on one exception; the cause stays attached."""
    with pytest.raises(BrokerUnavailable, match=r"\(.+\)\.$") as caught, broker_errors("reading"):
        raise error
    assert caught.value.__cause__ is error


def test_other_errors_pass_unchanged() -> None:
    """What has nothing to do with the broker is not renamed, and what is already ours is not wrapped again."""
    for error in (ValueError("mine"), BrokerUnavailable("inner"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, broker_errors("reading"):
            raise error
        assert caught.value is error
