"""From a spec (or a run's folder) to a running coordinator: build the model, take the lease, load or make the state."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
import torch

from coordinator.campaign.admission import Admission
from coordinator.campaign.course import Phase
from coordinator.campaign.identity import Identity
from coordinator.campaign.rules import rules_of
from coordinator.campaign.state import CampaignState
from coordinator.launch.lives import Life, choose_life, incarnations_before, look_elsewhere
from coordinator.launch.memory_need import memory_need
from coordinator.launch.options import Callbacks, LaunchOptions
from coordinator.launch.privacy.central import tell
from coordinator.launch.privacy.names import verify_proven_names
from coordinator.launch.trial import LONGER, check_disk, refuse_faults, try_campaign, try_spec
from coordinator.launch.wiring import Files, Saved, Watchers, wire
from coordinator.loop.coordinator import Coordinator
from coordinator.loop.evaluation.evaluator import Evaluator
from coordinator.loop.lease.keeper import LEASE_SECONDS
from coordinator.loop.lease.standby import take_lease
from coordinator.loop.trust.keepers import find_keepers, verify_authority
from coordinator.loop.trust.membership import membership
from coordinator.outgoing.context import Context
from coordinator.outgoing.payloads import Payloads
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.holder import this_process
from coordinator.storage.kept_log import Fetch, KeptLog
from coordinator.storage.last_commit import LastCommit
from coordinator.storage.run_folder import RunFolder
from coordinator.storage.spool import Spool
from coordinator.telemetry.spans import Traces
from fl_core.aggregation import build_strategy
from fl_core.broker import scripts
from fl_core.broker.bulk.places import Places
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.clock import CampaignClock
from fl_core.broker.connection import broker_errors, connect
from fl_core.broker.lease import Writer
from fl_core.broker.overview.strangers import drop_strangers
from fl_core.broker.server.capacity import EVICTION
from fl_core.broker.server.fitness import BLOBS_REACHABLE, check_blobs, check_broker
from fl_core.broker.url import public_url
from fl_core.clock import MACHINE, Clock
from fl_core.errors import CampaignError, SpecError
from fl_core.models.build import build_model
from fl_core.program.outside import try_outside
from fl_core.program.redaction import redact
from fl_core.program.tracing import Tracer
from fl_core.spec import CampaignSpec, parse_spec, to_toml
from fl_core.training.losses import Loss
from fl_core.trial.findings import Finding
from fl_core.trial.parts import verify_parts
from fl_core.vectors.agreement import verify_digest
from fl_core.vectors.layout import Layout
from fl_core.vectors.module_tensors import tensors_beside

log = structlog.get_logger()


def new_identity(spec: CampaignSpec, machine: Clock = MACHINE) -> Identity:
    """Draw a campaign's id, secret and incarnation."""
    return Identity(
        f"{spec.campaign.name}-{secrets.token_hex(3)}",
        secrets.token_bytes(32),
        secrets.token_hex(8),
        machine.wall_ms(),
    )


