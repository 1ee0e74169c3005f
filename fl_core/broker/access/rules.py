"""The rights of each role, as Redis' ACL writes them.

One *selector* per kind of access: a command is allowed where one selector allows it for all the keys that it names. A
script wants read and write on the keys that it declares, while the commands inside it are judged one by one, so that
selectors protect what a flat list of keys could not: a device calls the script that reads the pointer, and cannot write
the pointer.

What these rules cannot prevent, since the commands that the work needs allow it: a device can take doorbells of its
own classes and put others there, claim a task in another's name if it knows the task's id, and fill the server's
memory, the registers of workers too. ``docs/security.md`` says what is done about each.
"""

from __future__ import annotations

from collections.abc import Sequence

from fl_core.broker import keys
from fl_core.broker.keys import (
    CAMPAIGNS,
    DEVICES,
    PREFIX,
    QUEUE_COUNTS,
    TRAIN_QUEUE_PREFIX,
    keeper_asks,
    keeper_certificate,
    live,
    train_queue,
)

# Of any campaign.
_C = PREFIX + "c:{*}:"
# What devices ask of their authority and what it answers, by name; what it has taken back; and who is a member
# (``mailbox.py``, ``member_list.py``).
REQUESTS, ANSWERS = PREFIX + "enrol:", PREFIX + "enrolled:"
REVOCATIONS = PREFIX + "revocations"
MEMBERS = PREFIX + "members"
_EVERYBODY = (
    "+hello",
    "+ping",
    "+auth",
    "+select",
    "+client|setname",
    "+client|setinfo",
    "+multi",
    "+exec",
    "+discard",
)


def invited(name: str) -> list[str]:
    """A device that has a token, and may ask for its certificate: nothing else."""
    return [*_EVERYBODY, _selector("set", "", REQUESTS + name), _selector("get", "%R", ANSWERS + name)]


def revoked() -> list[str]:
    """A device that was sent away: it may read the signed list that names it, and so know that it need not wait."""
    return ["+hello", "+auth", "+select", "+client|setinfo", _selector("get", "%R", REVOCATIONS)]


def device(name: str, queues: Sequence[str]) -> list[str]:
    """A device that works: its tasks, its beats, its own payloads.

    Args:
        name: of the device.
        queues: the classes that it may serve.
    """
    lists = [train_queue(queue) for queue in queues]
    registers = [DEVICES, *map(live, queues)]
    said = _C + "said:" + name
    declared = _of_campaigns("out", "owners", "head", "pins", "patches", "order", "rests", "inbox", "bell", "epoch")
    own_blobs = _blobs_of(name)
    readable = _of_campaigns(
        "out", "owners", "head", "patches", "order", "rests", "epoch", "model:*", "patch:*", "constants:*"
    )
    bindings = [f"{prefix}{name}" for prefix in ("_kombu.binding.", "_kombu.binding_permanent.") for name in lists]
    return [
        *_EVERYBODY,
        "+time",
        _selector("fcall", "", *declared, said, QUEUE_COUNTS, keys.device(name), *registers, *own_blobs),
        _selector("zrevrange memory|usage", "%R", CAMPAIGNS),  # `fedtide-worker --check` tries those that run
        _selector("getrange", "%R", *_of_campaigns("order", "epoch")),
        _selector("get hget hmget hexists exists strlen", "%R", *readable, QUEUE_COUNTS, REVOCATIONS, ANSWERS + name),
        _selector("hset", "%W", *_of_campaigns("pins"), QUEUE_COUNTS),
        _selector("hdel", "%W", *_of_campaigns("pins")),
        _selector("hincrby", "", QUEUE_COUNTS),
        _selector("hget hset pexpire unlink", "", keys.device(name)),
        _selector("zadd zrem", "%W", *registers),  # entries of others hold what it cannot know
        _selector("hsetnx", "%W", *_of_campaigns("owners")),
        _selector("rpush", "%W", *_of_campaigns("inbox")),
        _selector("llen", "%R", *_of_campaigns("inbox")),
        _selector("hlen", "%R", *_of_campaigns("out")),
        _selector("xadd", "%W", *_of_campaigns("bell")),
        _selector("hkeys hget hset hdel", "", said),
        _selector("expire", "%W", *own_blobs, said),
        _selector("set get exists persist unlink strlen append getrange setrange", "", *own_blobs),
        _selector("set", "%W", REQUESTS + name),
        _selector("brpop llen", "", *lists),
        _selector("lpush", "%W", *lists),  # a doorbell that it cannot answer goes back
        _selector("sadd", "%W", *bindings),
    ]


def device_at_blobs(name: str) -> list[str]:
    """The same device at the second server: versions to read, payloads of its own to write."""
    readable = _of_campaigns("model:*", "patch:*", "constants:*")
    return [
        *_EVERYBODY,
        _selector("get getrange exists strlen", "%R", *readable),
        _selector("set get exists persist expire unlink strlen getrange setrange", "", *_blobs_of(name)),
    ]


