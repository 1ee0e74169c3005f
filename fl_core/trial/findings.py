"""Findings of checks on servers, specs, models and data: each check gives one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw.

    Attributes:
        name: the check, one or two words.
        verdict: ``fail`` when a campaign must not start like this, ``warning`` when it may but somebody should look,
            ``ok`` otherwise.
        detail: the value that was found.
        remedy: what to do about it; empty when the verdict is ``ok``, or where the detail says it.
    """

    name: str
    verdict: Literal["ok", "warning", "fail"]
    detail: str
    remedy: str = ""

    @property
    def sentence(self) -> str:
        """Detail and remedy.

        >>> Finding("clock", "warning", "3 s apart", "synchronise it").sentence
        '3 s apart; synchronise it.'
        """
        detail = self.detail.rstrip(".")
        return f"{detail}; {self.remedy.rstrip('.')}." if self.remedy else f"{detail}."


@dataclass(frozen=True, slots=True)
class Doing:
    """What a check does from now on, for those who wait for it or see it die.

    Attributes:
        name: of the finding, should it never come.
        what: in words, such as ``"loading evaluation.data = 'mine:data'"``.
    """

    name: str
    what: str


Step = Finding | Doing


def faults(findings: Iterable[Finding]) -> list[Finding]:
    """Those that a campaign must not start with."""
    return [finding for finding in findings if finding.verdict == "fail"]
