"""What the built-in shows say: perplexity from the loss, texts from the model, a picture of the attention."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_core.data.numerals import GERMAN, TARGET_LENGTH, german
from fl_core.errors import SpecError
from fl_core.models import attention, encoder_decoder, language_model, mlp
from fl_core.shows import heatmap, sample, translations


def test_a_sample_is_the_prompt_and_what_follows(tmp_path: Path) -> None:
    """Perplexity is e to the loss; the text begins with the prompt, has its length, and comes from the seed."""
    torch.manual_seed(0)
    model = language_model(vocabulary=97, width=8, heads=2, layers=1).eval()
    summary = {"final_loss": math.log(12.345)}
    text = sample(model, summary, tmp_path, prompt="Good é night", num_characters=20, context=8)
    first, _, rest = text.partition("\n\n")
    assert first == "perplexity per character, held out: 12.35 (97 for a guess)"
    assert rest.startswith("Good é night")
    assert len(rest) == len("Good é night") + 20
    assert text == sample(model, summary, tmp_path, prompt="Good é night", num_characters=20, context=8)
    assert "not evaluated" in sample(model, {"final_loss": None}, tmp_path, num_characters=1)


@pytest.mark.parametrize(
    "bad", [{"prompt": ""}, {"prompt": 5}, {"temperature": -1}, {"num_characters": 0}, {"context": 0}]
)
def test_bad_arguments_of_a_sample_are_named(bad: dict[str, object], tmp_path: Path) -> None:
    """One sentence names the argument and its value."""
    name, value = next(iter(bad.items()))
    with pytest.raises(SpecError, match=f"{name} = {value!r}"):
        sample(language_model(vocabulary=97), {"final_loss": 1.0}, tmp_path, **bad)  # type: ignore[arg-type]


def test_translations_are_counted(tmp_path: Path) -> None:
    """A model that always says the same word is right on the one number that is it, and the others are corrected."""
    model = encoder_decoder(source_vocabulary=31, target_vocabulary=len(GERMAN), width=8, heads=2, layers=1).eval()
    torch.nn.init.zeros_(model.output.weight)
    with torch.no_grad():
        model.output.bias.copy_(torch.eye(len(GERMAN))[GERMAN.index("zwei")])
    text = translations(model, {"final_loss": 0.0}, tmp_path, numbers=[2, 31])
    assert "without a mistake: 0 of 2000" in text
    assert f"two -> {'zwei' * TARGET_LENGTH}  (wrong: zwei)" in text
    assert text.endswith(f"(wrong: {''.join(german(31))})")


def test_the_heat_map_is_a_picture_of_the_attention(tmp_path: Path) -> None:
    """A model whose scores prefer one row puts its weight there, in the text and in the picture."""
    import matplotlib.image

    model = attention(inputs=8, length=8, hidden=4).eval()
    with torch.no_grad():
        model.place.zero_()
        model.place[2] = 5.0
        model.element.weight.zero_()
        model.attention.keys.weight.fill_(1.0)
        model.attention.query.weight.zero_()
        model.attention.score.fill_(5.0)
    text = heatmap(model, {}, tmp_path)
    assert text.startswith("rows of a digit that weigh most, from the top: 3 (100%)")
    picture = matplotlib.image.imread(tmp_path / "attention.png")
    assert picture.shape[0] > 200
    assert np.ptp(picture) > 0.5
    with pytest.raises(SpecError, match="no attention weights"):
        heatmap(mlp(inputs=64), {}, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="16 elements"):
        heatmap(attention(inputs=4, length=16), {}, tmp_path)
