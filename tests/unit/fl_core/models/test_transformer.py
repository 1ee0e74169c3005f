"""The Transformer's two forms: who sees whom, what padding changes (nothing), and that both learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from fl_core.errors import SpecError
from fl_core.metrics.evaluation import evaluate
from fl_core.models import encoder_decoder, language_model
from fl_core.models.generate import continue_text, translate
from fl_core.models.transformer import Block, TokenEmbedding
from fl_core.spec import TrainingSection
from fl_core.training.local import train_locally

CPU = torch.device("cpu")
SMALL = {"width": 8, "heads": 2, "layers": 2}


@pytest.mark.parametrize("window", [None, 2])
def test_a_later_token_never_changes_an_earlier_output(window: int | None) -> None:
    """Causality, with full and with hierarchical attention: a change at i leaves all outputs before i as they were."""
    torch.manual_seed(0)
    model = language_model(vocabulary=11, window=window, **SMALL)
    tokens = torch.randint(0, 11, (1, 7))
    before = model(tokens)
    for i in range(7):
        changed = tokens.clone()
        changed[0, i] = (changed[0, i] + 1) % 11
        after = model(changed)
        torch.testing.assert_close(after[:, :i], before[:, :i])
        assert not torch.allclose(after[:, i:], before[:, i:])


@pytest.mark.parametrize("window", [None, 2])
def test_source_padding_changes_nothing(window: int | None) -> None:
    """A source says the same alone and padded next to a longer one, and its order counts."""
    torch.manual_seed(1)
    model = encoder_decoder(source_vocabulary=9, target_vocabulary=7, window=window, **SMALL)
    source, target = torch.tensor([[3, 5, 8]]), torch.tensor([[1, 4, 2, 6]])
    alone = model(source, target)
    padded = torch.tensor([[3, 5, 8, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
    torch.testing.assert_close(model(padded, target.expand(2, -1))[:1], alone)
    assert not torch.allclose(model(source.flip(1), target), alone)


def test_the_decoder_does_not_see_what_it_has_to_say_next() -> None:
    """In an encoder-decoder too, a later target token changes no earlier output; a source token changes all of them."""
    torch.manual_seed(2)
    model = encoder_decoder(source_vocabulary=9, target_vocabulary=7, **SMALL)
    source, target = torch.tensor([[3, 5, 8]]), torch.tensor([[1, 4, 2, 6]])
    before = model(source, target)
    after = model(source, torch.tensor([[1, 4, 5, 6]]))
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert not torch.allclose(after[:, 2:], before[:, 2:])
    assert not torch.isclose(model(torch.tensor([[3, 5, 7]]), target), before).all(dim=-1).any()


def test_an_embedding_is_its_vector_and_its_position() -> None:
    """sqrt(width) E[token] + PE[place], in float64."""
    torch.manual_seed(3)
    layer = TokenEmbedding(vocabulary=5, width=4, dropout=0.0)
    table = layer.tokens.weight.detach().double().numpy()
    found = layer(torch.tensor([[2, 2, 0]])).detach().numpy()[0]
    for place, token in enumerate([2, 2, 0]):
        position = [np.sin(place), np.cos(place), np.sin(place / 100), np.cos(place / 100)]
        np.testing.assert_allclose(found[place], 2 * table[token] + position, rtol=1e-5, atol=1e-6)


def test_a_block_adds_what_it_finds() -> None:
    """With the last layer of each part at 0, a block hands its input on."""
    block = Block(width=4, heads=2, feed_forward=8, dropout=0.0, causal=True, crossed=True)
    assert block.memory_attention is not None
    for linear in (block.attention.output, block.memory_attention.output, block.network[2]):
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(block(x, None, torch.randn(2, 5, 4)), x)


def test_a_language_model_learns_to_repeat() -> None:
    """After some local training it knows the next letter of a sequence that repeats, and goes on with it."""
    tokens = torch.arange(64 * 9).reshape(64, 9) % 4
    model = language_model(vocabulary=4, **SMALL)
    settings = TrainingSection(optimizer="adam", learning_rate=0.01, local_steps=40, batch_size=16)
    dataset = TensorDataset(tokens[:, :-1], tokens[:, 1:])
    train_locally(model, dataset, settings, seed=0, device=CPU)
    scores = evaluate(model, dataset, settings, 64, CPU)
    assert scores.accuracy is not None
    assert scores.accuracy > 0.99
    model.eval()
    prompt = torch.tensor([0, 1])
    assert continue_text(model, prompt, 6, context=8, temperature=0).tolist() == [2, 3, 0, 1, 2, 3]
    drawn = [continue_text(model, prompt, 6, context=8, temperature=1.5, seed=seed).tolist() for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1], "the same seed draws the same"
    assert len({tuple(row) for row in drawn}) > 1


def test_translating_ends_each_sentence_for_itself() -> None:
    """Greedy decoding stops a target at its end token and fills up with it; no target is longer than asked for."""
    torch.manual_seed(4)
    model = encoder_decoder(source_vocabulary=9, target_vocabulary=5, **SMALL).eval()
    source = torch.randint(1, 9, (6, 4))
    said = translate(model, source, begin=1, end=2, max_length=6)
    assert said.shape[1] <= 6
    for row, example in zip(said, source, strict=True):
        alone = translate(model, example[None], begin=1, end=2, max_length=6)[0].tolist()
        tokens = row.tolist()
        assert tokens[: len(alone)] == alone
        assert set(tokens[len(alone) :]) <= {2}
        if 2 in tokens:
            assert set(tokens[tokens.index(2) :]) == {2}


@pytest.mark.parametrize(
    ("factory", "args", "named"),
    [
        (language_model, {"vocabulary": 0}, "vocabulary = 0"),
        (language_model, {"vocabulary": 5, "width": 10, "heads": 4}, "width = 10"),
        (language_model, {"vocabulary": 5, "width": 3, "heads": 3}, "width = 3"),
        (language_model, {"vocabulary": 5, "layers": 1.5}, "layers = 1.5"),
        (language_model, {"vocabulary": 5, "window": 0}, "window = 0"),
        (language_model, {"vocabulary": 5, "dropout": -0.1}, "dropout = -0.1"),
        (encoder_decoder, {"source_vocabulary": 5, "target_vocabulary": None}, "target_vocabulary = None"),
        (encoder_decoder, {"source_vocabulary": 5, "target_vocabulary": 5, "padding": 5}, "padding = 5"),
    ],
)
def test_bad_arguments_are_named(factory: Any, args: dict[str, Any], named: str) -> None:
    """One sentence names the argument and its value."""
    with pytest.raises(SpecError, match=named):
        factory(**args)
