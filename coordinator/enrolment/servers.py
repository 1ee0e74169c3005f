"""The servers' users: what follows at broker and blob server from what an authority knows of its members."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.enrolment.authority import Authority, now_ms
from coordinator.enrolment.members import Member
from fl_core.broker.access import mailbox, rules
from fl_core.broker.access.member_list import Listed, publish_members
from fl_core.broker.access.users import User, remove_users, save_users, set_users
from fl_core.identity.certificates import Role

_MAX_BATCH = 500


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers whose users an authority keeps.

    Attributes:
        clients: the broker, and the one for blobs if there is one; each with a user who may set users.
    """

    clients: tuple[Any, ...]

    @property
    def broker(self) -> Any:
        """Where requests arrive."""
        return self.clients[0]

    def set(self, members: Iterable[Member]) -> int:
        """Have each server's users follow from what the authority knows of these members, and tell those who watch.

        Returns:
            How many of them are users at the broker.
        """
        known = [member for member in members if member.role is not Role.SERVER]
        counts = []
        for number, client in enumerate(self.clients):
            users = [user for member in known if (user := user_of(member, at_blobs=number > 0)) is not None]
            for start in range(0, len(users), _MAX_BATCH):
                set_users(client, users[start : start + _MAX_BATCH])
            remove_users(client, sorted({member.name for member in known} - {user.name for user in users}))
            counts.append(len(users))
        publish_members(self.broker, {member.name: _listed(member) for member in known})
        return counts[0]

    def remove(self, names: Sequence[str]) -> None:
        """Remove users everywhere, with their connections."""
        for client in self.clients:
            remove_users(client, names)

    def save(self) -> bool:
        """Keep the users over a restart; False where a server has no file for them."""
        return all(save_users(client) for client in self.clients)


_RULES: dict[Role, Callable[[], list[str]]] = {
    Role.COORDINATOR: rules.coordinator, Role.OPERATOR: rules.operator, Role.MONITOR: rules.monitor
}  # fmt: skip


def _listed(member: Member) -> Listed:
    """What those who watch learn of a member."""
    until_ms = member.not_after_ms if member.serial else member.token_expires_ms
    return Listed(member.role.value, member.state, until_ms, member.serial, bytes.fromhex(member.certificate))


def user_of(member: Member, *, at_blobs: bool = False) -> User | None:
    """The user that follows from what the authority knows; None for who may not come in.

    Args:
        member: what it knows.
        at_blobs: at the second server, where only those are let in who move versions and payloads.
    """
    if member.role is Role.SERVER or not member.password_hash:
        return None
    if member.state == "revoked":
        # As long as its certificate would be good, after which its worker ends by itself.
        if at_blobs or member.role is not Role.DEVICE or member.not_after_ms < now_ms():
            return None
        granted = rules.revoked()
    elif at_blobs:
        if member.state == "invited" or member.role not in (Role.DEVICE, Role.COORDINATOR):
            return None
        is_device = member.role is Role.DEVICE
        granted = rules.device_at_blobs(member.name) if is_device else rules.coordinator_at_blobs()
    elif member.state == "invited":
        granted = rules.invited(member.name)
    elif member.role is Role.DEVICE:
        granted = rules.device(member.name, member.queues)
    else:
        granted = rules.keeper(member.name) if member.role is Role.KEEPER else _RULES[member.role]()
    hashes = (member.password_hash, member.retiring_password_hash)
    return User(member.name, tuple(bytes.fromhex(hashed) for hashed in hashes if hashed), granted)


def sync_users(authority: Authority, servers: Servers) -> tuple[int, bool]:
    """Have the servers' users be what the authority knows, for a new or an emptied server.

    Returns:
        How many users there are now, and whether the servers keep them over a restart.
    """
    count = servers.set(authority.members)
    mailbox.publish_revocations(servers.broker, authority.revocation_list())
    return count, servers.save()
