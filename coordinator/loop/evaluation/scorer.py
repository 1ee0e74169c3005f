"""Scoring one version: it is read from the broker as a worker would read it, and evaluated on the held-out data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from coordinator.loop.evaluation.scoring import Evaluation
from fl_core.broker.bulk import blobs, constants, versions
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.places import Places
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.patience import patiently
from fl_core.codecs import down_codec
from fl_core.codecs.model_payload import decode_version
from fl_core.errors import BrokerError, DataError, MissingBlob, UntrustedError
from fl_core.factory import call
from fl_core.metrics.evaluation import evaluate
from fl_core.spec import CampaignSpec
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.agreement import constants_digest
from fl_core.vectors.layout import Layout
from fl_core.wire.digest import namer_of
from fl_core.wire.messages import TrainOrder

if TYPE_CHECKING:
    from fl_core.broker.bulk.trust import Trust


class Scorer:
    """Scores versions one after the other.

    Args:
        places, keys: where versions are.
        spec: the campaign's, with ``evaluation.data`` set.
        model, layout: the model, which is overwritten.
        device: where it is evaluated.
        dataset: the held-out data; None to load it as the spec says.
        trust: holds what the broker shows against its coordinator's signature; None believes it.

    Raises:
        DataError: the held-out data cannot be loaded; so with what its factory raises.
    """

    def __init__(
        self,
        places: Places,
        keys: CampaignKeys,
        spec: CampaignSpec,
        model: torch.nn.Module,
        layout: Layout,
        device: torch.device,
        dataset: Dataset[Any] | None = None,
        trust: Trust | None = None,
    ) -> None:
        self._places, self._keys, self._trust = places, keys, trust
        self._spec = spec
        self._model, self._layout = model.to(device), layout
        self._device = device
        self._data = spec.evaluation.data or ""
        given = call(self._data, spec.evaluation.data_args, "evaluation.data") if dataset is None else dataset
        self._dataset: Dataset[Any] = given
        self._own = layout.flatten(model).values[layout.constants].copy()
        self._fixed = None if self._own.size else self._own

    def score(self, wanted: Head | None) -> Evaluation:
        """The scores of a version that was published, or if it is gone, or None, of the newest.

        Raises:
            DataError: no target of the held-out data counts; so with what user code raises.
        """
        head, payload = patiently(lambda: self._read(wanted), also=(BrokerError, MissingBlob))
        if self._fixed is None:
            # A model that was resumed may have others than its factory gives today.
            self._fixed = patiently(self._constants, also=(BrokerError, MissingBlob))
        moving = decode_version(down_codec(head.codec), self._layout, payload)
        whole = np.concatenate((moving, self._fixed)) if self._fixed.size else moving
        self._layout.load_into(self._model, Parameters(whole))
        spec = self._spec
        scores = evaluate(
            self._model, self._dataset, spec.training, spec.evaluation.batch_size, self._device,
            metrics=None if spec.has_optional_metrics else spec.metrics,
            factory=spec.model.factory, data=("evaluation.data", self._data),
        )  # fmt: skip
        if scores.loss is None:
            raise DataError(
                f"evaluation.data = {self._data!r}: no target of its {scores.num_examples} examples counts; name "
                "held-out data with labels."
            )
        return Evaluation(head.version, scores.loss, dict(scores.metrics), scores.num_examples)

    def _read(self, wanted: Head | None) -> tuple[Head, memoryview]:
        if wanted is not None and (payload := versions.read_version(self._places, self._keys, wanted)) is not None:
            return wanted, payload
        return versions.read_newest(self._places, self._keys, trust=self._trust)

    def _constants(self) -> FloatArray:
        shown = self._constants_digest()
        if not shown or shown == constants_digest(self._own, namer_of(shown)):
            return self._own
        payload = constants.read_constants(self._places, self._keys, shown, blobs.buffer(self._own.nbytes))
        return np.frombuffer(payload, "<f4")

    def _constants_digest(self) -> str:
        """As the broker shows it; where it is not believed, as the order says."""
        if self._trust is None:
            return constants.shown_digest(self._places, self._keys)
        packed = versions.read_order(self._places, self._keys)
        try:
            return TrainOrder.from_bytes(self._trust.order(self._keys.campaign, packed)).constants_digest
        except UntrustedError as error:
            raise MissingBlob(str(error)) from None  # its coordinator looks after the order
