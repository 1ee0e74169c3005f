"""A launch with privacy: refused where names prove nothing."""

from __future__ import annotations

import contextlib

import pytest

from coordinator.launch.privacy.names import verify_proven_names
from fl_core.errors import SpecError
from fl_core.spec import PrivacySection

CENTRAL = PrivacySection(mode="central", epsilon=8.0)


@pytest.mark.parametrize(
    ("privacy", "broker", "authority", "refused"),
    [
        (CENTRAL, "redis://:secret@broker.example:6379/0", b"", True),
        (CENTRAL, "rediss://10.0.0.5", b"", True),
        (CENTRAL, "rediss://broker.example", b"certificate", False),
        (CENTRAL, "redis://127.0.0.1:6399/0", b"", False),
        (CENTRAL, "redis://localhost", b"", False),
        (CENTRAL, "unix:///run/fedtide.sock", b"", False),
        (PrivacySection(mode="local", epsilon=8.0), "redis://broker.example", b"", False),
        (PrivacySection(), "redis://broker.example", b"", False),
    ],
)
def test_budgets_need_proven_names(privacy: PrivacySection, broker: str, authority: bytes, refused: bool) -> None:
    """A device that is reborn under another name has a new budget; on one machine there are no strangers."""
    with pytest.raises(SpecError, match="enrol the devices") if refused else contextlib.nullcontext() as caught:
        verify_proven_names(privacy, broker, authority)
    if refused:
        assert "secret" not in str(caught.value)  # type: ignore[union-attr]
