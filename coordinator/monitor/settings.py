"""The monitor's address, and what it asks of those who open it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fl_core.errors import SpecError
from fl_core.program.host import is_loopback

MIN_TOKEN_LENGTH = 16

# What a browser or any proxy sends with every request names nobody.
_NAMES_NOBODY = re.compile(
    r"host|user-agent|accept.*|cookie|connection|referer|origin|authorization|via|forwarded|x-real-ip|sec-.*|content-.*"
    r"|x-forwarded-(for|host|port|proto|server)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Access:
    """Who may see the page, and who may steer campaigns from it.

    Attributes:
        host: where the monitor listens.
        control: the token that allows to pause, resume and stop; None for a page that only shows.
        login: the token that those who watch type in; None asks nobody.
        behind_proxy: the header in which a reverse proxy names whom it let in; None for no such proxy.

    Raises:
        SpecError: others reach the host and nobody is asked, a token can be guessed, or options exclude each other.
    """

    host: str
    control: str | None = field(default=None, repr=False)
    login: str | None = field(default=None, repr=False)
    behind_proxy: str | None = None

    def __post_init__(self) -> None:
        self._check_control()
        self._check_login()
        self._check_proxy()
        if not is_loopback(self.host) and self.is_open:
            raise SpecError(
                f"--host {self.host} lets others in and nothing asks who they are; give --login TOKEN "
                "(or FEDTIDE_MONITOR_LOGIN), or --behind-proxy HEADER if a reverse proxy asks."
            )

    @property
    def is_open(self) -> bool:
        """Whether everybody who reaches the port is answered."""
        return self.login is None and self.behind_proxy is None

    def remark(self) -> str:
        """What remains for whoever starts the monitor to see to; empty if nothing does."""
        if is_loopback(self.host):
            return ""
        if self.behind_proxy is not None:
            return (
                f"who reaches this port without the proxy can write any name into {self.behind_proxy}: "
                "let the proxy alone reach it"
            )
        return "the login travels unencrypted unless a proxy with TLS is in front"

    def _check_control(self) -> None:
        if self.control is None:
            return
        if not self.control:
            raise SpecError("--control is empty; give a token, or leave the option out for a page that only shows.")
        if not is_loopback(self.host) and len(self.control) < MIN_TOKEN_LENGTH:
            raise SpecError(
                f"--control has {len(self.control)} characters; on --host {self.host}, which others reach, it needs "
                f"at least {MIN_TOKEN_LENGTH}."
            )

    def _check_login(self) -> None:
        if self.login is None:
            return
        if len(self.login) < MIN_TOKEN_LENGTH:
            raise SpecError(
                f"--login has {len(self.login)} characters; it needs at least {MIN_TOKEN_LENGTH}, such as those of "
                "`openssl rand -hex 16`."
            )
        # It travels in a header as well, where other characters arrive as something else.
        if not re.fullmatch(r"[!-~]+", self.login):
            raise SpecError("--login may hold ASCII letters, digits and punctuation alone, and no spaces.")
        if self.login == self.control:
            raise SpecError("--login and --control are the same token; give two, or all who watch can stop campaigns.")

    def _check_proxy(self) -> None:
        if self.behind_proxy is None:
            return
        if self.login is not None:
            raise SpecError("--login and --behind-proxy exclude each other; give the one that asks who somebody is.")
        if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", self.behind_proxy) or _NAMES_NOBODY.fullmatch(self.behind_proxy):
            raise SpecError(
                f"--behind-proxy {self.behind_proxy!r} is not a header that names a user; give the one that your proxy "
                "sets after it has asked, such as X-Forwarded-User."
            )
