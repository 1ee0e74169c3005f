"""From a spec to the order that its tasks carry: all that a device needs to know of a campaign."""

from __future__ import annotations

from collections.abc import Sequence

from fl_core.privacy.terms import Terms
from fl_core.secure_aggregation.bounds import MASKED
from fl_core.secure_aggregation.of_spec import order_args
from fl_core.spec import CampaignSpec
from fl_core.vectors.layout import Layout
from fl_core.wire.messages import TrainOrder


def train_order(
    campaign: str,
    spec: CampaignSpec,
    layout: Layout,
    sends: str,
    factor: float = 1.0,
    *,
    constants_digest: str = "",
    incarnation: str = "",
    keepers: Sequence[bytes] = (),
) -> TrainOrder:
    """How the tasks of a campaign are to be done.

    Args:
        campaign: its id.
        spec, layout: the campaign's.
        sends: what its strategy merges.
        factor: of the learning rate, in (0, 1].
        keepers: the certificates of those for whom updates are masked, DER; without any they are not.
        constants_digest: of what no version carries; empty for a model without (``fl_core/vectors/agreement.py``).
        incarnation: of the campaign's life, where orders are signed.
    """
    return TrainOrder(
        campaign=campaign,
        incarnation=incarnation,
        timeout_seconds=spec.dispatch.task_timeout_seconds,
        model_factory=spec.model.factory,
        model_args=spec.model.args,
        model_buffers=dict(spec.model.buffers),
        model_seed=spec.campaign.seed,
        layout_digest=layout.digest,
        constants_digest=constants_digest,
        # Without keys that are not set: a device of an earlier release knows fewer of them.
        training=spec.training.model_dump(mode="json", exclude_none=True),
        learning_rate_factor=factor,
        codec=MASKED if keepers else spec.codec.name,
        codec_args=order_args(spec, keepers) if keepers else spec.codec.args,
        sends=sends,
        privacy={} if (terms := Terms.of(spec.privacy)) is None else terms.order(),
    )
