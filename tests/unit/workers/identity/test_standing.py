"""Whether waiting is of use to a device that is refused: by its authority's word, and nobody else's."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from fl_core.broker.access.mailbox import publish_revocations
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.identity.certificates import Role, issue, make_authority, read_certificate
from fl_core.identity.folder import NEXT, complete, key_of, write_surroundings
from fl_core.identity.keys import make_key, public_bytes
from fl_core.identity.revocations import sign_revocations
from workers.identity.standing import Standing
from workers.settings import WorkerSettings

NOW = datetime.datetime.now(datetime.UTC)
KEY, OTHER_KEY = make_key(), make_key()
AUTHORITY, OTHER_AUTHORITY = make_authority(KEY, "ours", NOW), make_authority(OTHER_KEY, "ours", NOW)


class Device:
    """An enrolled device, and the broker that refuses it."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = tmp_path / "identity"
        write_surroundings(self.folder, AUTHORITY, broker="redis://127.0.0.1:1/0", blobs="")
        self.serial = self.certify("identity.pem")
        server = MemoryServer()
        self.client = MemoryClient(server)
        monkeypatch.setattr("workers.identity.standing.connect", lambda *_, **__: MemoryClient(server))
        self.settings = WorkerSettings(
            broker="redis://127.0.0.1:1/0", data="a:b", name="pi", state_dir=tmp_path, identity=self.folder
        )

    def certify(self, name: str) -> int:
        key = key_of(self.folder, name)
        der = issue(KEY, AUTHORITY, name="pi", role=Role.DEVICE, public_key=public_bytes(key), now=NOW, days=2)
        complete(self.folder, key, read_certificate(der, AUTHORITY), name)
        return read_certificate(der, AUTHORITY).serial


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, monkeypatch)


def test_only_the_authoritys_list_sends_a_device_away(device: Device) -> None:
    """Not a missing one, rubbish, one that another authority has signed, or one that names others."""
    standing = Standing(device.settings)
    assert (standing.is_known, standing.exclusion()) == (True, "")
    for found in (
        b"rubbish", sign_revocations(OTHER_KEY, OTHER_AUTHORITY, 9, [device.serial], NOW),
        sign_revocations(KEY, AUTHORITY, 1, [device.serial + 1], NOW),
    ):  # fmt: skip
        publish_revocations(device.client, found)
        assert standing.exclusion() == ""
    publish_revocations(device.client, sign_revocations(KEY, AUTHORITY, 2, [device.serial], NOW))
    assert standing.exclusion().startswith("the authority has revoked the certificate of pi")


def test_a_worker_whose_certificate_was_replaced_has_to_begin_anew(device: Device) -> None:
    """Its password ended with the one before, however long it waits."""
    standing = Standing(device.settings)
    device.certify(NEXT)
    assert standing.exclusion() == "pi was given another certificate after this worker had started; start it again."
    assert Standing(device.settings).exclusion() == ""


def test_a_certificate_that_ends_meanwhile_is_a_reason(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said with the clock, which may be wrong."""
    standing = Standing(device.settings)
    monkeypatch.setattr("fl_core.identity.folder.time.time", lambda: NOW.timestamp() + 3 * 24 * 3600)
    assert "has expired" in standing.exclusion() and "set the clock" in standing.exclusion()


def test_a_worker_without_an_identity_asks_nobody(tmp_path: Path) -> None:
    """There is no list that could name it."""
    standing = Standing(WorkerSettings(broker="redis://127.0.0.1:1/0", data="a:b", name="pi", state_dir=tmp_path))
    assert (standing.is_known, standing.exclusion()) == (False, "")
