"""The campaign that a coordinator works on, as one value: what all of its parts know and none of them changes."""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.campaign.identity import Identity
from coordinator.outgoing.cadence import Cadence
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.clock import CampaignClock
from fl_core.broker.connection import Client
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import Writer
from fl_core.clock import Clock
from fl_core.identity.domain import Seal
from fl_core.spec import CampaignSpec
from fl_core.vectors.layout import Layout


@dataclass(frozen=True, slots=True)
class Context:
    """One campaign.

    Attributes:
        identity, spec, layout: what it is.
        client: the broker's data connection, used by the coordinator's thread alone.
        broker: the campaign there.
        clock: campaign time.
        writer: the lease, by which this coordinator alone may write there.
        cadence: how often what is done.
        authority: the certificate of the authority whose devices may take part, DER; empty for everybody.
        seal: signs as this coordinator, where the campaign has an authority; else None.
        keepers: the certificates of those who open sums of masked updates, DER; none where updates have no masks.
        blobs: the place of the server for blobs (``fl_core/broker/bulk/places.py``); empty for none.
    """

    identity: Identity
    spec: CampaignSpec
    layout: Layout
    client: Client
    broker: CampaignBroker
    clock: CampaignClock
    writer: Writer
    cadence: Cadence = field(default_factory=Cadence)
    blobs: str = ""
    authority: bytes = b""
    seal: Seal | None = None
    keepers: tuple[bytes, ...] = ()

    @property
    def keys(self) -> CampaignKeys:
        """The campaign's at the broker."""
        return self.broker.keys

    @property
    def machine(self) -> Clock:
        """This machine's clock."""
        return self.clock.machine
