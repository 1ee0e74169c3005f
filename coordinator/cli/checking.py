"""The command that judges before anything is launched: a spec with what it names, and a broker."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from coordinator.cli.group import (
    blobs_option,
    broker_option,
    fedtide,
    json_option,
    print_json,
    set_option,
    trial_option,
)
from coordinator.cli.launching import load_campaign
from fl_core.errors import SpecError
from fl_core.program.command_line import EXIT_BAD_INPUT

if TYPE_CHECKING:
    from coordinator.launch.memory_need import MemoryNeed
    from fl_core.spec import CampaignSpec
    from fl_core.trial.findings import Finding


@fedtide.command()
@click.argument("spec_path", metavar="[SPEC.toml]", required=False, type=click.Path(path_type=Path))
@set_option
@broker_option
@blobs_option
@trial_option
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    spec_path: Path | None,
    settings: tuple[tuple[str, Any], ...],
    broker: str,
    blobs: str,
    trial_seconds: float,
    as_json: bool,
) -> None:
    """Would this campaign run, and is the broker fit for it? Nothing is launched.

    Of a spec: model, data, loss, strategy and codec are tried in little. Exit code 2 if one of them cannot work.

    Of a broker: version, persistence, eviction, memory, clock, latency; with --blobs, of the second server as well.
    Exit code 1 if it is not fit. It is looked at where one is given, and where no spec is.
    """
    from dataclasses import asdict

    if settings and spec_path is None:
        raise SpecError("--set replaces a key of a spec, and there is none; name the spec's file.")
    given = ctx.get_parameter_source("broker") is not ParameterSource.DEFAULT
    spec = None if spec_path is None else load_campaign(spec_path, dict(settings))
    of_spec = [] if spec is None else _check_spec(spec, trial_seconds)
    sound = not any(finding.verdict == "fail" for finding in of_spec)
    need = _need(spec, blobs=bool(blobs)) if spec is not None and sound else None
    of_servers = _check_servers(broker, blobs, need) if given or spec is None else []
    findings = [*of_spec, *of_servers]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        from coordinator.terminal.tables import print_findings

        print_findings(findings)
    if not sound:
        sys.exit(EXIT_BAD_INPUT)
    if any(finding.verdict == "fail" for finding in of_servers):
        sys.exit(1)


def _check_spec(spec: CampaignSpec, trial_seconds: float) -> list[Finding]:
    from coordinator.launch.trial import LONGER, try_spec
    from fl_core.program.outside import try_outside

    if not trial_seconds:
        raise SpecError("--trial-seconds 0 is for a launch without a trial; give the check some time.")
    return try_outside(partial(try_spec, spec), trial_seconds, LONGER)


def _check_servers(broker: str, blobs: str, need: MemoryNeed | None) -> list[Finding]:
    from fl_core.broker.bulk.places import Places
    from fl_core.broker.connection import connect
    from fl_core.broker.server.fitness import check_blobs, check_broker

    client = connect(broker, timeout_seconds=5)
    second = Places(client, [blobs]).at(blobs) if blobs else None
    findings = check_broker(client, need.broker if need else None, need.broker_alone if need else None)
    if second is not None:
        findings += check_blobs(second, client, need.blobs if need else None)
    return findings


def _need(spec: CampaignSpec, *, blobs: bool) -> MemoryNeed:
    from coordinator.launch.memory_need import memory_need
    from fl_core.models.build import build_model
    from fl_core.vectors.layout import Layout

    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    return memory_need(spec, Layout.of(model, spec.model.buffers), blobs=blobs)
