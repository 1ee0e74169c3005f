"""What keepers are asked, on a list each; and their certificates, by which a campaign and its devices know them.

A certificate stands there as long as its keeper says so again, so it is a sign of life as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.keys import keeper_asks, keeper_certificate
from fl_core.broker.lease import Command
from fl_core.broker.line.reply_bound import ReplyTooLong
from fl_core.wire.signed import MAX_CERTIFICATE_BYTES

SAY_SECONDS = 5.0
# A keeper that has not said so for this long is away.
AWAY_SECONDS = 20
# What a keeper that is away finds when it comes back: more would be asked again in any case.
_MAX_ASKS = 64
_ASK_SECONDS = 3600


def announce(client: Client, name: str, certificate: bytes) -> None:
    """This keeper is there.

    Raises:
        BrokerUnavailable: not now.
    """
    with broker_errors("saying that this keeper is there"):
        client.set(keeper_certificate(name), certificate, ex=AWAY_SECONDS)


def take_leave(client: Client, name: str) -> None:
    """This keeper is there no more.

    Raises:
        BrokerUnavailable: it is noticed all the same.
    """
    with broker_errors("taking leave"):
        client.unlink(keeper_certificate(name))


def certificates(client: Client, names: Sequence[str]) -> dict[str, bytes]:
    """The certificates of those of some keepers that are there, DER, not yet trusted.

    Raises:
        BrokerUnavailable: unknown.
    """
    with broker_errors("looking for keepers"), client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.getrange(keeper_certificate(name), 0, MAX_CERTIFICATE_BYTES)
        found = pipeline.execute(raise_on_error=False)
    return {name: value for name, value in zip(names, found, strict=True) if isinstance(value, bytes) and value}


def ask_commands(name: str, ask: bytes) -> list[Command]:
    """Put an ask on a keeper's list."""
    key = keeper_asks(name)
    return [["RPUSH", key, ask], ["LTRIM", key, str(-_MAX_ASKS), "-1"], ["EXPIRE", key, str(_ASK_SECONDS)]]


def take(client: Client, name: str, wait_seconds: float) -> bytes | None:
    """The next thing that this keeper is asked; None where nothing came in that time.

    Raises:
        BrokerUnavailable: unknown.
    """
    with broker_errors("waiting for what is asked"):
        try:
            found = client.blpop([keeper_asks(name)], timeout=wait_seconds)
        except ReplyTooLong:  # longer than any request; it is off the list
            return None
    return None if found is None else found[1]
