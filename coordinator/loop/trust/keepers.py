"""The keepers of a campaign: found at the broker when it begins, and held against its authority."""

from __future__ import annotations

import structlog

from fl_core.broker.connection import Client
from fl_core.broker.keepers.asks import certificates
from fl_core.clock import Clock
from fl_core.errors import SpecError, UntrustedError
from fl_core.spec import SecureAggregationSection

# Keepers are started beside the coordinator now and then: it waits so long for the last of them.
WAIT_SECONDS = 60.0
LOOK_SECONDS = 0.5

log = structlog.get_logger()


def verify_authority(section: SecureAggregationSection, authority: bytes) -> None:
    """Refuse keepers without an authority, by whose word they and the devices are who they are.

    Raises:
        SpecError: there is none.
    """
    if section.is_on and not authority:
        raise SpecError(
            "secure_aggregation needs to know who is a keeper and who is a device; make an authority and launch with "
            "--identity (docs/security.md)."
        )


def find_keepers(
    client: Client, section: SecureAggregationSection, authority: bytes, machine: Clock, seconds: float = WAIT_SECONDS
) -> tuple[bytes, ...]:
    """The certificates of all keepers that the spec names, in its order; those that are not there yet are waited for.

    Raises:
        SpecError: one has not come, or is none of this authority's.
        BrokerUnavailable: unknown.
    """
    if not section.may_be_away:
        log.warning(
            "no keeper may be away: without one of them no sum can be opened", keepers=list(section.keepers),
            remedy=f"name {section.colluders + 2} keepers or more",
        )  # fmt: skip
    until, told = machine.monotonic() + seconds, False
    while True:
        found = certificates(client, section.keepers)
        missing = [name for name in section.keepers if name not in found]
        if not missing:
            break
        if machine.monotonic() >= until:
            raise SpecError(
                f"secure_aggregation.keepers: {', '.join(missing)} cannot be seen at this broker; start them with "
                "`fedtide-keeper --identity DIR`, then launch again."
            )
        if not told:
            told = True
            log.info("waiting for keepers", missing=missing, seconds=seconds)
        machine.wait(LOOK_SECONDS)
    for name, der in found.items():
        _verify(name, der, authority)
    return tuple(found[name] for name in section.keepers)


def _verify(name: str, der: bytes, authority: bytes) -> None:
    from fl_core.identity.certificates import Role, read_certificate

    try:
        certificate = read_certificate(der, authority)
    except UntrustedError as error:
        raise SpecError(f"secure_aggregation.keepers: what stands for {name} at the broker: {error}") from None
    if certificate.role is not Role.KEEPER or certificate.name != name:
        raise SpecError(
            f"secure_aggregation.keepers: what stands for {name} at the broker is of {certificate.name}, a "
            f"{certificate.role.value}."
        )
