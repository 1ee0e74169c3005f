"""The end of a campaign, a step at a time: each can be done again, so that a run that was killed in it is completed.

Once the last checkpoint is durable, everything else follows from it: the model, the summary, what the broker is rid of,
the pictures. ``.complete`` in the run's folder is written last of all; until then ``--resume`` does all of it again.
"""

from __future__ import annotations

import structlog

from coordinator.campaign.admission import Admission
from coordinator.campaign.course import Phase
from coordinator.campaign.identity import Identity
from coordinator.campaign.private.promise import promise
from coordinator.campaign.state import CampaignState
from coordinator.campaign.summary import Summary, summarise
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.run_folder import Beside, RunFolder
from coordinator.storage.spool import Spool
from fl_core.aggregation import build_strategy
from fl_core.broker.campaign import ENDED, CampaignBroker
from fl_core.broker.connection import connect
from fl_core.errors import MissingBlob
from fl_core.models.build import build_model
from fl_core.program.crash_points import crash_point
from fl_core.spec import CampaignSpec, parse_spec
from fl_core.vectors.agreement import verify_digest
from fl_core.vectors.layout import Layout
from fl_core.vectors.module_tensors import tensors_beside

PROMISED = ("epsilon", "delta", "unit", "adjacency", "amplification")
"""What the model's file says of its privacy; ``privacy.json`` has more."""

log = structlog.get_logger()


def write_results(
    folder: RunFolder, identity: Identity, state: CampaignState, layout: Layout, beside: Beside, summary: Summary
) -> None:
    """Write the model, then the summary that has its digest.

    Args:
        beside: what the layout leaves out of the model (``tensors_beside``).

    Raises:
        CampaignError: they cannot be written.
    """
    values = state.delivery.parameters(state.strategy)
    metadata = {"campaign": identity.campaign, "version": str(state.delivery.version(state.strategy))}
    if state.privacy is not None:
        promised = promise(state.privacy)
        metadata |= {f"dp_{name}": str(promised[name]) for name in PROMISED}
        folder.write_privacy(promised)
    crash_point("before_model")
    folder.write_model(values, layout, {**metadata, "digest": summary["model_digest"]}, beside)
    crash_point("before_summary")
    folder.write_summary(summary)
    crash_point("after_summary")


def end_from_checkpoint(spec: CampaignSpec, folder: RunFolder, url: str | None) -> Summary | None:
    """Complete the folder of an ended campaign from its last checkpoint alone, where the broker has no part in it.

    Args:
        spec: names where the checkpoints are.
        folder: the run's.
        url: the broker; None when it does not answer.

    Returns:
        The summary; None where a coordinator has to end the campaign, or go on with it.

    Raises:
        BrokerUnavailable: unknown.
    """
    store = CheckpointStore(spec.checkpoint.url or str(folder.checkpoint))
    seen = store.peek()
    if seen is None or not Phase(seen["state"]["phase"]).is_over:
        return None
    if url is not None and CampaignBroker(connect(url), seen["identity"][0]).incarnation() != ENDED:
        return None
    loaded = store.load()
    if loaded is None or not Phase(loaded[1]["state"]["phase"]).is_over:
        return None
    tensors, meta = loaded
    spec = parse_spec(meta["spec"], source="the checkpoint's spec")
    identity = Identity(*meta["identity"])
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    layout, saved_layout = Layout.of(model, spec.model.buffers), Layout.from_map(meta["layout"])
    verify_digest(layout, saved_layout.digest, saved_layout)
    strategy = build_strategy(spec, layout, layout.flatten(model))
    admission = Admission(identity.campaign, spec, layout, identity.secret, _no_blob)
    state = CampaignState(identity.campaign, spec, identity.secret, strategy, admission, layout)
    state.restore(tensors, meta["state"])
    if state.privacy is not None and not store.damaged:
        store.drop_earlier()
    log.info("the campaign is over; completing its folder", campaign=identity.campaign, folder=str(folder.path))
    if url is None:
        log.warning(
            "the broker does not answer: what the campaign left there stays",
            drop_it_later=f"fedtide campaigns --clean {identity.campaign}",
        )
        if spec.evaluation.data is not None and state.scores.version != state.delivery.version(state.strategy):
            log.warning("the last version was not evaluated", reason="the broker does not answer")
    summary = summarise(identity.campaign, spec, state, layout)
    write_results(folder, identity, state, layout, tensors_beside(layout.names, model), summary)
    Spool(folder.path / "spool").remove()
    return summary


def _no_blob(name: str, num_bytes: int) -> memoryview:
    raise MissingBlob(name)


def complete(folder: RunFolder, summary: Summary) -> None:
    """Everything that an ended campaign leaves behind is there."""
    crash_point("before_complete")
    if Phase(summary["state"]).is_over:
        folder.mark_complete(summary["campaign"])
