"""How workers stand with the authority: as it publishes, proven where it is known, and nothing where there is none."""

from __future__ import annotations

import datetime
import time
from dataclasses import replace

import pytest
import redis

from coordinator.monitor import views
from coordinator.monitor.members import Members, in_words, read_published
from coordinator.monitor.metrics import exposition
from coordinator.monitor.observer import Observer
from coordinator.monitor.queues import look_at_workers
from coordinator.monitor.track import Track
from fl_core.broker.access.mailbox import publish_revocations
from fl_core.broker.access.member_list import Listed, publish_members
from fl_core.broker.access.rules import MEMBERS
from fl_core.broker.overview.roster import Roster
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.identity.certificates import Role, read_certificate
from fl_core.identity.keys import make_key
from fl_core.wire.feed_lines import RejectionsLine
from fl_core.wire.messages import Beat
from tests.unit.federation import Federation

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def federation() -> Federation:
    return Federation(datetime.datetime.now(datetime.UTC))


def _listed(federation: Federation, name: str, days: float = 100.5, role: Role = Role.DEVICE) -> Listed:
    der = federation.certificate(name, role, make_key(), days)
    certificate = read_certificate(der, federation.authority)
    return Listed(role.value, "enrolled", certificate.not_after_ms, f"{certificate.serial:x}", der)


def test_each_state_is_told(client: redis.Redis, federation: Federation) -> None:
    """Of a member by its row and its certificate, of all others that they are none."""
    now_ms = int(time.time() * 1000)
    soon, today, gone = (_listed(federation, name, days) for name, days in (("s", 6.5), ("t", 0.5), ("g", -1.0)))
    away = replace(_listed(federation, "away"), state="revoked")
    members = {
        "in": _listed(federation, "in"), "s": soon, "t": today, "g": gone, "away": away,
        "guest": Listed("device", "invited", now_ms + DAY_MS), "boss": _listed(federation, "boss", role=Role.OPERATOR),
    }  # fmt: skip
    publish_members(client, members)
    for authority in (b"", federation.authority):
        found = read_published(client, authority)
        told = {name: standing.text for name in (*members, "no") if (standing := found.standing(name)) is not None}
        until = time.strftime("%Y-%m-%d", time.localtime(members["in"].until_ms / 1000))
        assert told == {
            "in": f"enrolled until {until}", "s": "expires in 6 days", "t": "expires today", "g": "expired",
            "away": "revoked", "guest": "invited", "no": "not enrolled", "boss": f"enrolled until {until}",
        }  # fmt: skip
        assert in_words(found.counts()) == "4 enrolled (2 expiring soon), 1 invited, 1 expired, 1 revoked"


def test_without_an_authority_there_is_nothing_to_tell(client: redis.Redis, broker_server: EmbeddedServer) -> None:
    """Not in a row, not in numbers, not in the metrics."""
    Roster(client).beat(_beat("w"))
    observer = Observer(client)
    seen = observer.poll()
    page = views.worker_page(seen, None, queues=None, page=0, size=5, sort="worker", search="")
    assert "identity" not in page["rows"][0]
    assert views.overview(observer, seen)["members"] is None
    assert b"fedtide_members" not in exposition(observer)
    assert "identity" not in look_at_workers(broker_server.url)[0]


def test_who_knows_the_authority_believes_its_signature_alone(client: redis.Redis, federation: Federation) -> None:
    """Rows of another authority, for another name, with another end, or without a certificate, are told as such."""
    mine, other = _listed(federation, "mine"), _listed(Federation(datetime.datetime.now(datetime.UTC)), "other")
    publish_members(
        client,
        {
            "mine": mine, "other": other, "stolen": mine, "longer": replace(mine, until_ms=mine.until_ms + DAY_MS),
            "bare": replace(mine, certificate=b""), "rubbish": replace(mine, certificate=b"x" * 300),
        },
    )  # fmt: skip
    found = read_published(client, federation.authority)
    states = {name: standing.state for name in found.listed if (standing := found.standing(name)) is not None}
    assert states == {"mine": "enrolled"} | dict.fromkeys(("other", "stolen", "longer", "bare", "rubbish"), "unproven")


def test_the_authoritys_list_counts_more_than_a_row(client: redis.Redis, federation: Federation) -> None:
    """Somebody has put the row of a revoked member back; a list of another authority takes nobody back."""
    member = _listed(federation, "phone")
    publish_members(client, {"phone": member})
    stranger = Federation(datetime.datetime.now(datetime.UTC))
    for by, state in ((stranger, "enrolled"), (federation, "revoked")):
        publish_revocations(client, by.revocations(1, [int(member.serial, 16)]))
        standing = read_published(client, federation.authority).standing("phone")
        assert standing is not None
        assert standing.state == state


def test_what_somebody_else_wrote_ends_nobody(client: redis.Redis) -> None:
    """A row that cannot be read is left out."""
    good = Listed("device", "enrolled", int(time.time() * 1000) + 100 * DAY_MS, "ab")
    publish_members(client, {"good": good})
    client.hset(MEMBERS, mapping={"words": b"a|b|c|d|e", "few": b"a|b", "long": b"x" * 10_000, "no name": good.row()})
    assert dict(read_published(client).listed) == {"good": good}
    client.delete(MEMBERS)
    client.set(MEMBERS, "another type")
    assert read_published(client) == Members()


def test_the_page_says_it_beside_each_worker(client: redis.Redis, federation: Federation) -> None:
    """With what was refused for who had sent it, of a campaign that is looked at."""
    publish_members(
        client, {"in": _listed(federation, "in"), "out": replace(_listed(federation, "out"), state="revoked")}
    )
    for name in ("in", "stranger"):
        Roster(client).beat(_beat(name))
    observer = Observer(client, federation.authority)
    seen = observer.poll()
    track = Track()
    track.add([RejectionsLine(seconds=1.0, reasons={"revoked": 3}, workers={"out": 3}, untrusted={"out": 3, "": 1})])
    page = views.worker_page(seen, track, queues=None, page=0, size=5, sort="worker", search="")
    rows = {row["worker"]: (row["identity"], row["untrusted"]) for row in page["rows"]}
    assert rows == {"in": ("enrolled", 0), "out": ("revoked", 3), "stranger": ("unknown", 0)}
    assert views.overview(observer, seen)["members"] == "1 enrolled, 1 revoked"
    assert b'fedtide_members{state="revoked"} 1.0' in exposition(observer)


def test_of_more_members_than_are_read_nobody_is_called_a_stranger() -> None:
    """Who was not read may be one."""
    assert Members({"a": Listed("device", "enrolled", 1, "ab")}, is_whole=False).standing("b") is None


def _beat(worker: str) -> Beat:
    return Beat(
        worker=worker, state="idle", queues=("default",), holding="", host="h", pid=1, started_ms=1, threads=1,
        device="cpu", num_done=0, num_failed=0, bytes_up=0, bytes_down=0,
    )  # fmt: skip
