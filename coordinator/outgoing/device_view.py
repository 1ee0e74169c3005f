"""The model as devices hold it when versions reach them as patches: a vector that follows the model.

A patch is the encoded difference between the model and this view, and the view takes in what the patch says, as every
device does that applies it. So all of them hold the same bits, and what one patch has left out is in the next
difference: the compensation of errors on the server's side in DoubleSqueeze (Tang et al., ICML 2019, arXiv 1905.05957).

A step of the rounding is 1/127 of the largest change in its block. Where a change is larger than what it leaves, as
when the guard takes a diverged model back, a step could be larger than the parameters: that version comes whole.

The view is no part of a campaign's state. A coordinator that resumes begins with the model itself.
"""

from __future__ import annotations

import numpy as np

from fl_core.codecs.int8 import Int8
from fl_core.codecs.model_payload import append_state
from fl_core.errors import RejectedUpdate
from fl_core.vectors import FloatArray
from fl_core.vectors.arithmetic import add_scaled
from fl_core.vectors.layout import Layout


class DeviceView:
    """The vector that devices hold; None where nothing was published as patches yet, or it is not known.

    Args:
        layout: the model's.

    Attributes:
        codec: how patches are encoded.
    """

    codec = Int8.name

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._codec = Int8()
        self._memory: FloatArray | None = None
        self.values: FloatArray | None = None

    def begin(self, parameters: FloatArray) -> FloatArray:
        """Devices get the model itself, float32 ``(num_moving,)``; returns the view."""
        if self._memory is None:
            self._memory = np.empty_like(parameters)
        np.copyto(self._memory, parameters)
        self.values = self._memory
        return self.values

    def follow(self, parameters: FloatArray, seed: int) -> memoryview | None:
        """Move to the model, up to one step of 1/127 of the largest change in each block, and return the patch.

        The state stands behind the encoded weights (``fl_core/codecs/model_payload.py``).

        Args:
            parameters: float32 ``(num_moving,)``.
            seed: of the rounding.

        Returns:
            None where the change cannot be written as a patch, or is larger in a block than what it leaves there; the
            view is the model itself then.
        """
        view, self.values = self.values, None
        if view is None:
            self.begin(parameters)
            return None
        weights, held = parameters[self._layout.trainable], view[self._layout.trainable]
        patch = self._codec.encode_difference(weights, held, seed)
        try:
            change = self._codec.decode(patch, held.size)
        except RejectedUpdate:  # the model has diverged: its change is not finite
            self.begin(parameters)
            return None
        if not (self._codec.scales(patch, held.size) <= self._codec.scales_of(weights)).all():
            self.begin(parameters)
            return None
        add_scaled(held, change, 1.0)
        state = parameters[self._layout.state]
        whole = append_state(patch, self._layout, state, view[self._layout.state])
        view[self._layout.state] = state
        self.values = view
        return whole

    def forget(self) -> None:
        """It is not known what devices hold."""
        self.values = None
