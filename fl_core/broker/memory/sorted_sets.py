"""The commands on sorted sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fl_core.broker.memory.keyspace import Keyspace, SortedSet


class SortedSetCommands:
    """Those that fedtide sends; see ``commands.py``."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keys = keyspace

    def do_zadd(self, key: bytes, *pairs: bytes) -> int:
        found = self._keys.made(key, SortedSet)
        before = len(found)
        for score, member in zip(pairs[::2], pairs[1::2], strict=True):
            found[member] = float(score)
        return len(found) - before

    def do_zincrby(self, key: bytes, by: bytes, member: bytes) -> bytes:
        found = self._keys.made(key, SortedSet)
        found[member] = found.get(member, 0.0) + float(by)
        return _score(found[member])

    def do_zrem(self, key: bytes, *members: bytes) -> int:
        found = self._keys.sorted_set(key)
        count = sum(found.pop(member, None) is not None for member in members)
        self._keys.tidy(key)
        return count

    def do_zscore(self, key: bytes, member: bytes) -> bytes | None:
        return self.do_zmscore(key, member)[0]

    def do_zmscore(self, key: bytes, *members: bytes) -> list[bytes | None]:
        found = self._keys.sorted_set(key)
        return [None if (score := found.get(member)) is None else _score(score) for member in members]

    def do_zcount(self, key: bytes, low: bytes, high: bytes) -> int:
        found = self._keys.sorted_set(key)
        if (b"(" in low) or (b"(" in high):
            inside = _between(low, high)
            return sum(inside(score) for score in found.values())
        return found.count(float(low), float(high))

    def do_zrange(self, key: bytes, start: bytes, end: bytes, *options: bytes) -> list[bytes]:
        given = [option.upper() for option in options]
        if b"BYSCORE" not in given:
            return _page(self._keys.sorted_set(key).ranked(), start, end, b"WITHSCORES" in given)
        return self.do_zrangebyscore(key, start, end, *(option for option in options if option.upper() != b"BYSCORE"))

    def do_zrevrange(self, key: bytes, start: bytes, end: bytes, *options: bytes) -> list[bytes]:
        return _page(self._keys.sorted_set(key).ranked(reverse=True), start, end, bool(options))

    def do_zrangebyscore(self, key: bytes, low: bytes, high: bytes, *options: bytes) -> list[bytes]:
        inside, given = _between(low, high), [option.upper() for option in options]
        found = [item for item in self._keys.sorted_set(key).ranked() if inside(item[1])]
        if b"LIMIT" in given:
            offset, count = (int(options[given.index(b"LIMIT") + at]) for at in (1, 2))
            found = found[offset : None if count < 0 else offset + count]
        return _flat(found, b"WITHSCORES" in given)

    def do_zremrangebyscore(self, key: bytes, low: bytes, high: bytes) -> int:
        found, inside = self._keys.sorted_set(key), _between(low, high)
        gone = [member for member, score in found.items() if inside(score)]
        for member in gone:
            del found[member]
        self._keys.tidy(key)
        return len(gone)


def _score(score: float) -> bytes:
    return b"%d" % score if score == int(score) else repr(score).encode()


def _between(low: bytes, high: bytes) -> Callable[[float], bool]:
    least, most = float(low.lstrip(b"(")), float(high.lstrip(b"("))
    above, below = low.startswith(b"("), high.startswith(b"(")
    return lambda score: (score > least if above else score >= least) and (score < most if below else score <= most)


def _page(ranked: list[tuple[bytes, float]], start: bytes, end: bytes, scores: bool) -> list[bytes]:
    last = int(end)
    return _flat(ranked[int(start) : None if last == -1 else last + 1], scores)


def _flat(items: Sequence[tuple[bytes, float]], scores: bool) -> list[bytes]:
    return [word for member, score in items for word in ((member, _score(score)) if scores else (member,))]
