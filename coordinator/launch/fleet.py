"""A fleet of local worker processes, for a trial on one machine: the same program that runs on real devices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from fl_core.allowance import named_code
from fl_core.errors import SpecError
from fl_core.factory import add_working_directory, check_import_path
from fl_core.names import NAME_RULE, is_name
from fl_core.namesakes import ROOT
from fl_core.program.process import end_with_parent, how_it_ended
from fl_core.program.restarts import Restarts
from fl_core.program.toml_file import read_toml
from fl_core.spec import CampaignSpec, explain

log = structlog.get_logger()

MAX_DEATHS = 6


def _verify_name(value: str) -> str:
    if not is_name(value):
        raise ValueError(NAME_RULE)
    return value


Name = Annotated[str, AfterValidator(_verify_name)]


class FleetWorker(BaseModel):
    """One ``[[worker]]`` entry. With ``count`` above 1 the name gets ``-0``, ``-1``, ... and ``"{index}"`` in
    ``data_args`` becomes the number of the copy."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    data: str
    data_args: dict[str, Any] = Field(default_factory=dict)
    queue: tuple[Name, ...] = Field(default=("default",), min_length=1)
    name: Name = "worker"
    threads: int = Field(default=1, ge=0)
    model: str = ""
    model_args: dict[str, Any] = Field(default_factory=dict)
    emulate_delay_seconds: float = Field(default=0.0, ge=0)
    emulate_example_seconds: float = Field(default=0.0, ge=0)
    emulate_attack: Literal["", "sign_flip", "scale"] = ""
    count: int = Field(default=1, ge=1, le=1000)

    @field_validator("queue", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class _FleetFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    worker: list[FleetWorker] = Field(min_length=1)


def load_fleet(path: Path) -> list[FleetWorker]:
    """Read and validate a fleet file.

    Returns:
        One entry per process: counts are written out, names are unique.

    Raises:
        SpecError: the file or a key is wrong, or a name is there twice.
    """
    return parse_fleet(read_toml(path), str(path))


def parse_fleet(document: Mapping[str, Any], source: str) -> list[FleetWorker]:
    """Validate a fleet, as ``load_fleet`` does.

    Args:
        document: a fleet file's content.
        source: what errors call it.
    """
    try:
        entries = _FleetFile.model_validate(document).worker
    except ValidationError as error:
        raise SpecError(f"{source}: {explain(error, _FleetFile)}") from None
    add_working_directory()
    workers: list[FleetWorker] = []
    for entry in entries:
        check_import_path(entry.data, f"{source}: worker.data")
        if entry.model:
            check_import_path(entry.model, f"{source}: worker.model")
        for index in range(entry.count):
            args = {key: index if value == "{index}" else value for key, value in entry.data_args.items()}
            name = entry.name if entry.count == 1 else f"{entry.name}-{index}"
            workers.append(entry.model_copy(update={"name": name, "data_args": args, "count": 1}))
    names = [worker.name for worker in workers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SpecError(f"{source}: worker.name = {twice!r} is there twice; give each worker its own name.")
    return workers


def verify_queues(workers: Sequence[FleetWorker], queues: Sequence[str], *, alone: bool) -> None:
    """Refuse a trial on one machine in which no worker would ever take a task; one that gets none is logged.

    Args:
        workers: the fleet.
        queues: the campaign's, ``dispatch.queues``.
        alone: no other worker can come, as the broker is the run's own.

    Raises:
        SpecError: no worker serves one of the queues.
    """
    idle = [worker for worker in workers if not set(worker.queue) & set(queues)]
    served = ", ".join(sorted({queue for worker in workers for queue in worker.queue}))
    if alone and len(idle) == len(workers):
        raise SpecError(
            f"dispatch.queues = {list(queues)!r} is served by no worker of the fleet, whose queues are {served}; "
            "give a worker one of these queues, or the campaign one of theirs."
        )
    if idle:
        log.warning(
            "workers of the fleet get no task of this campaign", workers=[worker.name for worker in idle][:10],
            served=served, queues=list(queues),
        )  # fmt: skip


def allowed_by(spec: CampaignSpec) -> list[str]:
    """The code that the spec's tasks name: in a trial on one machine, coordinator and devices have the same owner."""
    sections = (spec.model, spec.training, spec.codec)
    return sorted({path for section in sections for path in named_code(section.model_dump())})


class Fleet:
    """Worker processes that end with this one.

    Args:
        workers: what to start, as ``load_fleet`` gives it.
        broker: the URL they connect to.
        folder: gets each worker's log and state.
        allow: what tasks may name on them (``fl_core.allowance``).
        blobs: the place of the server for blobs; empty for none.
        identities: the folder of each one's identity, by name; of keepers, too, who are started as well.
    """

    def __init__(
        self,
        workers: Sequence[FleetWorker],
        broker: str,
        folder: Path,
        allow: Iterable[str] = (),
        blobs: str = "",
        identities: Mapping[str, Path] | None = None,
    ) -> None:
        self._broker = broker
        self._folder = folder
        self._allow = tuple(allow)
        self._blobs = blobs
        self._identities = identities or {}
        self._workers = {worker.name: worker for worker in workers}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._reported: set[str] = set()
        self._restarts: dict[str, Restarts] = {}
        self._again_at: dict[str, float] = {}

    def start(self) -> None:
        """Start all of them; they appear on the roster when they are ready. Call it from the main thread."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in (*(keeper for keeper in self._identities if keeper not in self._workers), *self._workers):
            self._processes[name] = self._start_one(name)

    def _start_one(self, name: str) -> subprocess.Popen[bytes]:
        parent, worker = os.getpid(), self._workers.get(name)
        program = "keepers" if worker is None else "workers"
        # By its place, since by its name PYTHONPATH may find a namesake.
        command = [sys.executable, "-P", str(ROOT / program / "__main__.py"), "--state-dir", str(self._folder / name)]
        command += ["--identity", str(self._identities[name])] if name in self._identities else []
        command += [] if worker is None else self._settings(worker)
        threads = 1 if worker is None else worker.threads or os.cpu_count() or 1
        # BLAS and OpenMP read these when they are loaded; without them every process starts a thread per core.
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        for variable in ("FEDTIDE_CONFIG", "FEDTIDE_BLOBS"):
            environment.pop(variable, None)
        # An address may hold a password, and everybody on the machine reads command lines.
        environment |= {"FEDTIDE_BROKER": self._broker, "FEDTIDE_ALLOW": " ".join(self._allow)}
        with (self._folder / f"{name}.log").open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                # A Ctrl-C in the terminal is for the coordinator, which then stops its workers in order.
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(parent, signal.SIGTERM),
            )

    def _settings(self, worker: FleetWorker) -> list[str]:
        command = ["--data", worker.data]
        command += [
            "--data-args",
            json.dumps(worker.data_args),
            "--name",
            worker.name,
            "--threads",
            str(worker.threads),
        ]
        command += ["--grace-seconds", "2"]
        command += ["--emulate-delay-seconds", str(worker.emulate_delay_seconds)]
        command += ["--emulate-example-seconds", str(worker.emulate_example_seconds)]
        if worker.emulate_attack:
            command += ["--emulate-attack", worker.emulate_attack]
        if worker.model:
            command += ["--model", worker.model, "--model-args", json.dumps(worker.model_args)]
        if self._blobs:
            command += ["--blobs", self._blobs]
        for queue in worker.queue:
            command += ["--queue", queue]
        return command

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by worker name."""
        return {name: process.pid for name, process in self._processes.items()}

    def check(self) -> None:
        """Tell of workers that ended by themselves, and start those again that were killed; from the main thread.

        Raises:
            SpecError: none is left; the sentence is the last one that a worker said.
        """
        ended = {name: p.returncode for name, p in self._processes.items() if p.poll() is not None}
        for name in [name for name, code in ended.items() if code < 0 and self._is_replaced(name, code)]:
            del ended[name]
        for name, code in ended.items():
            if name not in self._reported:
                self._reported.add(name)
                log.warning("a worker of the fleet has ended", worker=name, code=code, said=self.last_words(name))
        if self._processes and self._workers and self._workers.keys() <= ended.keys():
            name = next(iter(self._workers))
            raise SpecError(f"every worker of the fleet has ended; {name} said: {self.last_words(name)}")

    def _is_replaced(self, name: str, code: int) -> bool:
        """Whether a worker that was killed lives again, or will; one that ends by itself would end again."""
        if name in self._reported:
            return False
        if name not in self._again_at:
            pause = self._restarts.setdefault(name, Restarts(MAX_DEATHS)).pause_after_death()
            if pause is None:
                return False
            log.warning("a worker of the fleet has ended; starting it again", worker=name, it=how_it_ended(code))
            self._again_at[name] = time.monotonic() + pause
        elif time.monotonic() >= self._again_at[name]:
            del self._again_at[name]
            self._processes[name] = self._start_one(name)
            self._restarts[name].note_start()
        return True

    def ended(self) -> set[str]:
        """Those that ended and are not started again, as of the last ``check``."""
        return set(self._reported)

    def last_words(self, name: str) -> str:
        """The last error in a worker's log, or its last line."""
        path = self._folder / f"{name}.log"
        lines = [
            line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
        errors = [line for line in lines if line.startswith("Error")]
        return (errors or lines or [f"nothing; see {path}"])[-1][:500]

    def stop(self, grace_seconds: float = 8.0) -> None:
        """Ask all to leave, wait, and end those that do not."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + grace_seconds
        for process in self._processes.values():
            try:
                process.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