@contextlib.contextmanager
def coordinating(
    spec: CampaignSpec,
    url: str,
    folder: RunFolder,
    options: LaunchOptions,
    callbacks: Callbacks,
    *,
    look_after: Callable[[], None] = lambda: None,
    machine: Clock = MACHINE,
) -> Iterator[Coordinator]:
    """A coordinator that is ready to run, and its processes ended afterwards.

    Args:
        spec: of a new campaign; a resumed one has its own, from the checkpoint.
        url: the broker.
        folder: the run's.
        options: how it is launched.
        callbacks: called on the way.
        look_after: called about once a second, and while the broker is away; what it raises ends the campaign.
        machine: this machine's clock.

    Raises:
        SpecError: model, data, strategy or broker do not fit.
        CampaignError: there is nothing to resume.
        BrokerUnavailable: the broker does not answer.
    """
    # One thread: elementwise sums come out the same on every machine, and workers on this machine keep their cores.
    torch.set_num_threads(1)
    store = CheckpointStore(spec.checkpoint.url or str(folder.checkpoint))
    seen = store.peek() if options.resume else None
    if options.resume and seen is None:
        raise CampaignError(f"there is no checkpoint in {folder.path}; launch the campaign without --resume.")
    if seen is not None:
        spec = parse_spec(seen["spec"], source="the checkpoint's spec")
    else:
        verify_proven_names(spec.privacy, url, options.authority)
    life = Life(new_identity(spec, machine) if seen is None else Identity(*seen["identity"]))
    authority, seal = membership(options.identity, None if seen is None else seen["state"])
    verify_authority(spec.secure_aggregation, authority)
    campaign = life.identity.campaign
    last_commit = LastCommit(folder.last_commit)
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    layout = Layout.of(model, spec.model.buffers)
    initial, beside = layout.flatten(model), tensors_beside(layout.names, model)
    traced: Traces | None = None
    # Forked before this process starts a thread or opens a connection.
    trial = None if options.resume or not options.trial_seconds else try_campaign
    evaluator = None
    if spec.evaluation.data:
        evaluator = Evaluator(campaign, url, spec, model, layout, options.blobs, trial, machine, authority)
    elif trial is not None:
        refuse_faults(try_outside(partial(try_spec, spec), options.trial_seconds, LONGER))
    try:
        client = connect(url)
        _check_fit(client, spec, layout, options.blobs, options.allow_eviction)
        scripts.load(client)
        if evaluator is not None and trial is not None:
            refuse_faults(evaluator.try_first(options.trial_seconds, LONGER))
        if not options.resume and trial is None:
            log.info("nothing was tried before the launch, as --trial-seconds 0 says")
        broker = CampaignBroker(client, campaign)
        if seen is not None:
            look_elsewhere(seen, url, broker)
        writer = Writer(client, broker.keys, holder=this_process(), lease_seconds=LEASE_SECONDS)
        if strange := drop_strangers(client, broker.keys, spec.dispatch.queues):
            log.warning("somebody else has written over keys of fedtide's; they are dropped", keys=strange)
        take_lease(writer, store, machine)
        folder.lock.take_over(public_url(url))
        # Not before: the lease's holder until now may have gone on.
        loaded = None if seen is None else store.load()
        if loaded is not None:
            over = Phase(loaded[1]["state"]["phase"]).is_over
            life = choose_life(
                loaded[1], store.damaged, broker, folder.history,
                is_over=over, sent=last_commit.read(loaded[1]["identity"][2]), arrived=writer.commits,
            )  # fmt: skip
        lives_before = [] if loaded is None else incarnations_before(loaded[1], life)
        identity, secret = life.identity, life.secret_before or life.identity.secret
        strategy = build_strategy(spec, layout, initial)
        verify_parts(spec, strategy, layout)
        if spec.evaluation.data:
            Loss(spec.training)
        num_vectors = strategy.held_vectors
        if seen is None and not spec.checkpoint.url:
            check_disk(folder.path, layout, num_vectors)
        if num_vectors > 1:
            log.info("memory of the strategy, at most", megabytes=round(num_vectors * layout.num_bytes / 1e6, 1))
        del model, initial  # the strategy has its own; this frame lives as long as the campaign

        spool = Spool(folder.path / "spool")
        payloads = Payloads(client, broker, spool, options.blobs)
        fetch: Fetch = payloads.fetch
        kept_log: KeptLog | None = None
        if spec.checkpoint.keep_log:
            before = [] if loaded is None else loaded[1].get("kept_log", [])
            kept_log = KeptLog(folder.kept_log, before, writer.fence, secret)
            fetch = kept_log.keeping(fetch)
        admission = Admission(identity.campaign, spec, layout, secret, fetch)
        state = CampaignState(identity.campaign, spec, secret, strategy, admission, layout)
        about = {
            "broker": public_url(url),
            "replaces": life.replaces,
            "epochs_before": lives_before,
            "server": broker.server_run(),
            "rules": rules_of(None if loaded is None else loaded[1]),
        }
        if state.privacy is not None and seen is None:
            state.privacy.noise_secret = secrets.token_bytes(32)
        saved = Saved(reads_life_before=bool(life.secret_before), about=about)
        if loaded is None:
            state.signers.expect(authority)
        if loaded is not None:
            tensors, meta = loaded
            saved_layout = Layout.from_map(meta["layout"])
            verify_digest(layout, saved_layout.digest, saved_layout)
            state.restore(tensors, meta["state"])
            saved = replace(
                saved,
                history_bytes=meta["history_bytes"],
                commits=meta.get("commits", 0),
                is_older=bool(store.damaged),
            )
            if life.position:
                state.position = life.position
            del tensors, loaded  # the state has its own; this frame lives as long as the campaign
        if options.traces:
            traced = Traces(Tracer("fedtide-coordinator"), identity.campaign, identity.secret)
        if state.privacy is not None:
            tell(state.privacy, spec.privacy, layout.num_parameters)
        callbacks.on_launch(identity.campaign, layout.num_parameters, seen is not None)
        folder.write_spec(to_toml(without_credentials(spec)))
        keepers = state.keepers
        if spec.secure_aggregation.is_on and not keepers:
            keepers = find_keepers(client, spec.secure_aggregation, authority, machine)
        clock = CampaignClock(broker, machine)
        ctx = Context(
            identity,
            spec,
            layout,
            client,
            broker,
            clock,
            writer,
            blobs=options.blobs,
            authority=authority,
            seal=seal,
            keepers=keepers,
        )
        coordinator = wire(
            ctx, state, payloads, evaluator,
            Files(folder, store, kept_log, last_commit, beside),
            Watchers(callbacks.on_progress, look_after, traced),
            saved,
        )  # fmt: skip
        if seen is None or (life.replaces and not life.secret_before):
            coordinator.save_first()
        yield coordinator
    finally:
        last_commit.close()
        if traced is not None:
            traced.close()
        if evaluator is not None:
            evaluator.close()


