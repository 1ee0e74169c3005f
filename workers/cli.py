"""``fedtide-worker``: run a worker daemon on a device. Nothing heavy is imported before the options are known."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click

from fl_core.errors import SpecError
from fl_core.names import check_name
from fl_core.program.command_line import EXIT_BAD_INPUT, FedtideCommand, config_file

_KEYS = (
    "broker", "identity", "data", "data_args", "queue", "allow", "blobs", "name", "threads", "device", "state_dir",
    "cache_bytes", "max_epsilon", "privacy_delta", "privacy_dir", "grace_seconds", "load_seconds", "model",
    "model_args", "emulate_delay_seconds", "emulate_example_seconds", "emulate_attack", "celery_events",
    "metrics_host", "metrics_port", "traces", "log_level",
)  # fmt: skip


class _JsonMap(click.ParamType[dict[str, Any]]):
    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            parsed = json.loads(value)
        except (ValueError, TypeError) as error:
            self.fail(f"{value!r} is not JSON ({error}); write for instance '{{\"shard\": 0}}'.", param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f"{value!r} is not a JSON object; write for instance '{{\"shard\": 0}}'.", param, ctx)
        return parsed


@click.command(
    cls=FedtideCommand,
    context_settings={
        "auto_envvar_prefix": "FEDTIDE",
        "show_default": True,
        "help_option_names": ["-h", "--help"],
    },
    epilog="`fedtide-worker enroll TOKEN` gives a device an identity of its own; see `fedtide-worker enroll --help`.",
)
@click.version_option(package_name="fedtide")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=config_file(_KEYS),
    help="TOML file with these settings; flags and environment come first.",
)
@click.option("--broker", metavar="URL", help="The Redis that coordinator and workers share.  [required]")
@click.option(
    "--identity",
    type=click.Path(path_type=Path),
    help="This device's identity: its name, its queues, where the broker is. `fedtide-worker enroll` makes it.",
)
@click.option("--data", metavar="MODULE:CALLABLE", required=True, help="Factory of this device's training data.")
@click.option("--data-args", type=_JsonMap(), default="{}", help="The factory's keyword arguments.")
@click.option(
    "--queue",
    metavar="NAME",
    multiple=True,
    help="Device class to serve; repeatable.  [default: default, or the identity's]",
)
@click.option(
    "--allow",
    metavar="MODULE[:NAME]",
    multiple=True,
    help="Code that tasks may name on this device, beside fedtide's own models and methods; repeatable.",
)
@click.option(
    "--blobs",
    metavar="[HOST]:PORT",
    multiple=True,
    help="A second server that the broker may send this worker to, with its user and password; repeatable.",
)
@click.option("--name", metavar="NAME", help="Unique name of this worker.  [default: HOST-PID]")
@click.option("--threads", type=click.IntRange(0, 1024), default=0, help="Torch threads; 0 leaves it to torch.")
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="Keeps undelivered updates over a restart.  [default: ~/.local/state/fedtide/NAME]",
)
@click.option(
    "--cache-bytes",
    type=click.IntRange(0, 1 << 50),
    default=1 << 30,
    help="Memory for the models of several campaigns; the one in use is always kept.",
)
@click.option(
    "--max-epsilon",
    type=click.FloatRange(0, 1e6, min_open=True),
    help="What this device may give away in all, by updates to which it has added noise; others never leave it.",
)
@click.option(
    "--privacy-delta",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=1e-6,
    help="The delta of --max-epsilon: far below one in the number of devices.",
)
@click.option(
    "--privacy-dir",
    type=click.Path(path_type=Path),
    help="The journal of what was given away, for all workers on the same data.  [default: STATE_DIR/privacy, or "
    "~/.local/state/fedtide/privacy]",
)
@click.option("--grace-seconds", type=click.FloatRange(0), default=20.0, help="Time to finish the task when stopped.")
@click.option("--load-seconds", type=click.FloatRange(1), default=3600.0, help="Time to load torch and the data.")
@click.option("--emulate-delay-seconds", type=click.FloatRange(0), default=0.0, help="Play a slow device in a trial.")
@click.option(
    "--emulate-example-seconds", type=click.FloatRange(0), default=0.0, help="Slower by this much per example."
)
@click.option(
    "--emulate-attack",
    type=click.Choice(["", "sign_flip", "scale"]),
    default="",
    help="Play a hostile device in a trial.",
)
@click.option("--model", metavar="MODULE:CALLABLE", default="", help="This device's own architecture (distillation).")
@click.option("--model-args", type=_JsonMap(), default="{}", help="That factory's keyword arguments.")
@click.option("--celery-events", is_flag=True, help="Answer `celery inspect` and send task events.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve /metrics for Prometheus there; 0: any.")
@click.option("--metrics-host", default="127.0.0.1", help="Address of --metrics-port; 0.0.0.0 lets others read.")
@click.option("--traces", is_flag=True, help="Tell OpenTelemetry each task's spans, as the OTEL_* variables say.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@click.option("--check", is_flag=True, help="Try data, models and broker, say what was found, and end.")
@click.option(
    "--spec",
    type=click.Path(path_type=Path),
    help="With --check: a campaign to try, beside those that run on the broker; the broker may be left out.",
)
def worker(**options: Any) -> None:
    """Run a worker daemon: take tasks when free, train on local data, return updates. The data never leaves."""
    from fl_core.factory import add_working_directory, check_import_path
    from fl_core.program.extras import need

    if options["spec"] is not None and not options["check"]:
        raise SpecError("--spec belongs to --check: a worker learns of campaigns from the broker.")
    if options["identity"] is not None:
        _take_identity(options)
    if options["broker"] is None and not options["check"]:
        raise click.MissingParameter(param_hint="'--broker'", param_type="option")
    add_working_directory(*([options["spec"].parent] if options["spec"] else []))
    check_import_path(options["data"], "data")
    if options["model"]:
        check_import_path(options["model"], "model")
    if options["metrics_port"] is not None:
        need("--metrics-port", "prometheus_client")
    if options["max_epsilon"] is not None:
        need("--max-epsilon", "cryptography")
    if options["traces"]:
        from fl_core.program.tracing import need_opentelemetry

        need_opentelemetry()
    settings = _settings(options)
    if options["check"]:
        return _check(settings, options)
    _make_state_dir(settings.state_dir)

    from fl_core.program.logs import configure_logs

    configure_logs(options["log_level"])

    import structlog

    # Before the rest is loaded: on a busy machine that takes its time, and an empty log says nothing of it.
    structlog.get_logger().info("worker is starting", worker=settings.name, pid=os.getpid())
    from workers.daemon import Daemon

    return Daemon(settings).run()


def _take_identity(options: dict[str, Any]) -> None:
    """Name, queues and the way to the servers are the identity's own.

    Raises:
        SpecError: another name or a queue that the certificate does not have.
    """
    from fl_core.program.extras import need

    need("--identity", "cryptography", "blake3")
    from fl_core.identity.folder import read_identity

    identity = read_identity(options["identity"])
    allowed = identity.certificate.queues or ("default",)
    if options["name"] not in (None, identity.name):
        raise SpecError(f"--name {options['name']} is not {identity.name}, as the certificate says; leave it out.")
    if wrong := [queue for queue in options["queue"] if queue not in allowed]:
        raise SpecError(f"--queue {wrong[0]} is none that {identity.name} may serve ({', '.join(allowed)}).")
    options["name"] = identity.name
    options["queue"] = options["queue"] or allowed
    options["broker"] = identity.url(options["broker"] or "")
    if identity.blobs and identity.blobs not in options["blobs"]:
        options["blobs"] = (*options["blobs"], identity.blobs)


def _check(settings: Any, options: dict[str, Any]) -> None:
    """Say what a task would meet here; exit code 2 where it would fail."""
    from fl_core.program.logs import configure_logs
    from fl_core.program.outside import try_outside
    from fl_core.spec import load_spec
    from fl_core.trial.findings import faults

    configure_logs(options["log_level"])
    spec = load_spec(options["spec"]) if options["spec"] else None

    findings = try_outside(partial(_steps, settings, spec), settings.load_seconds, "give it longer with --load-seconds")
    for finding in findings:
        click.echo(f"{finding.verdict:<8} {finding.name}: {finding.sentence}")
    if faults(findings):
        raise SystemExit(EXIT_BAD_INPUT)


def _steps(settings: Any, spec: Any) -> Iterable[Any]:
    from workers.child.trial import try_device  # torch, which only the child needs

    return try_device(settings, spec)


def _settings(options: dict[str, Any]) -> Any:
    from fl_core.allowance import AllowList
    from fl_core.broker.bulk.places import check_place
    from fl_core.broker.url import check_url
    from fl_core.program.host import default_name, state_home
    from workers.settings import WorkerSettings

    name = options["name"] or default_name(os.getpid())
    queues = tuple(dict.fromkeys(options["queue"])) or ("default",)
    for key, value in (("name", name), *(("queue", queue) for queue in queues)):
        check_name(key, value)
    AllowList(options["allow"])  # a wrong entry is reported now
    return WorkerSettings(
        broker="" if options["broker"] is None else check_url(options["broker"]),
        data=options["data"],
        identity=options["identity"],
        name=name,
        state_dir=options["state_dir"] or state_home() / "fedtide" / name,
        data_args=options["data_args"],
        cache_bytes=options["cache_bytes"],
        queues=queues,
        allow=tuple(dict.fromkeys(options["allow"])),
        blobs=tuple(check_place(place) for place in dict.fromkeys(options["blobs"])),
        threads=options["threads"],
        device=options["device"],
        grace_seconds=options["grace_seconds"],
        load_seconds=options["load_seconds"],
        model=options["model"],
        model_args=options["model_args"],
        max_epsilon=options["max_epsilon"],
        privacy_delta=options["privacy_delta"],
        # Not below a name that may be another one after a restart: what was given away stays given away.
        privacy_dir=options["privacy_dir"]
        or (options["state_dir"] / "privacy" if options["state_dir"] else state_home() / "fedtide" / "privacy"),
        emulate_delay_seconds=options["emulate_delay_seconds"],
        emulate_example_seconds=options["emulate_example_seconds"],
        emulate_attack=options["emulate_attack"],
        celery_events=options["celery_events"],
        metrics_host=options["metrics_host"],
        metrics_port=options["metrics_port"],
        traces=options["traces"],
    )


def _make_state_dir(folder: Path) -> None:
    """Now, not when the first update cannot be delivered and is lost for the want of a folder.

    Raises:
        SpecError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SpecError(f"--state-dir {folder} cannot be written ({error.strerror}); name another folder.") from None
