"""The data sets that come with scikit-learn."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from fl_core.data import breast_cancer, digits
from fl_core.errors import SpecError


def test_digits_are_scikit_learns() -> None:
    """All examples, in order, are those that scikit-learn itself loads, scaled to [0, 1]."""
    from sklearn.datasets import load_digits

    x, y = digits("all").tensors
    reference = load_digits()
    np.testing.assert_array_equal(x.numpy() * 16, reference.data)
    np.testing.assert_array_equal(y.numpy(), reference.target)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_the_digits_held_out_never_change() -> None:
    """Scores of different releases are comparable only on the same held-out examples."""
    x, y = digits("test").tensors
    assert x.shape == (359, 64)
    assert hashlib.sha256(x.numpy().tobytes() + y.numpy().tobytes()).hexdigest()[:16] == "5d889b13ed03284e"


def test_digits_as_images_hold_the_same_pixels() -> None:
    """as_images only reshapes."""
    flat, _ = digits("test").tensors
    images, _ = digits("test", as_images=True).tensors
    assert images.shape == (359, 1, 8, 8)
    assert torch.equal(images.flatten(1), flat)


def test_breast_cancer_is_standardised_by_its_training_split() -> None:
    """Training columns have mean 0 and deviation 1; a shard keeps the whole split's scale."""
    from sklearn.datasets import load_breast_cancer

    x, y = breast_cancer("train").tensors
    np.testing.assert_allclose(x.double().mean(0), np.zeros(30), atol=1e-6)
    np.testing.assert_allclose(x.double().std(0, correction=0), np.ones(30), atol=1e-6)
    shard, _ = breast_cancer("train", shard=0, num_shards=3).tensors
    rows = {row.numpy().tobytes() for row in x}
    assert all(row.numpy().tobytes() in rows for row in shard)
    everything, targets = breast_cancer("all").tensors
    np.testing.assert_array_equal(targets.numpy(), load_breast_cancer().target)
    correlation = np.corrcoef(everything[:, 3], load_breast_cancer().data[:, 3])[0, 1]
    assert correlation == pytest.approx(1.0)
    assert len(y) == 456


def test_a_shard_is_ready_within_100_ms_and_without_scikit_learn() -> None:
    """A simulated device must not import scikit-learn, and must have its data soon after torch."""
    # Processor time: a busy machine stretches the wall clock.
    code = (
        "import sys, time, torch; start = time.process_time()\n"
        "from fl_core.data import digits\n"
        "digits(shard=0, num_shards=8, partition='dirichlet')\n"
        "print(time.process_time() - start, 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, imported = done.stdout.split()
    assert imported == "False"
    assert float(seconds) < 0.1


def test_a_missing_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-learn the error is the command that brings it."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find_spec(name))
    with pytest.raises(SpecError, match=r"pip install 'fedtide\[examples\]'"):
        digits()


def test_flipped_labels_are_nine_minus_the_labels() -> None:
    """A hostile shard has the same images as the honest one, each with the label 9 - y."""
    honest, hostile = digits("train", shard=1, num_shards=4), digits("train", shard=1, num_shards=4, flip_labels=True)
    assert torch.equal(honest.tensors[0], hostile.tensors[0])
    assert torch.equal(9 - honest.tensors[1], hostile.tensors[1])