def without_credentials(spec: CampaignSpec) -> CampaignSpec:
    """As the run's folder keeps it, which others may read."""
    url = None if spec.checkpoint.url is None else redact(spec.checkpoint.url)
    return spec.model_copy(update={"checkpoint": spec.checkpoint.model_copy(update={"url": url})})


def _check_fit(client: Any, spec: CampaignSpec, layout: Layout, blobs_place: str, allow_eviction: bool) -> None:
    """Refuse politely where the broker, or the server for blobs, cannot hold the campaign."""
    with broker_errors("reaching the broker"):
        client.ping()
    need = memory_need(spec, layout, blobs=bool(blobs_place))
    log.info("memory at the broker, at most", megabytes=round(need.broker / 1e6, 1))
    findings = check_broker(client, need.broker, need.broker_alone, read_settings=False)
    _refuse_unfit("the broker", findings, allow_eviction)
    if blobs_place:
        log.info("memory at the server for blobs, at most", megabytes=round(need.blobs / 1e6, 1))
        second = Places(client, [blobs_place]).at(blobs_place)
        findings = check_blobs(second, client, need.blobs, read_settings=False)
        _refuse_unfit("the server for blobs", findings, allow_eviction)
        if not Places(client).follows(blobs_place):
            log.info("only devices that were given this server go there, since there is a password", blobs=blobs_place)


def _refuse_unfit(server: str, findings: list[Finding], allow_eviction: bool) -> None:
    for finding in findings:
        if finding.verdict != "fail":
            continue
        if finding.name == BLOBS_REACHABLE:
            log.warning(
                "the server for blobs is not reachable; versions and updates go to the broker meanwhile",
                reason=finding.detail, remedy=finding.remedy,
            )  # fmt: skip
            continue
        if finding.name.endswith(EVICTION):
            if allow_eviction:
                log.warning(f"{server} may evict keys", detail=finding.detail, remedy=finding.remedy)
                continue
            finding = replace(finding, remedy=f"{finding.remedy}, or take it all the same with --allow-eviction")
        raise SpecError(f"{server} is not fit for this campaign: {finding.name}: {finding.detail}; {finding.remedy}.")
