"""The campaigns of a broker: list, watch and steer them from Python, as the command line does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_core.errors import CampaignError
from fl_core.wire.states import OVER

if TYPE_CHECKING:
    from fl_core.broker.overview.registry import Registry


def connect(broker: str = "", *, identity: str | Path | None = None) -> Broker:
    """The broker at a URL, which must answer now.

    Args:
        broker: ``redis://[USER:PASSWORD@]HOST:PORT/0``; with an identity, empty for the address that it keeps.
        identity: who asks: a folder that ``fedtide authority`` has made. Campaigns with an authority do only what an
            operator's identity has signed.

    Raises:
        SpecError: it is no URL of a broker, or the identity cannot be read.
        UntrustedError: the identity has expired.
        BrokerUnavailable: it does not answer.
    """
    from fl_core.broker.connection import broker_errors
    from fl_core.broker.connection import connect as reach
    from fl_core.broker.overview.registry import Registry
    from fl_core.broker.url import public_url

    seal = None
    if identity is not None:
        from fl_core.program.extras import need

        need("connect(identity=...)", "cryptography")
        from fl_core.identity.folder import read_identity
        from fl_core.identity.signer import Operator

        broker, seal = read_identity(Path(identity)).url(broker), Operator(Path(identity)).seal
    client = reach(broker, timeout_seconds=5)
    with broker_errors(f"reaching the broker at {public_url(broker)}"):
        client.ping()
    return Broker(Registry(client, seal), public_url(broker))


class Broker:
    """A broker as operators see it. ``connect`` makes it.

    Attributes:
        url: its address, without a password.
    """

    def __init__(self, registry: Registry, url: str) -> None:
        self._registry = registry
        self.url = url

    def campaigns(self) -> list[Campaign]:
        """All campaigns that it knows, the newest first."""
        return [Campaign(self._registry, name) for name, _ in self._registry.campaigns()]

    def campaign(self, wanted: str = "latest") -> Campaign:
        """One campaign: by its id, the beginning of it, or the latest.

        Raises:
            CampaignError: there is none, or more than one.
        """
        return Campaign(self._registry, self._registry.find(wanted))

    def __repr__(self) -> str:
        return f"<Broker {self.url}>"


class Campaign:
    """One campaign on a broker; requests are durable and taken in order, also while no coordinator runs.

    Attributes:
        id: the campaign's.
    """

    def __init__(self, registry: Registry, name: str) -> None:
        self._registry = registry
        self.id = name

    def status(self) -> Mapping[str, Any]:
        """The status that its coordinator wrote last, as ``fedtide status --json`` prints it."""
        return self._registry.status(self.id).to_row(self.id)

    def watch(self, seconds: float = 1.0) -> Iterator[Mapping[str, Any]]:
        """Yield its status at intervals until it has ended; the last one is the status at its end.

        Args:
            seconds: between two readings.
        """
        while True:
            status = self._registry.status(self.id)
            yield status.to_row(self.id)
            if status.is_over:
                return
            time.sleep(seconds)

    def pause(self) -> None:
        """Ask for a pause: what is out comes back and is merged, nothing new goes out.

        Raises:
            CampaignError: it has ended, or does only what an operator's identity has signed.
        """
        self._ask("pause")

    def resume(self) -> None:
        """Ask a paused campaign to go on.

        Raises:
            CampaignError: it has ended.
        """
        self._ask("resume")

    def stop(self) -> None:
        """Ask it to end with the version that it has.

        Raises:
            CampaignError: it has ended.
        """
        self._ask("stop")

    def _ask(self, request: Any) -> None:
        if (state := self._registry.status(self.id).state) in OVER:
            raise CampaignError(f"campaign {self.id} is {state}; there is nothing to {request}.")
        self._registry.request(self.id, request)

    def __repr__(self) -> str:
        return f"<Campaign {self.id}: {self._registry.status(self.id).state or 'unknown'}>"
