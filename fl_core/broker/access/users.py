"""Users at the server: made, changed and removed by somebody who may administer it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import redis

from fl_core.broker.connection import Client, broker_errors
from fl_core.errors import BrokerRefused, SpecError

# Words that a server of an older version does not know, and can be without.
_NEWER = ("client|setinfo", "waitaof")
_ADMINISTRATORS = ("default",)


@dataclass(frozen=True, slots=True)
class User:
    """One user as it is to be.

    Attributes:
        name: as it logs in.
        password_hashes: of the passwords that it may give, SHA-256, 32 bytes each.
        rules: its rights (``rules.py``).
    """

    name: str
    password_hashes: tuple[bytes, ...]
    rules: Sequence[str]


def set_users(client: Client, users: Iterable[User]) -> None:
    """Make each user, or change it to exactly this; connections that it has stay, with the new rights.

    Raises:
        SpecError: a name belongs to whoever administers the server.
        BrokerRefused: this user may not administer users; says which one may.
        BrokerUnavailable: the server is away.
    """
    wanted = list(users)
    for user in wanted:
        if user.name in _ADMINISTRATORS:
            raise SpecError(f"the name {user.name!r} is the server's own user; choose another one.")
    with broker_errors("setting users of the broker"):
        unknown = _unknown(client)
        pipeline = client.pipeline(transaction=False)
        for user in wanted:
            rules = [_without(rule, unknown) for rule in user.rules if rule.lstrip("+-") not in unknown]
            passwords = [f"#{hashed.hex()}" for hashed in user.password_hashes]
            words = ("reset", "on", *passwords, "resetchannels", "-@all", *rules)
            pipeline.execute_command("ACL", "SETUSER", user.name, *words)
        try:
            pipeline.execute()
        except redis.exceptions.NoPermissionError as error:
            raise BrokerRefused(
                "this user of the broker may not set users; give the address with a user who has +acl, such as default."
            ) from error


def remove_users(client: Client, names: Sequence[str]) -> int:
    """Remove users: the server closes their connections at once. How many there were.

    Raises:
        BrokerRefused: this user may not administer users.
        BrokerUnavailable: the server is away.
    """
    if not names:
        return 0
    with broker_errors("removing users of the broker"):
        return int(client.execute_command("ACL", "DELUSER", *names))


def user_names(client: Client) -> set[str]:
    """All users that the server knows.

    Raises:
        BrokerRefused, BrokerUnavailable: as above.
    """
    with broker_errors("listing users of the broker"):
        return {name.decode() for name in client.execute_command("ACL", "USERS")}


def save_users(client: Client) -> bool:
    """Have the server keep its users over a restart; False where it has no file to keep them in (``aclfile``).

    Raises:
        BrokerRefused, BrokerUnavailable: as above.
    """
    with broker_errors("saving users of the broker"):
        if not any(client.config_get("aclfile").values()):
            return False
        client.execute_command("ACL", "SAVE")
    return True


def _unknown(client: Client) -> set[str]:
    """The words of ``rules.py`` that this server has not."""
    lacking = set()
    for word in _NEWER:
        try:
            client.execute_command("ACL", "DRYRUN", "default", *word.split("|"), "x", "y")
        except redis.ResponseError as error:
            if "not found" in str(error).lower() or "unknown" in str(error).lower():
                lacking.add(word)
    return lacking


def _without(rule: str, unknown: set[str]) -> str:
    if not rule.startswith("("):
        return rule
    words = [word for word in rule[1:-1].split() if word.lstrip("+") not in unknown]
    return f"({' '.join(words)})"
