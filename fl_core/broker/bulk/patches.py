"""Patches: what changed between one published version and the next, for devices that hold the earlier one.

They form a chain at the broker: the digest of the earlier version leads to the patch and the digest of the later one. A
claim follows it from what the worker holds to the newest version, and offers the patches if they are fewer bytes than
the version (script ``CLAIM``). A digest and not a number, because two coordinators can publish one number twice.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Self

from fl_core.broker import rows
from fl_core.broker.bulk import blobs
from fl_core.broker.bulk.places import Places, read_place
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import Command
from fl_core.broker.line.slow_lines import Transfer
from fl_core.errors import BrokerError, MissingBlob
from fl_core.wire.digest import Bytes, digest

# A patch is wanted while it is new. One that nobody drops, since its coordinator died, ends by itself.
PATCH_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Patch:
    """One link of the chain.

    Attributes:
        leads_to: digest of the version that it makes.
        version: that version's number.
        num_bytes, digest: of the patch itself.
        codec: how the weights' part was encoded (``fl_core/codecs``); its vector is to be added, in float32, and what
            stands behind it replaces the state (``fl_core/codecs/model_payload.py``).
        place: the server that has it (``places.py``); empty is the broker.
    """

    leads_to: str
    version: int
    num_bytes: int
    digest: str
    codec: str
    place: str

    def row(self) -> str:
        """As it stands in the chain; ``CLAIM`` reads the first and the third word."""
        return f"{self.leads_to}|{self.version}|{self.num_bytes}|{self.digest}|{self.codec}|{self.place}"

    @classmethod
    def from_row(cls, row: bytes) -> Self:
        """What ``row`` wrote.

        Raises:
            BadRow: it did not.
        """
        leads_to, version, num_bytes, digest, codec, place = rows.parts(row, 6)
        return cls(
            rows.name(leads_to),
            rows.number(version),
            rows.number(num_bytes, rows.MAX_BLOB_BYTES),
            rows.name(digest),
            rows.name(codec),
            read_place(place),
        )


def write_patch(places: Places, keys: CampaignKeys, patch: Patch, payload: Bytes) -> None:
    """Write a patch's bytes; nobody sees them until the chain leads there.

    Raises:
        BrokerUnavailable: it is not there, or only a part of it.
    """
    blobs.put(places.at(patch.place), keys.patch(patch.version), payload, expire_seconds=PATCH_SECONDS)


def chain_commands(keys: CampaignKeys, held: str, patch: Patch) -> list[Command]:
    """The Redis commands that lead devices which hold the version of digest ``held`` on."""
    return [["HSET", keys.patches, held, patch.row()]]


def read_patch(places: Places, keys: CampaignKeys, patch: Patch, transfer: Transfer | None = None) -> memoryview:
    """A patch's bytes, checked against their digest.

    Args:
        transfer: called with the bytes that have come so far.

    Raises:
        MissingBlob: it is gone or damaged; fetch the version.
        BrokerUnavailable: its server is away; fetch the version.
    """
    payload = blobs.get(places.at(patch.place), keys.patch(patch.version), patch.num_bytes, None, transfer)
    if digest(payload) != patch.digest:
        raise MissingBlob(f"the patch to version {patch.version} does not have its digest")
    return payload


def drop_old_patches(client: Client, places: Places, keys: CampaignKeys, max_bytes: int) -> list[Command]:
    """Drop those with which a chain would be longer than a version; the newest ones stay.

    Args:
        max_bytes: of a version; 0 drops all.

    Returns:
        The Redis commands that drop them at the broker. Those at other servers are gone already; where such a server
        is away, they end by themselves.

    Raises:
        BrokerUnavailable: nothing was dropped.
    """
    if rows.too_large(client, [keys.patches]):
        return [["UNLINK", keys.patches]]
    with broker_errors("reading the chain of patches"):
        found = client.hgetall(keys.patches)
    chain = rows.good(keys.patches, found.items(), lambda link: (link[0], Patch.from_row(link[1])))
    commands: list[Command] = []
    kept_bytes = 0
    for held, patch in sorted(chain, key=lambda link: -link[1].version):
        kept_bytes += patch.num_bytes
        if kept_bytes < max_bytes:
            continue
        if not patch.place:
            commands += blobs.unlink_commands((keys.patch(patch.version), patch.num_bytes))
        else:
            with contextlib.suppress(BrokerError):
                blobs.delete(places.at(patch.place), (keys.patch(patch.version), patch.num_bytes))
        commands.append(["HDEL", keys.patches, held])
    return commands
