"""Updates of a hostile device, for trials of robust merging: its honest update, corrupted.

The attacks are the usual ones of the literature on Byzantine devices (Blanchard et al., NIPS 2017, arXiv 1703.02757;
Yin et al., ICML 2018, arXiv 1803.01498). Flipped labels are an attack on the data: ``flip_labels`` of
``fl_core.data:digits``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from fl_core.errors import SpecError
from fl_core.vectors import FloatArray, Sends

Attack: TypeAlias = Literal["sign_flip", "scale"]

_FACTORS: dict[Attack, float] = {"sign_flip": -1.0, "scale": 100.0}


def corrupt(values: FloatArray, sends: Sends, base: FloatArray, kind: Attack) -> FloatArray:
    """The update that a hostile device sends instead of its own.

    ``sign_flip`` sends minus the delta, ``scale`` 100 times the delta. Of parameters, it is what they have moved from
    the base version that is corrupted.

    Args:
        values: float32 ``(num_elements,)``, the honest update; it is not changed.
        sends: what it is.
        base: the base version's parameters; only read for ``sends = "parameters"``.
        kind: the attack.

    Raises:
        SpecError: the attack is unknown, or the update is not of a model.

    >>> import numpy as np
    >>> one, base = np.array([3.0], np.float32), np.array([2.0], np.float32)
    >>> corrupt(one, "delta", base, "sign_flip").tolist(), corrupt(one, "parameters", base, "scale").tolist()
    ([-3.0], [102.0])
    """
    factor = _FACTORS.get(kind)
    if factor is None:
        raise SpecError(f"attack = {kind!r} is not known; use one of {', '.join(get_args(Attack))}.")
    if sends == "delta":
        return values * values.dtype.type(factor)
    if sends == "parameters":
        return base + (values - base) * values.dtype.type(factor)
    raise SpecError(f"attack = {kind!r} corrupts what a model has learned, and this campaign's devices send {sends}.")
