"""What an authority knows of each of its members: one file each, which nobody else reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fl_core.errors import SpecError
from fl_core.identity.certificates import Role
from fl_core.names import check_name
from fl_core.program.whole_file import whole_file

State = Literal["invited", "enrolled", "revoked"]


@dataclass(frozen=True, slots=True)
class Member:
    """A device, or a person's or a program's identity.

    Attributes:
        name: unique in the federation; the user at the servers, too.
        role: what it is.
        state: ``invited`` while its token has not been used.
        queues: the device classes that it may serve.
        days: how long each of its certificates is good.
        password_hash: of its password at the servers, SHA-256, hex.
        serial: of its certificate, hex; empty before the first.
        public_key: of its certificate, hex.
        certificate: the newest, DER, hex; kept until somebody has fetched it, and after.
        not_after_ms: when that ends, ms since 1970.
        secret: of its token, hex; gone once it was used.
        token_expires_ms: the token is not taken after that.
        renewal_until_ms: until then another certificate is given for a request that is signed with the present key.
        retiring: serial, hex, of the certificate before, until it is revoked.
        retires_ms: when that is due; until then the servers take the password before as well.
        retiring_password_hash: of that password, hex.
    """

    name: str
    role: Role
    state: State
    queues: tuple[str, ...] = ()
    days: float = 365.0
    password_hash: str = ""
    serial: str = ""
    public_key: str = ""
    certificate: str = ""
    not_after_ms: int = 0
    secret: str = ""
    token_expires_ms: int = 0
    renewal_until_ms: int = 0
    retiring: str = ""
    retires_ms: int = 0
    retiring_password_hash: str = ""


class Members:
    """All members, by name.

    Args:
        folder: where their files are; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __iter__(self) -> Iterator[Member]:
        for path in sorted(self._folder.glob("*.json")):
            yield self._read(path)

    def find(self, name: str) -> Member | None:
        """The member, if there is one of this name."""
        check_name("name", name)
        path = self._folder / f"{name}.json"
        return self._read(path) if path.exists() else None

    def get(self, name: str) -> Member:
        """The member.

        Raises:
            SpecError: there is none.
        """
        if (found := self.find(name)) is None:
            raise SpecError(f"{name} is no member of this federation; `fedtide device list` shows them.")
        return found

    def put(self, member: Member) -> Member:
        """Keep it, durably.

        Raises:
            SpecError: the folder cannot be written.
        """
        document: dict[str, Any] = asdict(member)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with whole_file(self._folder / f"{member.name}.json", durable=True, private=True) as file:
                file.write(json.dumps(document, indent=1).encode())
        except OSError as error:
            raise SpecError(f"{self._folder} cannot be written ({error.strerror}).") from None
        return member

    def change(self, member: Member, **fields: Any) -> Member:
        """Keep it with other values."""
        return self.put(replace(member, **fields))

    def _read(self, path: Path) -> Member:
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return Member(**{**fields, "role": Role(fields["role"]), "queues": tuple(fields["queues"])})
        except (OSError, ValueError, TypeError, KeyError):
            raise SpecError(f"{path} is damaged; take it from a copy of the authority's folder.") from None
