"""Under which authority a campaign runs, and as whom its coordinator signs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from fl_core.errors import SpecError
from fl_core.identity.domain import Seal

if TYPE_CHECKING:
    from fl_core.identity.folder import Identity

_NEEDED = (
    "this campaign has an authority, and devices do only what a coordinator of it has signed; go on with "
    "`fedtide --identity DIR run`, the folder of one."
)

log = structlog.get_logger()


def membership(identity: Identity | None, saved: Mapping[str, Any] | None) -> tuple[bytes, Seal | None]:
    """The authority's certificate, empty for none, and what signs as this coordinator.

    Args:
        identity: of this coordinator; None for none.
        saved: the state in the checkpoint that is gone on from; None for a new campaign, which takes the authority of
            its coordinator. Another one keeps what it began with: devices trust it for that.

    Raises:
        SpecError: the campaign has an authority, and this coordinator is none of its members.
    """
    authority = b""
    if saved is None:
        authority = b"" if identity is None else identity.authority
    elif (signers := saved.get("signers")) is not None:
        authority = signers["authority"]
    if not authority:
        if identity is not None:
            log.warning("the campaign was launched without an authority; devices with an identity do no task of it")
        return b"", None
    if identity is None:
        raise SpecError(_NEEDED)
    if identity.authority != authority:
        raise SpecError(
            f"{identity.folder} is of another authority than the campaign, whose devices would not trust it; give "
            "--identity DIR, the folder of a coordinator of theirs."
        )
    from fl_core.identity.signer import Signer
    from fl_core.program.extras import need

    need("a campaign with an authority", "blake3")
    return authority, Signer(identity).seal


def verify_membership(signed_under: bytes, authority: bytes) -> None:
    """Hold what a coordinator signs against what the log says, which may know more than the checkpoint did.

    Args:
        signed_under: the authority whose coordinator this is; empty for none.
        authority: the campaign's, as of the log.

    Raises:
        SpecError: the campaign has one, and this coordinator signs nothing under it.
    """
    if authority and signed_under != authority:
        raise SpecError(_NEEDED)
