"""The transcript: the same log gives the same key, and whatever is different gives another one."""

from __future__ import annotations

from coordinator.campaign.private.transcript import EMPTY, evidence, extended, noise_key

HASH = b"h" * 32


def test_each_part_of_an_update_counts() -> None:
    """Where it stood, what it was, and how it was weighed."""
    updates = [
        evidence("1-0", HASH, 1.0),
        evidence("1-1", HASH, 1.0),
        evidence("1-0", b"i" * 32, 1.0),
        evidence("1-0", HASH, 0.5),
    ]
    assert len(set(updates)) == 4
    assert evidence("1-0", HASH, 1.0) == updates[0]


def test_the_past_counts_and_where_it_was_cut_does_not() -> None:
    """It runs over updates; which of them made a version together is in the version's number."""
    one, two = evidence("1-0", HASH, 1.0), evidence("2-0", HASH, 1.0)
    assert extended(extended(EMPTY, [one]), [two]) == extended(EMPTY, [one, two])
    assert extended(EMPTY, [one, two]) != extended(EMPTY, [two, one])
    assert extended(EMPTY, []) == EMPTY


def test_no_key_is_used_twice() -> None:
    """Another secret, campaign, version, transcript or use: another key."""
    keys = [
        noise_key(b"s" * 32, "a-1", 1, EMPTY),
        noise_key(b"t" * 32, "a-1", 1, EMPTY),
        noise_key(b"s" * 32, "a-2", 1, EMPTY),
        noise_key(b"s" * 32, "a-1", 2, EMPTY),
        noise_key(b"s" * 32, "a-1", 1, HASH),
        noise_key(b"s" * 32, "a-1", 1, EMPTY, "bits"),
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {32}
