"""The rights of each role, as Redis' ACL writes them.

One *selector* per kind of access: a command is allowed where one selector allows it for all the keys that it names. A
script wants read and write on the keys that it declares, while the commands inside it are judged one by one, so that
selectors protect what a flat list of keys could not: a device calls the script that reads the pointer, and cannot write
the pointer.

What these rules cannot prevent, since the commands that the work needs allow it: a device can take doorbells of its
own classes and put others there, write over the row of a task in ``owners`` if it knows the task's id, trim the log
with the command that adds to it, and fill the server's memory. ``docs/security.md`` says what is done about each.
"""

from __future__ import annotations

from collections.abc import Sequence

from fl_core.broker.keys import BEATS, HOLDING, PREFIX, QUEUE_COUNTS, SEEN, TRAIN_QUEUE_PREFIX, live, train_queue

# Of any campaign.
_C = PREFIX + "c:{*}:"
REQUESTS, ANSWERS = PREFIX + "enrol:", PREFIX + "enrolled:"
REVOCATIONS = PREFIX + "revocations"
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


def device(name: str, queues: Sequence[str]) -> list[str]:
    """A device that works: its tasks, its beats, its own payloads.

    Args:
        name: of the device.
        queues: the classes that it may serve.
    """
    lists = [train_queue(queue) for queue in queues]
    registers = [live(queue) for queue in queues]
    declared = _of_campaigns("out", "owners", "head", "pins", "patches", "order", "log", "epoch")
    own_blobs = [f"{_C}blob:*.{name}", f"{_C}blob:*.{name}:*", f"{_C}blob:*.{name}.*"]
    readable = _of_campaigns("out", "owners", "head", "patches", "order", "epoch", "model:*", "patch:*", "constants:*")
    bindings = [f"{prefix}{name}" for prefix in ("_kombu.binding.", "_kombu.binding_permanent.") for name in lists]
    return [
        *_EVERYBODY,
        "+time",
        "+script|load",
        _selector("evalsha", "", *declared, QUEUE_COUNTS, BEATS, SEEN, HOLDING, *registers, *own_blobs),
        _selector("get hget hmget hexists exists strlen", "%R", *readable, QUEUE_COUNTS, REVOCATIONS, ANSWERS + name),
        _selector("hset", "%W", *_of_campaigns("owners", "pins"), QUEUE_COUNTS, BEATS, HOLDING),
        _selector("hdel", "%W", *_of_campaigns("pins"), BEATS, HOLDING),
        _selector("hincrby", "", QUEUE_COUNTS),
        _selector("zadd zrem", "%W", SEEN, *registers),
        _selector("zremrangebyscore pexpire", "%W", *registers),
        _selector("xadd", "%W", *_of_campaigns("log")),
        _selector("expire", "%W", *_of_campaigns("log"), *own_blobs),
        _selector("set get exists persist unlink strlen append getrange setrange", "", *own_blobs),
        _selector("set", "%W", REQUESTS + name),
        _selector("brpop llen", "", *lists),
        _selector("lpush", "%W", *lists),  # a doorbell that it cannot answer goes back
        _selector("sadd", "%W", *bindings),
    ]


def coordinator() -> list[str]:
    """All keys of fedtide's, and the commands that its work needs; no user, no setting of the server."""
    return [
        *_EVERYBODY, f"~{PREFIX}*", f"~{TRAIN_QUEUE_PREFIX}*", "~_kombu.binding.*", "+@read", "+@write", "+@scripting",
        "+@transaction", "+time", "+info", "+config|get", "+xinfo", "+memory|usage", "+wait", "+waitaof", "+dbsize",
        "+client|id", "+latency|latest", "+object", "+role", "+lastsave", "+command", "-flushdb", "-flushall",
        "-swapdb", "-@dangerous", "+info", "+config|get", "+role", "+lastsave", "+keys", "-migrate", "-restore",
    ]  # fmt: skip


def monitor() -> list[str]:
    """Reading alone."""
    return [
        *_EVERYBODY, f"%R~{PREFIX}*", f"%R~{TRAIN_QUEUE_PREFIX}*", "+@read", "-@dangerous", "+time", "+info",
        "+config|get", "+xinfo", "+role", "+lastsave", "+script|load", _selector("evalsha", "", f"{PREFIX}*"),
    ]  # fmt: skip


def operator() -> list[str]:
    """What a monitor may, and a word to the campaigns."""
    return [*monitor(), _selector("xadd", "%W", _C + "control")]


def _of_campaigns(*names: str) -> list[str]:
    return [_C + name for name in names]


def _selector(commands: str, kind: str, *keys: str) -> str:
    """One kind of access: these commands (separated by spaces) on these keys, and no others."""
    words = [f"+{command}" for command in commands.split()] + [f"{kind}~{key}" for key in keys]
    return f"({' '.join(words)})"
