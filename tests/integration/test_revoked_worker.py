"""A worker that is refused: sent away, it ends within seconds; at a server that lost its users, it waits."""

from __future__ import annotations

import json
import time
from typing import Any

from coordinator.enrolment import devices
from coordinator.enrolment.authority import create_authority
from coordinator.enrolment.servers import Servers, sync_users
from fl_core.broker.connection import connect
from fl_core.identity.certificates import Role
from fl_core.identity.token import Token
from tests.integration.lab import Lab, Program, assert_identity, until
from tests.integration.test_enrolment import enrol


def test_a_worker_waits_for_users_that_were_lost_and_ends_when_it_is_sent_away(lab: Lab) -> None:
    """In the middle of a long task, which another device does, or idle; and started again it says the same."""
    authority = create_authority(lab.folder / "authority", "ours")
    authority.make_identity("chief", Role.COORDINATOR, 2, broker=lab.url)
    with connect(lab.url) as admin:
        servers = Servers((admin,))
        tokens: list[Token] = []
        for queue, names in {"default": ["one", "two"], "other": ["idle"]}.items():
            tokens += devices.invite(authority, servers, names, broker=lab.url, blobs="", queues=[queue], days=2)
        sync_users(authority, servers)
        for token in tokens:
            enrol(authority, servers, token, lab.folder / token.name)
        spec = lab.spec(stop={"updates": 6}, dispatch={"concurrency": 1, "lease_seconds": 4.0})
        words = ["--identity", str(authority.folder / "identities/chief"), "run", str(spec)]
        coordinator = lab.program("coordinator", *words, "--out", str(lab.folder / "run"), name="coordinator")
        one = _worker(lab, "one", "--emulate-delay-seconds", "30", "--emulate-example-seconds", "0")
        idle = _worker(lab, "idle")
        one.wait_for("loading torch")

        # The server has no file for its users, and loses them.
        lab.server.stop()
        lab.server.start()
        one.wait_for("the broker refuses this worker, which nobody has sent away; waiting", seconds=20)
        until(lambda: sync_users(authority, servers))
        one.wait_for("the broker is back")
        until(lambda: _holder(lab) == "one")

        began = time.monotonic()
        devices.revoke(authority, servers, ["one", "idle"])
        assert one.wait(10) == 2, one.output
        assert idle.wait(2) == 2, idle.output
        ended = time.monotonic() - began
        two = _worker(lab, "two")
        until(lambda: any(line["kind"] == "reissue" for line in lab.history()), 20)
        again = time.monotonic() - began
        print(f"a revoked worker ended after {ended:.1f} s, its task was issued again after {again:.1f} s")
        assert one.output.splitlines()[-1].startswith("Error: the authority has revoked the certificate of one")
        assert ended < 6
        once_more = _worker(lab, "one")
        assert once_more.wait(20) == 2
        assert once_more.output.splitlines()[-1] == one.output.splitlines()[-1]
        assert coordinator.wait() == 0, coordinator.output
        two.kill()
    assert_identity(lab.summary())
    (reissued,) = [line for line in lab.history() if line["kind"] == "reissue"]
    assert reissued["reason"] == "lost"


def _worker(lab: Lab, name: str, *more: str) -> Program:
    words = ["--identity", str(lab.folder / name), "--data", "fl_core.data:digits", "--threads", "1"]
    words += [
        "--data-args",
        json.dumps({"shard": 0, "num_shards": 4}),
        "--state-dir",
        str(lab.folder / f"state-{name}"),
    ]
    return lab.program("workers", *words, *more, name=f"{name}-{time.monotonic_ns()}")


def _holder(lab: Lab) -> Any:
    return next((row["worker"] for row in lab.ask("workers") if row["holding"]), None)
