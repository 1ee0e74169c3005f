"""A text that a character language model writes, and its perplexity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from fl_core.data.text import VOCABULARY, decode, encode
from fl_core.errors import SpecError
from fl_core.models.generate import continue_text


def sample(
    model: nn.Module,
    summary: Mapping[str, Any],
    folder: Path,
    prompt: str = "O ",
    num_characters: int = 300,
    temperature: float = 0.7,
    context: int = 64,
    seed: int = 0,
) -> str:
    """The perplexity of the last evaluation, and a text that the model made up.

    Args:
        model: a language model over the 97 characters of ``fl_core.data:play``.
        summary: for ``final_loss``.
        folder: not used.
        prompt: what the text begins with; at least one character.
        num_characters: how many the model adds.
        temperature: 0 takes the most probable character each time, 1 draws as the model says.
        context: how many of the last characters the model is shown: as many as in training.
        seed: of the draws.

    Raises:
        SpecError: an argument is wrong.
    """
    if not isinstance(prompt, str) or not prompt:
        raise SpecError(f"prompt = {prompt!r} is no text; give at least one character.")
    if temperature < 0 or num_characters < 1 or context < 1:
        raise SpecError(
            f"temperature = {temperature}, num_characters = {num_characters}, context = {context}: write a temperature "
            "of at least 0 and numbers of at least 1."
        )
    drawn = continue_text(
        model, encode(prompt).long(), num_characters, context=context, temperature=temperature, seed=seed
    )
    return f"{perplexity(summary, VOCABULARY, 'character')}\n\n{prompt}{decode(drawn)}"


def perplexity(summary: Mapping[str, Any], vocabulary: int, token: str) -> str:
    """One line: e to the mean held-out loss per token, between 1 and, for a model that knows nothing, ``vocabulary``.

    >>> perplexity({"final_loss": math.log(8)}, 97, "character")
    'perplexity per character, held out: 8.00 (97 for a guess)'
    """
    loss = summary["final_loss"]
    value = "not evaluated" if loss is None else f"{math.exp(min(loss, 700.0)):.2f}"
    return f"perplexity per {token}, held out: {value} ({vocabulary} for a guess)"