def keeper(name: str) -> list[str]:
    """A keeper: what it is asked, that it is there, and sums of masks under its own name."""
    own_blobs = _blobs_of(name)
    return [
        *_EVERYBODY,
        _selector("blpop", "", keeper_asks(name)),
        _selector("set unlink", "%W", keeper_certificate(name)),
        _selector("get", "%R", REVOCATIONS),
        _selector("getrange", "%R", *_of_campaigns("epoch")),
        _selector("rpush", "%W", *_of_campaigns("inbox")),
        _selector("xadd", "%W", *_of_campaigns("bell")),
        _selector("set persist exists strlen setrange", "", *own_blobs),
    ]


def coordinator() -> list[str]:
    """All that is a campaign's, its queues, and the registers; no user, no setting, no word on who is a member."""
    everything, queues = _C + "*", TRAIN_QUEUE_PREFIX + "*"
    registers = (DEVICES, live("*"))
    return [
        *_EVERYBODY,
        "+time",
        "+info",
        "+scan",
        "+function|list",
        "+function|load",
        _selector("fcall fcall_ro", "", PREFIX + "*"),
        _selector("type memory|usage", "%R", everything, CAMPAIGNS, QUEUE_COUNTS, *registers, queues),
        _selector("get getrange mget exists strlen pttl", "%R", everything),
        _selector("hget hmget hgetall hkeys hstrlen hscan sscan llen lindex", "%R", everything),
        _selector("xlen xread xrange xrevrange xinfo|stream", "%R", everything),
        _selector("set setrange persist expire del unlink", "%W", everything),
        _selector("hset hdel sadd ltrim xadd xdel xtrim", "%W", everything),
        _selector("zrange zrevrange", "%R", CAMPAIGNS),
        _selector("zadd zrem unlink", "%W", CAMPAIGNS),
        _selector("hget hstrlen", "%R", keys.device("*")),
        _selector("zcount zrevrange zrangebyscore", "%R", *registers),
        _selector("zremrangebyscore expire unlink", "%W", *registers),
        _selector("hincrby unlink", "", QUEUE_COUNTS),
        _selector("llen lrange", "%R", queues),
        _selector("lpush lrem unlink", "%W", queues),
        _selector("get", "%R", REVOCATIONS),
        _selector("getrange", "%R", keeper_certificate("*")),
        _selector("rpush ltrim expire", "%W", keeper_asks("*")),
    ]


def coordinator_at_blobs() -> list[str]:
    """The same coordinator at the second server: versions to write and to drop, payloads to read and to drop."""
    bulk = _of_campaigns("model:*", "patch:*", "constants:*", "blob:*")
    return [
        *_EVERYBODY,
        "+info",
        "+scan",
        _selector("get getrange exists strlen memory|usage", "%R", *bulk),
        _selector("set setrange expire unlink", "%W", *bulk),
    ]


def monitor() -> list[str]:
    """What is made to be watched, and the lengths of the rest: no update, no version, no task of anybody."""
    past = _of_campaigns("feed", "parked")
    return [
        *_EVERYBODY,
        "+time",
        "+info",
        "+echo",
        _selector("fcall_ro", "%R", *_of_campaigns("feed"), keys.device("*")),
        _selector("getrange", "%R", *_of_campaigns("status", "writer")),
        _selector("xrange xrevrange memory|usage", "%R", *past),
        _selector("xlen", "%R", *past, *_of_campaigns("log")),
        _selector("llen", "%R", *_of_campaigns("inbox")),
        _selector("zrevrange memory|usage", "%R", CAMPAIGNS),
        _selector("hget hmget hlen hgetall memory|usage", "%R", QUEUE_COUNTS),
        _selector("hget hstrlen", "%R", keys.device("*")),
        _selector("zrevrange zcount memory|usage", "%R", DEVICES, live("*")),
        _selector("hlen hscan memory|usage", "%R", MEMBERS),
        _selector("get", "%R", REVOCATIONS),
        _selector("llen lindex memory|usage", "%R", TRAIN_QUEUE_PREFIX + "*"),
    ]


def operator() -> list[str]:
    """What a monitor may, and a word to the campaigns; for which life it is, and whether it must be signed."""
    return [
        *monitor(),
        _selector("getrange", "%R", *_of_campaigns("epoch", "order")),
        _selector("xadd", "%W", *_of_campaigns("control")),
    ]


def _blobs_of(name: str) -> list[str]:
    return [f"{_C}blob:{name}:*"]


def _of_campaigns(*names: str) -> list[str]:
    return [_C + name for name in names]


def _selector(commands: str, kind: str, *keys: str) -> str:
    """One kind of access: these commands (separated by spaces) on these keys, and no others."""
    words = [f"+{command}" for command in commands.split()] + [f"{kind}~{key}" for key in keys]
    return f"({' '.join(words)})"
