"""Scores versions where the coordinator waits for them: in virtual time an evaluation takes none."""

from __future__ import annotations

import torch

from coordinator.loop.evaluation.scorer import Scorer
from coordinator.loop.evaluation.scoring import Evaluation
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.places import Places
from fl_core.broker.connection import Client
from fl_core.broker.keys import CampaignKeys
from fl_core.spec import CampaignSpec
from fl_core.vectors.layout import Layout


class InlineEvaluator:
    """What ``Scoring`` asks for, in this process. What the evaluation raises is raised.

    Args:
        client: of the twin.
        keys, spec: the campaign's.
        model, layout: the model, which is overwritten.

    Attributes:
        error, died: never, see above.
    """

    def __init__(
        self, client: Client, keys: CampaignKeys, spec: CampaignSpec, model: torch.nn.Module, layout: Layout
    ) -> None:
        self._scorer = Scorer(Places(client), keys, spec, model, layout, torch.device("cpu"))
        self._results: list[Evaluation] = []
        self.error: str | None = None
        self.died = False

    @property
    def busy(self) -> bool:
        """Scores wait to be taken."""
        return bool(self._results)

    @property
    def has_results(self) -> bool:
        """See above: they are there at once."""
        return bool(self._results)

    def request(self, head: Head | None = None) -> None:
        """Score it now."""
        self._results.append(self._scorer.score(head))

    def take_results(self) -> list[Evaluation]:
        """What was scored since the last call."""
        results, self._results = self._results, []
        return results
