"""Which targets of a batch count, as each loss understands them, and the shares that are counted from them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import SpecError
from fl_core.metrics.counted import Counted, counted
from fl_core.metrics.names import METRICS, best_possible, is_built_in, kind_of, needs_torchmetrics, top_k
from fl_core.metrics.shares import BalancedAccuracy, Share
from fl_core.spec import TrainingSection
from fl_core.training.losses import Loss


def _pairs(loss: str, output: torch.Tensor, target: torch.Tensor, **settings: int) -> Counted:
    return counted(Loss(TrainingSection(loss=loss, **settings)), output, target)


def test_classes_in_any_axis_and_without_those_that_are_ignored() -> None:
    """A label of padding says nothing."""
    output, target = torch.randn(2, 5, 3), torch.tensor([[0, 1, -100], [4, -100, 2]])
    found = _pairs("cross_entropy", output, target)
    assert (found.kind, found.output.shape) == ("classes", (4, 5))
    assert found.target.tolist() == [0, 1, 4, 2]
    assert torch.equal(found.output[1], output[0, :, 1])
    soft = _pairs("cross_entropy", torch.randn(3, 4), torch.eye(4)[:3])
    assert soft.target.tolist() == [0, 1, 2]


def test_one_logit_each_and_numbers() -> None:
    """A target above one half is yes; a table of numbers keeps its columns."""
    yes_no = _pairs("bce_with_logits", torch.randn(4, 1), torch.tensor([[0.0], [1.0], [0.7], [0.2]]))
    assert (yes_no.kind, yes_no.target.tolist()) == ("binary", [0, 1, 1, 0])
    assert _pairs("mse", torch.randn(6, 2), torch.randn(6, 2)).output.shape == (6, 2)
    assert _pairs("l1", torch.randn(6), torch.randn(6)).output.shape == (6, 1)


def test_a_diverged_model_s_output_is_told_from_a_masked_class() -> None:
    """Minus infinity takes a class away, and is no divergence."""
    target = torch.tensor([0])
    assert Counted("classes", torch.tensor([[0.0, -torch.inf]]), target).is_finite
    assert not Counted("classes", torch.tensor([[0.0, torch.inf]]), target).is_finite
    assert not Counted("classes", torch.tensor([[0.0, torch.nan]]), target).is_finite


def test_a_metric_of_classes_needs_classes() -> None:
    """A column of zeros and ones is taken for yes and no; a class that the model does not have is refused."""
    column = Counted("numbers", torch.randn(3, 1), torch.tensor([[0.0], [1.0], [1.0]]))
    assert column.as_classes("auc").kind == "binary"
    with pytest.raises(SpecError, match="auc is of classes"):
        Counted("numbers", torch.randn(3, 1), torch.tensor([[0.0], [1.0], [2.5]])).as_classes("auc")
    with pytest.raises(SpecError, match="from 0 to 3, and the model puts out 3 classes"):
        Counted("classes", torch.randn(2, 3), torch.tensor([0, 3])).as_classes("f1")


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.lists(st.integers(1, 9), max_size=6),
    st.integers(0, 99),
)
def test_shares_do_not_depend_on_batches(targets: list[int], cuts: list[int], seed: int) -> None:
    """They are sums of whole numbers, and agree with a count by hand."""
    target = torch.tensor(targets)
    output = torch.randn(len(targets), 4, generator=torch.Generator().manual_seed(seed))
    sizes = [*cuts, len(targets)]
    scorers = (Share(1, "accuracy"), Share(2, "top_2_accuracy"), BalancedAccuracy())
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        if len(target[part]):
            for scorer in scorers:
                scorer.update(Counted("classes", output[part], target[part]))
        start += size
    right = output.argmax(1) == target
    among = (output.topk(2).indices == target[:, None]).any(1)
    each = [float(right[target == number].double().mean()) for number in set(targets)]
    found = [scorer.compute() for scorer in scorers]
    assert found == pytest.approx([float(right.double().mean()), float(among.double().mean()), sum(each) / len(each)])


def test_a_share_that_is_one_whatever_the_model_says_is_refused() -> None:
    """And nothing counted gives no number."""
    assert (Share(1, "accuracy").compute(), BalancedAccuracy().compute()) == (None, None)
    with pytest.raises(SpecError, match="is 1 whatever the model says"):
        Share(4, "top_4_accuracy").update(Counted("classes", torch.randn(2, 4), torch.tensor([0, 1])))


def test_names() -> None:
    """Each built-in metric is of something, has a best value, and is ours or torchmetrics'."""
    for name in (*METRICS, "top_5_accuracy"):
        assert is_built_in(name)
        assert kind_of(name) in ("classes", "numbers")
        assert best_possible(name) in (0.0, 1.0)
    assert not is_built_in("top_0_accuracy")
    assert (top_k("top_12_accuracy"), top_k("top_012_accuracy")) == (12, None)
    assert [name for name in (*METRICS, "top_5_accuracy") if not needs_torchmetrics(name)] == [
        "accuracy", "balanced_accuracy", "top_5_accuracy",
    ]  # fmt: skip
