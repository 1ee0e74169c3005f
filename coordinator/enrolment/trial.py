"""A federation for a trial on one machine: identities for all who take part.

Secure aggregation is for people who do not trust each other, each with a key of their own. A trial shows how it works
with all of them in one folder, so it protects nobody from whoever can read that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from coordinator.enrolment.authority import AUTHORITY_KEY, Authority, create_authority, open_authority
from fl_core.identity.certificates import Role

_DAYS = 30.0


def trial_federation(
    folder: Path, coordinator: str, operator: str, devices: Mapping[str, Sequence[str]], keepers: Iterable[str]
) -> dict[str, Path]:
    """The folders with everybody's identity, by name; whoever has none yet gets one.

    Args:
        folder: the authority's.
        coordinator, operator: their names; the second one can stop the campaign.
        devices: the queues that each may serve, by name.
        keepers: their names.

    Raises:
        SpecError: the folder cannot be written, or two of them have the same name.
    """
    authority = open_authority(folder) if (folder / AUTHORITY_KEY).exists() else create_authority(folder, "trial")
    members: list[tuple[str, Role, Sequence[str]]] = [
        (coordinator, Role.COORDINATOR, ()),
        (operator, Role.OPERATOR, ()),
    ]
    members += [(name, Role.KEEPER, ()) for name in keepers]
    members += [(name, Role.DEVICE, queues) for name, queues in devices.items()]
    return {name: _identity(authority, name, role, queues) for name, role, queues in members}


def _identity(authority: Authority, name: str, role: Role, queues: Sequence[str]) -> Path:
    known = authority.members.find(name)
    if known is None or known.role is not role:  # another role: the name is refused as taken
        authority.make_identity(name, role, _DAYS, queues=queues)
    return authority.folder / "identities" / name
