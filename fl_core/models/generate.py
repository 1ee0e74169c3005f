"""Generation: texts of a trained language model, and an encoder-decoder's target for a source."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fl_core.models.transformer import EncoderDecoder


@torch.inference_mode()
def continue_text(
    model: nn.Module, prompt: Tensor, num_tokens: int, *, context: int, temperature: float = 1.0, seed: int = 0
) -> Tensor:
    """Draw tokens one after another, each from softmax(logits / temperature) of the model's last output.

    Args:
        model: int64 ``(1, length)`` -> logits ``(1, length, vocabulary)``; in evaluation mode.
        prompt: int64 ``(length,)``, at least one token.
        num_tokens: to draw.
        context: tokens that the model is shown, the last ones; as many as it was trained with.
        temperature: 0 takes the most probable token; 1 draws as the model says; more is bolder.
        seed: of the draws.

    Returns:
        int64 ``(num_tokens,)``, without the prompt.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = prompt
    for _ in range(num_tokens):
        logits = model(tokens[-context:].unsqueeze(0))[0, -1].float()
        if temperature > 0:
            drawn = torch.multinomial((logits / temperature).softmax(dim=-1), 1, generator=generator)
        else:
            drawn = logits.argmax(dim=-1, keepdim=True)
        tokens = torch.cat([tokens, drawn])
    return tokens[len(prompt) :]


@torch.inference_mode()
def translate(model: EncoderDecoder, source: Tensor, *, begin: int, end: int, max_length: int) -> Tensor:
    """The most probable next token, again and again, until the target ends.

    Args:
        model: in evaluation mode.
        source: int64 ``(batch, source_length)``, padded.
        begin, end: the target's tokens that stand before its first and after its last.
        max_length: of the target.

    Returns:
        int64 ``(batch, length)``; after an ``end`` there is nothing but ``end``.
    """
    memory = model.encode(source)
    target = torch.full((len(source), 1), begin)
    ended = torch.zeros(len(source), dtype=torch.bool)
    while target.shape[1] <= max_length and not bool(ended.all()):
        best = torch.where(ended, end, model.decode(target, *memory)[:, -1].argmax(dim=-1))
        ended = ended | (best == end)
        target = torch.cat([target, best.unsqueeze(1)], dim=1)
    return target[:, 1:]
