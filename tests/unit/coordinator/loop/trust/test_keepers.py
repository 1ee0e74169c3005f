"""Keepers at a launch: found by name, of this authority, and waited for a while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.loop.trust import keepers
from coordinator.loop.trust.keepers import find_keepers, verify_authority
from fl_core.errors import SpecError
from fl_core.identity.certificates import Role
from fl_core.spec import SecureAggregationSection
from tests.unit.coordinator.stand_ins import FakeClock
from tests.unit.keepers.federation import Authority, Federation

SECTION = SecureAggregationSection(keepers=("keeper-0", "keeper-1", "keeper-2"))


def test_keepers_need_an_authority() -> None:
    """Without one nobody knows who is one."""
    with pytest.raises(SpecError, match="make an authority and launch with --identity"):
        verify_authority(SECTION, b"")
    verify_authority(SECTION, b"x")
    verify_authority(SecureAggregationSection(), b"")


def test_the_last_keeper_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their certificates come in the order of the spec; who does not come is named."""
    federation, clock = Federation(tmp_path), FakeClock()
    ders = {name: one.certificate.der for name, one in federation.identities.items()}
    late = ["keeper-1"]

    def there(client: Any, names: Any) -> dict[str, bytes]:
        if clock.now > 30:
            late.clear()
        return {name: ders[name] for name in reversed(names) if name not in late}

    monkeypatch.setattr(keepers, "certificates", there)
    monkeypatch.setattr(clock, "wait", lambda seconds, *_: setattr(clock, "now", clock.now + seconds), raising=False)
    found = find_keepers(None, SECTION, federation.authority.certificate, clock)
    assert found == tuple(ders.values())
    late.append("keeper-2")
    clock.now = -1000.0
    with pytest.raises(SpecError, match="keeper-2 cannot be seen"):
        find_keepers(None, SECTION, federation.authority.certificate, clock, seconds=5)


@pytest.mark.parametrize("whose", ["device", "stranger", "another name", "rubbish"])
def test_what_stands_for_a_keeper_is_held_against_the_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """Anybody who may write to the broker can put something there."""
    federation = Federation(tmp_path)
    wrong = {
        "device": lambda: federation.device("keeper-0").certificate.der,
        "stranger": lambda: Authority(tmp_path).member("keeper-0", Role.KEEPER).certificate.der,
        "another name": lambda: federation.identities["keeper-1"].certificate.der,
        "rubbish": lambda: b"rubbish",
    }[whose]()
    ders = {name: one.certificate.der for name, one in federation.identities.items()} | {"keeper-0": wrong}
    monkeypatch.setattr(keepers, "certificates", lambda client, names: ders)
    with pytest.raises(SpecError, match="what stands for keeper-0"):
        find_keepers(None, SECTION, federation.authority.certificate, FakeClock())
