"""A resume looks before it leaps: does the campaign live elsewhere, and does the log still go on from the checkpoint?

A campaign whose log is gone behind the checkpoint that is left (the newest one is damaged, or the broker has lost its
data while no coordinator lived) goes on in a *new life*: with a new secret and a new incarnation. So no task id of
the life before is given out again, and anything that comes from it, such as an update, is recognised and counts for
nothing.
So does one whose log may lack its end, because the server was rolled back while no coordinator lived: first all that
is left of the log is applied, as it was.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from coordinator.campaign.identity import Identity
from coordinator.report.series import Series
from coordinator.storage.history import read_history
from coordinator.storage.holder import named
from fl_core.broker.campaign import ENDED, CampaignBroker
from fl_core.broker.connection import connect
from fl_core.broker.log import START
from fl_core.broker.url import public_url, same_server
from fl_core.errors import CampaignError
from fl_core.wire.log_entry import order

log = structlog.get_logger()

LOOK_SECONDS = 3.0
MAX_LIVES = 100


@dataclass(frozen=True, slots=True)
class Life:
    """What a resumed campaign goes on as.

    Attributes:
        identity: its own, or that of a new life.
        replaces: the incarnation of the life before, until the broker knows this one; empty if there is none.
        position: up to where nothing in the log counts, in a new life; else empty.
        secret_before: of the life before, of whose log the rest is to be read; empty where there is nothing to read.
    """

    identity: Identity
    replaces: str = ""
    position: str = ""
    secret_before: bytes = b""


def look_elsewhere(meta: Mapping[str, Any], url: str, here: CampaignBroker) -> None:
    """Refuse to go on where the campaign is still to be found on the broker that it ran on before.

    Args:
        meta: the checkpoint's.
        url: the broker to go on with.
        here: the campaign there.

    Raises:
        CampaignError: it runs on the other broker, or that one has its log.
        BrokerUnavailable: this broker does not answer.
    """
    campaign, _, incarnation, _ = meta["identity"]
    before = meta.get("broker", "")
    if not before or same_server(before, url) or here.incarnation() == incarnation:
        return
    try:
        there = CampaignBroker(connect(before, timeout_seconds=LOOK_SECONDS), campaign)
        known, holder = there.incarnation(), there.holder()
    except Exception as error:  # whatever may answer there by now
        log.warning(
            "the campaign ran on another broker, where it cannot be looked for; what the log there holds is left",
            campaign=campaign, before=before, now=public_url(url), reason=str(error),
        )  # fmt: skip
        return
    if known != incarnation:
        return
    if holder is not None:
        raise CampaignError(
            f"campaign {campaign} is run by {named(holder)} on the broker {before}; stop it there first, or stand by "
            f"there with --broker {before}."
        )
    raise CampaignError(
        f"campaign {campaign} ran on the broker {before}, which still has its log; go on with --broker {before}, or "
        f"give up what is there with: fedtide campaigns --clean {campaign} --broker {before}"
    )


def choose_life(
    meta: Mapping[str, Any],
    damaged: Sequence[str],
    broker: CampaignBroker,
    history: Path,
    *,
    is_over: bool,
    sent: int | None,
    arrived: int,
) -> Life:
    """Whether the campaign goes on where the checkpoint stands, or has to begin a new life there. Says what is lost.

    Args:
        meta: of the newest whole checkpoint.
        damaged: what is wrong with newer ones.
        broker: the campaign at the broker that it goes on with.
        history: the run's ``history.jsonl``.
        is_over: the checkpoint is of the campaign's end.
        sent: so many commits were sent in the checkpoint's incarnation; None where nobody knows.
        arrived: so many the broker knows of.

    Raises:
        CampaignError: the broker knows that the campaign went on, or ended, after this checkpoint.
        BrokerUnavailable: unknown.
    """
    identity = Identity(*meta["identity"])
    position, version = meta["state"]["position"], meta["state"]["strategy"].get("version", "?")
    if is_over:
        return Life(identity)
    known, replaces = broker.incarnation(), meta.get("replaces", "")
    if known == ENDED:
        raise CampaignError(
            f"campaign {identity.campaign} has ended at this broker, and the checkpoint is from before its end"
            f"{_listed(damaged)}; what it came to is in the folder of the run that ended it."
        )
    earlier = {replaces, *meta.get("epochs_before", ())}  # a server that was rolled back far enough is in one of these
    if known not in (None, identity.incarnation, *earlier):
        raise CampaignError(
            f"the broker knows campaign {identity.campaign} in a later life than this checkpoint; go on in the folder, "
            "or with the checkpoint.url, that it ran with last."
        )
    end = max(position, broker.log_end(), key=order)
    if known == replaces and replaces:
        return Life(identity, replaces, end)  # the coordinator died before it could tell the broker
    gone = known != identity.incarnation and position != START
    gap = known == identity.incarnation and order(broker.trimmed()) > order(position)
    whole = gone or gap or _has_all(meta, broker, sent, arrived)
    if not gone and not gap and whole:
        if damaged:
            log.warning("a checkpoint is damaged; the one before and the log have all of it", damaged=list(damaged))
        return Life(identity)
    reborn = replace(identity, secret=secrets.token_bytes(32), incarnation=secrets.token_hex(8))
    if not whole:
        log.warning(
            "the broker was restarted, restored or rolled back while nobody coordinated, and may lack the end of the "
            "campaign's log; going on from what it has, under new task ids",
            commits_sent="unknown" if sent is None else sent, commits_there=arrived,
            missing="what came after that, and updates that are on their way; their tasks are done again",
        )  # fmt: skip
        return Life(reborn, identity.incarnation, secret_before=identity.secret)
    updates, newest = lost_merges(history, meta["history_bytes"])
    log.warning(
        "the newest checkpoint is damaged, and the log no longer goes back to the one before"
        if damaged
        else "the broker has lost the campaign's log"
        if gone
        else "the log no longer goes back to the checkpoint",
        going_on_from_version=version,
        missing=f"{updates} merged updates, versions up to {newest}" if updates else "what came after that version",
        **({"damaged": list(damaged)} if damaged else {}),
    )
    return Life(reborn, identity.incarnation, end)


def _has_all(meta: Mapping[str, Any], broker: CampaignBroker, sent: int | None, arrived: int) -> bool:
    """Whether the broker has every commit that was sent to it: the last one may never have arrived."""
    if "server" not in meta:
        return True  # an earlier release's
    if sent is not None and sent <= arrived:
        return True
    same_run = bool(meta["server"]) and meta["server"] == broker.server_run()
    return same_run and (arrived >= meta.get("commits", 0) if sent is None else sent <= arrived + 1)


def incarnations_before(meta: Mapping[str, Any], life: Life) -> list[str]:
    """The incarnations of a campaign's lives before this one, the newest last, as its checkpoints keep them.

    Args:
        meta: of the checkpoint that it goes on from.
        life: what it goes on as.
    """
    before = [str(incarnation) for incarnation in meta.get("epochs_before", ())]
    if life.identity.incarnation != meta["identity"][2]:
        before.append(meta["identity"][2])
    return before[-MAX_LIVES:]


def lost_merges(history: Path, num_bytes: int) -> tuple[int, int]:
    """How many merged updates a history tells of behind a checkpoint's place in it, and the last of their versions."""
    series = Series()
    with contextlib.suppress(OSError, CampaignError):  # what cannot be read says nothing
        for line in read_history(history, skip_bytes=num_bytes):
            series.add(line)
    return len(series.update_tasks), series.version


def _listed(damaged: Sequence[str]) -> str:
    return f" ({'; '.join(damaged)})" if damaged else ""
