"""Tokens that others give: compared in constant time, and wrong ones limited in number."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from dataclasses import dataclass

from starlette.requests import Request

from fl_core.clock import MACHINE, Clock

MAX_WRONG = 20
"""So many wrong tokens are looked at from one address within ``WINDOW_SECONDS``."""
WINDOW_SECONDS = 60.0
WRONG_DELAY_SECONDS = 0.3
MAX_ADDRESSES = 10_000


@dataclass(frozen=True)
class Refusal:
    """Why a token does not open anything: a status of HTTP, and a sentence."""

    status: int
    sentence: str

    @property
    def headers(self) -> dict[str, str]:
        """What the status asks for."""
        return {"Retry-After": str(round(WINDOW_SECONDS))} if self.status == 429 else {"WWW-Authenticate": "Bearer"}


class TokenCheck:
    """Compares tokens, and remembers by address how many were wrong."""

    def __init__(self, clock: Clock = MACHINE) -> None:
        self._clock = clock
        # By address: since when, and how many were wrong since.
        self._wrong: dict[str, tuple[float, int]] = {}

    async def refuse(self, request: Request, given: str, token: str, option: str) -> Refusal | None:
        """None if it is the token of the option.

        After too many wrong ones, the right one is refused too: otherwise the limit would limit nothing.
        """
        address, now = _address(request), self._clock.monotonic()
        since, count = self._wrong.get(address, (now, 0))
        if now - since >= WINDOW_SECONDS:
            since, count = now, 0
        if count >= MAX_WRONG:
            return Refusal(429, f"too many wrong tokens came from here; try again in {WINDOW_SECONDS:.0f} s.")
        if hmac.compare_digest(given.encode(errors="surrogatepass"), token.encode(errors="surrogatepass")):
            return None
        self._wrong.pop(address, None)
        if len(self._wrong) >= MAX_ADDRESSES:
            del self._wrong[next(iter(self._wrong))]
        self._wrong[address] = since, count + 1
        await asyncio.sleep(WRONG_DELAY_SECONDS)
        return Refusal(401, f"the token is not the one of {option}.")


def bearer(request: Request) -> str | None:
    """The token in ``Authorization: Bearer``; None without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


def _address(request: Request) -> str:
    """Whose tokens are counted together: an address, or the network of one customer, which has many (IPv6's /64)."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address), 64), strict=False))
    return host
