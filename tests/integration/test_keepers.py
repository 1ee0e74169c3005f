"""A campaign with keepers, as real programs with the rights of their work: killed keepers and a killed coordinator."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.enrolment.authority import create_authority
from coordinator.enrolment.servers import Servers, sync_users
from coordinator.report.replay import replay_run
from fl_core.broker.connection import connect
from fl_core.identity.certificates import Role
from tests.integration.lab import Lab, Program, assert_identity, until

KEEPERS = ("bank-a", "bank-b", "auditor")
DEVICES = ("one", "two", "three")


class Federation:
    """An authority whose members have users of their own at the broker, and their programs."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.admin = connect(lab.url)
        self.authority = create_authority(lab.folder / "authority", "ours")
        roles = {
            "chief": Role.COORDINATOR,
            **dict.fromkeys(KEEPERS, Role.KEEPER),
            **dict.fromkeys(DEVICES, Role.DEVICE),
        }
        for name, role in roles.items():
            queues = ("default",) if role is Role.DEVICE else ()
            self.authority.make_identity(name, role, 2, queues=queues, broker=lab.url)
        sync_users(self.authority, Servers((self.admin,)))

    def identity(self, name: str) -> tuple[str, str]:
        return "--identity", str(self.authority.folder / "identities" / name)

    def keeper(self, name: str) -> Program:
        state = str(self.lab.folder / f"notes-{name}")
        return self.lab.program("keepers", *self.identity(name), "--state-dir", state, name=f"keeper-{name}")

    def device(self, name: str) -> Program:
        data_args = json.dumps({"shard": DEVICES.index(name), "num_shards": len(DEVICES)})
        words = ["workers", *self.identity(name), "--data", "fl_core.data:digits", "--data-args", data_args]
        words += ["--threads", "1", "--state-dir", str(self.lab.folder / f"state-{name}")]
        return self.lab.program(*words, "--emulate-delay-seconds", "0.05", name=name)

    def coordinator(self, spec: Path, *more: str) -> Program:
        out = str(self.lab.folder / "run")
        words = ["coordinator", *self.identity("chief"), "run", str(spec), "--out", out, "--trial-seconds", "0", *more]
        return self.lab.program(*words, name=f"coordinator-{len(more)}")

    def versions(self) -> int:
        return max((line["version"] for line in self.lab.history() if line["kind"] == "merge"), default=0)

    def moves_on(self, by: int = 3) -> None:
        now = self.versions()
        until(lambda: self.versions() >= now + by)


@pytest.fixture
def federation(lab: Lab) -> Iterator[Federation]:
    made = Federation(lab)
    yield made
    made.admin.close()


def test_sums_are_opened_whoever_of_them_dies(federation: Federation) -> None:
    """A keeper is killed; later no keeper answers, and the coordinator dies between an order and its answers.

    Nothing but the rights of their work is asked for, and the log leads to the same bits again.
    """
    lab = federation.lab
    spec = lab.spec(
        aggregation={"buffer_size": 3}, secure_aggregation={"keepers": list(KEEPERS), "min_devices": 2, "clip": 5.0},
        checkpoint={"keep_log": True, "every_seconds": 0.5}, stop={"updates": 100_000}, dispatch={"concurrency": 6},
    )  # fmt: skip
    keepers = {name: federation.keeper(name) for name in KEEPERS}
    for program in keepers.values():
        program.wait_for("keeper is ready")
    coordinator = federation.coordinator(spec)
    for name in DEVICES:
        federation.device(name)
    federation.moves_on()

    keepers["bank-b"].kill()
    federation.moves_on()

    for name in ("bank-a", "auditor"):
        keepers[name].send(signal.SIGSTOP)
    coordinator.wait_for("a full sum waits for keepers")
    coordinator.kill()
    for name in ("bank-a", "auditor"):
        keepers[name].send(signal.SIGCONT)
    resumed = federation.coordinator(spec, "--resume")
    federation.moves_on()
    os.kill(resumed.process.pid, signal.SIGINT)
    assert resumed.wait() == 0, resumed.output[-2000:]
    assert_identity(lab.summary())
    assert replay_run(lab.folder / "run")["equal"]
    assert [_shown(row) for row in federation.admin.execute_command("ACL", "LOG")] == []


def _shown(row: Any) -> Any:
    found = dict(zip(row[::2], row[1::2], strict=True)) if isinstance(row, list) else row
    return {key: found[key] for key in (b"username", b"object", "username", "object") if key in found}
