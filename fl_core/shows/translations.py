"""An encoder-decoder's translations of English numbers, word by word on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fl_core.data.numerals import (
    BEGIN,
    END,
    GERMAN,
    TARGET_LENGTH,
    decode_target,
    encode_source,
    english,
    german,
    numerals,
)
from fl_core.models.generate import translate
from fl_core.models.transformer import EncoderDecoder
from fl_core.shows.sample import perplexity

_NUMBERS = (0, 17, 47, 101, 1984, 4721)


def translations(
    model: EncoderDecoder,
    summary: Mapping[str, Any],
    folder: Path,
    numbers: Sequence[int] = _NUMBERS,
    test_fraction: float = 0.2,
) -> str:
    """The perplexity, the share of held-out numbers that come out right as a whole, and some to look at.

    Args:
        model: trained on ``fl_core.data:numerals``.
        summary: for ``final_loss``.
        folder: not used.
        numbers: to show, each from 0 to 9999.
        test_fraction: as in ``evaluation.data_args``, so that the same numbers are held out.
    """
    held_out = numerals(split="test", test_fraction=test_fraction).numbers
    right = sum(said == "".join(german(n)) for n, said in zip(held_out, _translate(model, held_out), strict=True))
    lines = [
        perplexity(summary, len(GERMAN), "word"),
        f"held-out numbers translated without a mistake: {right} of {len(held_out)} ({right / len(held_out):.1%})",
        "",
    ]
    for number, said in zip(numbers, _translate(model, numbers), strict=True):
        wanted = "".join(german(number))
        verdict = "" if said == wanted else f"  (wrong: {wanted})"
        lines.append(f"{' '.join(english(number))} -> {said}{verdict}")
    return "\n".join(lines)


def _translate(model: EncoderDecoder, numbers: Sequence[int]) -> list[str]:
    source = torch.stack([encode_source(number) for number in numbers])
    return [decode_target(row) for row in translate(model, source, begin=BEGIN, end=END, max_length=TARGET_LENGTH)]
