"""Proven names, without which a budget of each device means nothing."""

from __future__ import annotations

from urllib.parse import urlsplit

from fl_core.broker.url import public_url
from fl_core.errors import SpecError
from fl_core.program.host import is_loopback
from fl_core.spec import PrivacySection


def verify_proven_names(privacy: PrivacySection, broker: str, authority: bytes) -> None:
    """Refuse budgets of devices that nobody has proven: one that is reborn under another name would have a new budget.

    With ``mode = "local"`` each device keeps its own budget, under whatever name.

    Args:
        privacy: the campaign's.
        broker: its URL; a server that only this machine reaches has no devices of others.
        authority: the certificate of the authority whose devices may take part; empty for everybody.

    Raises:
        SpecError: there is no authority, and devices come from other machines.
    """
    parts = urlsplit(broker)
    if not privacy.is_central or authority or parts.scheme == "unix" or is_loopback(parts.hostname or "localhost"):
        return
    raise SpecError(
        f"privacy.mode = 'central' keeps a budget for each device, and at {public_url(broker)} any device may take "
        "another name; enrol the devices and launch with --identity (docs/security.md)."
    )
