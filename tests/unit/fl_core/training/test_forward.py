"""What a batch is to a model, and which part of an output is the prediction."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fl_core.errors import DataError
from fl_core.metrics.evaluation import evaluate
from fl_core.spec import TrainingSection
from fl_core.training.forward import apply, arguments, split_batch
from fl_core.training.local import train_locally

CPU = torch.device("cpu")
X, Y = torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 0])


class _Output(OrderedDict[str, Any]):
    """Entries that are attributes too, as Hugging Face's outputs have them."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class _Classifier(nn.Module):
    """Takes what a tokenizer gives; the mask decides which tokens count."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        """Logits, and the embeddings as an auxiliary part."""
        hidden = self.embedding(input_ids)
        if attention_mask is not None:
            hidden = hidden * attention_mask.unsqueeze(-1)
        logits = self.head(hidden.mean(dim=1))
        assert labels is None, "the spec's loss counts, not the model's own"
        return _Output(loss=None, logits=logits, hidden_states=hidden)


class _Tokens(Dataset[dict[str, Any]]):
    """Examples as Hugging Face's data sets give them."""

    def __init__(self, target: str) -> None:
        self._target = target

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "input_ids": torch.full((5,), index % 2),
            "attention_mask": torch.ones(5, dtype=torch.int64),
            self._target: index % 2,
        }


class _Returning(nn.Module):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Any:
        """Whatever it was made with."""
        return self.output


@pytest.mark.parametrize("target", ["labels", "label"])
def test_a_model_of_tokens_trains_on_mappings(target: str) -> None:
    """Keyword arguments in, logits out; training and evaluation read both alike."""
    torch.manual_seed(0)
    model = _Classifier()
    settings = TrainingSection(local_steps=60, batch_size=8, learning_rate=1.0)
    done = train_locally(model, _Tokens(target), settings, seed=0, device=CPU)
    scores = evaluate(model, _Tokens(target), settings, 3, CPU)
    assert scores.accuracy == 1.0
    assert scores.loss < done.metrics["first_batch_loss"] / 2


@pytest.mark.parametrize(
    ("batch", "inputs"),
    [
        ([X, Y], X),
        ((X, Y), X),
        (((X, X), Y), (X, X)),
        ({"x": X, "target": Y}, {"x": X}),
    ],
)
def test_the_target_of_a_batch(batch: Any, inputs: Any) -> None:
    """A pair's second part, or what a mapping calls so."""
    found, target = split_batch(batch)
    assert target is Y
    assert type(found) is type(inputs)
    assert len(found) == len(inputs)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (X, ("single tensors, float32 of shape (2,)", "(x, x)")),
        ((X, X, Y), ("3 parts (float32 of shape (3, 2), ", "((a, b), target)")),
        ({"x": X, "y": Y}, ("mappings with 'x', 'y'", "labels or label or targets or target")),
        ({"x": X, "label": Y, "labels": Y}, ("must be there once",)),
        ({"label": Y}, ("beside the model's inputs",)),
        ((X, "cat"), ("target is a str",)),
        ("text", ("of type str",)),
    ],
)
def test_a_batch_without_a_target_is_refused(batch: Any, words: tuple[str, ...]) -> None:
    """The sentence says what came and what to return."""
    with pytest.raises(DataError) as refused:
        split_batch(batch)
    for word in words:
        assert word in str(refused.value)


def test_a_single_input_needs_no_name() -> None:
    """An image is the only argument of a module that calls it something else."""
    layer = nn.Sequential(nn.Linear(2, 2))
    assert torch.equal(apply(layer, {"image": X}), layer(X))
    assert arguments(layer, {"input": X}) == ((), {"input": X})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"input_ids": Y, "idx": Y}, ("_Classifier.forward has no argument 'idx'", "'input_ids', 'attention_mask'")),
        ({"attention_mask": Y}, ("cannot be called", "missing a required argument: 'input_ids'")),
        ((Y, Y, Y, Y), ("cannot be called", "a tuple of int64 (3,), int64 (3,)", "too many positional arguments")),
    ],
)
def test_inputs_that_a_model_does_not_take_are_refused(inputs: Any, words: tuple[str, ...]) -> None:
    """Before the call, so that the sentence is ours and not a TypeError from within."""
    with pytest.raises(DataError) as refused:
        apply(_Classifier(), inputs)
    for word in words:
        assert word in str(refused.value)


Named = namedtuple("Named", ["logits", "aux_logits"])


@pytest.mark.parametrize(
    "output",
    [X, _Output(loss=Y, logits=X), {"out": X, "aux": Y}, {"anything": X}, Named(X, Y), (X,), [X]],
    ids=["tensor", "logits", "out", "only_entry", "named_tuple", "tuple_of_one", "list_of_one"],
)
def test_the_prediction_of_an_output(output: Any) -> None:
    """The tensor itself, what is called logits or out, or the only part."""
    assert apply(_Returning(output), X) is X


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ((X, (X, Y)), "a tuple of float32 (3, 2), tuple;"),
        ((X, Y, Y), "a tuple of float32 (3, 2), int64 (3,), int64 (3,);"),
        (
            _Output(last_hidden_state=X, pooler_output=Y),
            "a _Output of last_hidden_state: float32 (3, 2), pooler_output: int64 (3,);",
        ),
        ({"logits": None}, "a dict of logits: NoneType;"),
        (None, "a NoneType;"),
    ],
)
def test_an_output_that_has_no_prediction_is_refused(output: Any, words: str) -> None:
    """(output, hidden) and (image, mean, variance) look alike: nothing is guessed."""
    with pytest.raises(DataError) as refused:
        apply(_Returning(output), X)
    assert f"_Returning returned {words} return the one tensor" in str(refused.value)
