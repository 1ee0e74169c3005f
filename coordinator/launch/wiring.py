"""The coordinator's parts, made and joined: from a campaign, its state, lease and files to a loop that can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from coordinator.campaign.state import CampaignState
from coordinator.loop.checkpoints import Checkpoints
from coordinator.loop.coordinator import Coordinator
from coordinator.loop.decisions import Decisions
from coordinator.loop.ending import write_results
from coordinator.loop.evaluation.scoring import Scoring
from coordinator.loop.evictions import Evictions
from coordinator.loop.finishing import Finishing
from coordinator.loop.intake import Intake
from coordinator.loop.listeners import Answers, Console, Timer
from coordinator.loop.monitors import Monitors
from coordinator.loop.outages import Outages
from coordinator.loop.parts import Parts
from coordinator.loop.recovery import Recovery
from coordinator.loop.spending import Spending
from coordinator.loop.supply import Supply
from coordinator.loop.surveyor import Surveyor
from coordinator.outgoing.context import Context
from coordinator.outgoing.dispatcher import Dispatcher
from coordinator.outgoing.keepers import KeeperAsks
from coordinator.outgoing.lookout import Lookout
from coordinator.outgoing.orders import Orders
from coordinator.outgoing.payloads import Payloads
from coordinator.outgoing.publisher import Publisher
from coordinator.outgoing.sealing import Sealing
from coordinator.outgoing.stalls import Stalls
from coordinator.outgoing.transaction import Transaction
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.history import History
from coordinator.storage.journal import Journal
from coordinator.storage.kept_log import KeptLog
from coordinator.storage.last_commit import LastCommit
from coordinator.storage.run_folder import Beside, RunFolder
from coordinator.storage.saver import Saver
from coordinator.storage.spend_journal import SpendJournal
from coordinator.telemetry.feed import Feed
from coordinator.telemetry.spans import Traces
from coordinator.telemetry.status import StatusWriter
from coordinator.telemetry.timing import Timing
from fl_core.broker.overview.roster import Roster
from fl_core.vectors.agreement import constants_digest
from fl_core.wire.status import Status


@dataclass(frozen=True, slots=True)
class Saved:
    """What the checkpoint says beside the state that a coordinator goes on from; of a new campaign nothing.

    Attributes:
        history_bytes: where the history stood.
        commits: how many commits the campaign had had.
        reads_life_before: the state is still that of the life before, and the rest of that one's log is to be read.
        about: what each checkpoint of this coordinator tells a resume (``lives.py``).
        is_older: it is not the newest one, which is damaged.
    """

    history_bytes: int = 0
    commits: int = 0
    reads_life_before: bool = False
    about: Mapping[str, Any] | None = None
    is_older: bool = False


@dataclass(frozen=True, slots=True)
class Files:
    """Where a coordinator writes.

    Attributes:
        folder: the run's.
        store: of its checkpoints.
        kept_log: where all that is applied is written down; None for nowhere.
        last_commit: notes each commit before it is sent.
        beside: what the layout leaves out of the model (``Layout.beside``).
    """

    folder: RunFolder
    store: CheckpointStore
    kept_log: KeptLog | None
    last_commit: LastCommit | None
    beside: Beside


@dataclass(frozen=True, slots=True)
class Watchers:
    """Those who follow the campaign's progress, beside the monitors at the broker.

    Attributes:
        on_progress: called a few times a second.
        look_after: called about once a second, and while the broker is away; what it raises ends the campaign.
        traces: where the tasks' spans go; None for nowhere.
    """

    on_progress: Callable[[Status], None]
    look_after: Callable[[], None] = lambda: None
    traces: Traces | None = None


def wire(
    ctx: Context,
    state: CampaignState,
    payloads: Payloads,
    evaluator: Scoring | None,
    files: Files,
    watchers: Watchers,
    saved: Saved,
) -> Coordinator:
    """A coordinator that is ready to run.

    Args:
        ctx, state, payloads: the campaign's.
        evaluator: scores versions; None when the spec names no evaluation data.

    Raises:
        CampaignError: the history cannot be written.
    """
    writer = ctx.writer
    behind, writer.commits = writer.commits < saved.commits, max(writer.commits, saved.commits)
    spec, layout, machine = ctx.spec, ctx.layout, ctx.machine
    timing, feed = Timing(), Feed(ctx.keys)
    status = StatusWriter(ctx.identity.campaign, spec, state, layout, timing, ctx.clock, watchers.on_progress)
    journal = Journal(History(files.folder.history, saved.history_bytes), files.kept_log)
    saver = Saver(files.store, writer, timing.add_checkpoint, machine)
    checkpoints = Checkpoints(ctx, state, journal, saver, saved.about or {})
    transaction = Transaction(ctx, watchers.traces, files.last_commit)
    monitors = Monitors(ctx, state, status, feed, timing, transaction)
    strategy = state.strategy
    sealing = Sealing(ctx)
    fixed = constants_digest(strategy.parameters.values[layout.constants], sealing.name)
    orders = Orders(ctx, strategy.sends, sealing, fixed)
    publisher = Publisher(
        ctx.client, ctx.keys, layout, timing, ctx.blobs,
        codec_name=spec.codec.down, clock=machine, name=sealing.name,
    )  # fmt: skip
    dispatcher = Dispatcher(spec.dispatch, ctx.identity, machine)
    stalls = Stalls(ctx, state.position)
    lookout = Lookout(ctx, Roster(ctx.client))
    surveyor = Surveyor(ctx, state, transaction, monitors, lookout, dispatcher, stalls)
    decisions = Decisions(ctx, state, transaction, evaluator, timing)
    outages = Outages(ctx, decisions.interrupted, watchers.look_after, checkpoints, surveyor)
    private = SpendJournal(files.store.files, writer.fence) if state.privacy is not None else None
    spending = Spending(ctx, state, private, transaction, decisions.interrupted)
    answers, console = Answers(ctx, state, transaction, payloads), Console(ctx, state)
    timers: list[Timer] = [monitors] if watchers.traces is None else [monitors, watchers.traces]
    parts = Parts(
        transaction=transaction,
        intake=Intake(ctx, state, payloads, outages, [checkpoints, spending, answers, monitors, console], timers),
        decisions=decisions,
        supply=Supply(state, publisher, orders, dispatcher, transaction, spending, sealing),
        surveyor=surveyor,
        evictions=Evictions(ctx.client, machine),
        stalls=stalls,
        outages=outages,
        payloads=payloads,
        checkpoints=checkpoints,
        journal=journal,
        monitors=monitors,
        spending=spending,
        keepers=KeeperAsks(ctx, state, transaction, spending.make_durable),
    )
    recovery = Recovery(
        ctx, state, parts, files.store.highest_fence,
        behind=behind, reads_life_before=saved.reads_life_before, is_older=saved.is_older,
    )  # fmt: skip
    return Coordinator(
        ctx,
        state,
        parts,
        recovery,
        Finishing(ctx, state, parts, recovery, evaluator),
        look_after=watchers.look_after,
        write_results=partial(write_results, files.folder, ctx.identity, state, layout, files.beside),
    )
