"""The stage: servers, a coordinator and eight workers, each behind a cable of its own, and what can be done to them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli_w

from coordinator.enrolment.trial import trial_federation
from fl_core.broker.server.embedded import EmbeddedServer
from tests.chaos.proxy import Proxy
from tests.chaos.scene import KEEPERS, Scene
from tests.chaos.witness import Witness
from tests.integration.warm import WarmProcess, start

NUM_WORKERS = 8
DELAYS = (0.05, 0.05, 0.05, 0.05, 0.1, 0.1, 0.3, 0.6)
TAIL_SECONDS = 1.0
SNAPSHOT_SECONDS = 8.0
DISK = "96m"


class Actor:
    """One program that is started again whenever it is not running."""

    def __init__(self, name: str, folder: Path, command: list[str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._folder = folder
        self._command = command
        self.process: WarmProcess | subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *more: str) -> None:
        self.starts += 1
        with self.log.open("ab") as output:
            variables = {**os.environ, "OMP_NUM_THREADS": "1"}
            self.process = start([*self._command, *more], self._folder, output, output, variables)

    def children(self) -> list[int]:
        """Process ids of what it has started (Linux)."""
        if not self.running or self.process is None:
            return []
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
            return [int(word) for word in text.split()]
        return []

    def kill(self) -> bool:
        if not self.running or self.process is None:
            return False
        self.process.kill()
        self.process.wait()
        return True

    def end(self, seconds: float) -> int | None:
        if self.process is None:
            return None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None


class Theatre:
    """Everything on loopback, in one folder; only what was started here is killed, by its id."""

    def __init__(self, folder: Path, seed: int, scene: Scene) -> None:
        self.folder = folder
        self.scene = scene
        self.random = random.Random(seed)
        self.skipped: list[str] = []
        self.kills = dict.fromkeys(sorted({*scene.faults, *(["end"] if scene.end else [])}), 0)
        self._mounted = False
        self._clock = self._prepare_clock()
        self._sizes: deque[tuple[float, int]] = deque(maxlen=400)
        self._snapshot: tuple[float, Path] | None = None
        self._ballast_until = 0.0
        self.server = EmbeddedServer(folder / "server", persistent=True, flush="everysec" if scene.losing else "always")
        with self._faked():
            self.server.start()
        self.port = self.server.port
        self.url = self.server.url
        self.blobs = EmbeddedServer(folder / "blobs", persistent=False) if scene.blobs else None
        if self.blobs is not None:
            self.blobs.start()
        if scene.embedded:
            self.server.stop()  # it has found a free port, which the coordinator's own takes
        spec = folder / "spec.toml"
        spec.write_text(tomli_w.dumps(scene.spec()))
        self.run_folder = self._prepare_disk() / "run"
        names = [f"w{index}" for index in range(NUM_WORKERS)]
        self._identities = (
            trial_federation(folder / "federation", "leader", "operator", dict.fromkeys(names, ("default",)), KEEPERS)
            if scene.keepers
            else {}
        )
        self._user = "default:any@" if scene.keepers else ""  # the server's own, which asks for no password
        self.url = self.url.replace("redis://", f"redis://{self._user}")
        run = ["coordinator", *self._as("leader"), "run", str(spec), "--out", str(self.run_folder)]
        run += ["--port", str(self.port)] if scene.embedded else ["--broker", self.url]
        run += ["--blobs", f":{self.blobs.port}"] if self.blobs is not None else []
        self.coordinator = Actor("coordinator", folder, run)
        self.witness = Witness(self.url)
        self.proxies = [Proxy(("127.0.0.1", self.port)) for _ in range(NUM_WORKERS)]
        self.workers = [self._worker(index) for index in range(NUM_WORKERS)]
        self.keepers = [self._keeper(name) for name in KEEPERS] if scene.keepers else []

    def _as(self, name: str) -> list[str]:
        """The option by which a program is somebody, in scenes in which everybody is somebody."""
        return ["--identity", str(self._identities[name])] if self._identities else []

    def _keeper(self, name: str) -> Actor:
        command = ["keepers", *self._as(name), "--broker", self.url, "--state-dir", str(self.folder / f"state-{name}")]
        return Actor(name, self.folder, command)

    def _worker(self, index: int) -> Actor:
        data_args = json.dumps({"shard": index, "num_shards": NUM_WORKERS})
        name, port = f"w{index}", self.proxies[index].port
        command = ["workers", *(self._as(name) or ["--name", name])]
        command += ["--broker", f"redis://{self._user}127.0.0.1:{port}/0"]
        command += ["--data", "fl_core.data:digits", "--data-args", data_args, "--threads", "1", "--log-level", "debug"]
        command += ["--state-dir", str(self.folder / f"state-{index}")]
        # Whoever has an identity takes no server for large payloads from the broker's word alone.
        command += ["--blobs", f":{self.blobs.port}"] if self._identities and self.blobs is not None else []
        return Actor(f"w{index}", self.folder, [*command, "--emulate-delay-seconds", str(DELAYS[index])])

    # -- what needs more than this machine may have ------------------------------------------------------------------

    def _prepare_clock(self) -> Path | None:
        if "clock" not in self.scene.faults:
            return None
        given = os.environ.get("CHAOS_FAKETIME", "")
        found = [Path(given)] if given else sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        if not found or not found[0].is_file():
            self._skip("clock", "libfaketime is not installed; CHAOS_FAKETIME names it elsewhere")
            return None
        (self.folder / "clock").write_text("+0")
        return found[0]

    @contextlib.contextmanager
    def _faked(self) -> Iterator[None]:
        """The server that is started meanwhile reads its clock from a file."""
        if self._clock is None:
            yield
            return
        fake = {
            "LD_PRELOAD": str(self._clock),
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / "clock"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        os.environ.update(fake)
        try:
            yield
        finally:
            for name in fake:
                del os.environ[name]

    def _prepare_disk(self) -> Path:
        """A small disk for the run's folder, where this user may mount one."""
        disk = self.folder / "disk"
        disk.mkdir()
        if "disk" in self.scene.faults:
            command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)]
            self._mounted = (
                os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
            )
            if not self._mounted:
                self._skip("disk", "a small disk cannot be mounted here; that needs root")
        return disk

    def _skip(self, fault: str, why: str) -> None:
        self.skipped.append(fault)
        print(f"no {fault}: {why}", file=sys.stderr, flush=True)

    # -- the play ----------------------------------------------------------------------------------------------------

    def tend(self) -> None:
        """Start again whatever is not running, and look at what a later strike needs to know."""
        if not self.coordinator.running:
            has_checkpoint = any((self.run_folder / "checkpoint").glob("*.msgpack"))
            self.coordinator.start(*(["--resume"] if has_checkpoint else []))
        for actor in (*self.keepers, *self.workers):
            if not actor.running:
                actor.start()
        self.witness.look()
        now = time.monotonic()
        if "power" in self.scene.faults and (tail := self._tail()) is not None:
            self._sizes.append((now, tail.stat().st_size))
        if "snapshot" in self.scene.faults and (self._snapshot is None or now - self._snapshot[0] > SNAPSHOT_SECONDS):
            copy = self.folder / "snapshot"
            shutil.rmtree(copy, ignore_errors=True)
            # It stands still meanwhile: a copy of files that are being replaced is no moment that ever was.
            with contextlib.suppress(OSError, shutil.Error), self._frozen():
                shutil.copytree(self.server.folder / "appendonlydir", copy)
                self._snapshot = (now, copy)
        if self._ballast_until and now > self._ballast_until:
            (self.run_folder.parent / "ballast").unlink(missing_ok=True)
            self._ballast_until = 0.0

    @contextlib.contextmanager
    def _frozen(self) -> Iterator[None]:
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.server.pid, signal.SIGCONT)

    def _tail(self) -> Path | None:
        files = sorted((self.server.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
        return files[-1] if files else None

    def strike(self, target: str) -> None:
        """Do one act of violence."""
        if target in self.skipped:
            return
        done = getattr(self, f"_strike_{target}")()
        self.kills[target] += bool(done)

    def _strike_coordinator(self) -> bool:
        return self.coordinator.kill()

    def _strike_worker(self) -> bool:
        return self.random.choice(self.workers).kill()

    def _strike_keeper(self) -> bool:
        return self.random.choice(self.keepers).kill()

    def _strike_broker(self) -> bool:
        if self.scene.embedded:
            return self._kill_child(lambda name: "server" in name)
        self.server.kill()
        time.sleep(self.random.uniform(0.1, 2.0))
        self._start_server()
        return True

    def _strike_evaluator(self) -> bool:
        return self._kill_child(lambda name: "server" not in name)

    def _kill_child(self, wanted: Any) -> bool:
        for pid in self.coordinator.children():
            with contextlib.suppress(OSError):
                if wanted(Path(f"/proc/{pid}/comm").read_text()):
                    os.kill(pid, signal.SIGKILL)
                    return True
        return False

    def _strike_blobs(self) -> bool:
        if self.blobs is None:
            return False
        self.blobs.kill()
        time.sleep(self.random.uniform(0.1, 2.0))
        self.blobs.restart()
        return True

    def _strike_cable(self) -> bool:
        proxy, seconds = self.random.choice(self.proxies), self.random.uniform(0.5, 8.0)
        (proxy.cut if self.random.random() < 0.5 else proxy.freeze)(seconds)
        return True

    def _strike_power(self) -> bool:
        """The server dies and has lost what it wrote in its last moments, up to a second."""
        self.server.kill()
        tail, then = self._tail(), time.monotonic() - self.random.uniform(0.1, TAIL_SECONDS)
        sizes = [size for when, size in self._sizes if when <= then]
        if tail is not None and sizes and sizes[-1] < tail.stat().st_size:
            os.truncate(tail, sizes[-1])
        self._sizes.clear()
        self._start_server()
        return True

    def _strike_snapshot(self) -> bool:
        """The server is restored as it was some seconds ago."""
        if self._snapshot is None:
            return False
        self.server.kill()
        shutil.rmtree(self.server.folder / "appendonlydir")
        shutil.copytree(self._snapshot[1], self.server.folder / "appendonlydir")
        self._sizes.clear()
        self._start_server()
        return True

    def _start_server(self) -> None:
        with self._faked():
            self.server.restart()

    def _strike_clock(self) -> bool:
        """The server's clock is set, forwards or back."""
        step = self.random.choice([-7200, -600, -20, 20, 600, 7200])
        (self.folder / "clock").write_text(f"{step:+d}")
        return True

    def _strike_disk(self) -> bool:
        """The disk of the run's folder is full for some seconds."""
        with contextlib.suppress(OSError), (self.run_folder.parent / "ballast").open("wb") as file:
            while True:
                file.write(bytes(65536))
        self._ballast_until = time.monotonic() + self.random.uniform(1.0, 6.0)
        return True

    def calm(self) -> None:
        """No fault is under way any more; what was cut is whole, and the clock and the disk are as they should be."""
        for proxy in self.proxies:
            proxy.cut(0)
            proxy.freeze(0)
        self._ballast_until = 0.0
        (self.run_folder.parent / "ballast").unlink(missing_ok=True)
        if self._clock is not None:
            (self.folder / "clock").write_text("+0")
        if not self.scene.embedded and not self.server.running:
            self._start_server()

    def fedtide(self, *arguments: str) -> Any:
        broker = [] if arguments[0] == "replay" else ["--broker", self.url]
        command = [sys.executable, "-P", "-m", "coordinator", *self._as("operator"), *arguments, *broker, "--json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            return json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            return {"error": "no answer within a minute"}
        except ValueError:
            return {"error": done.stderr.strip()}

    def close(self) -> None:
        for actor in [self.coordinator, *self.workers, *self.keepers]:
            actor.kill()
        for proxy in self.proxies:
            proxy.close()
        self.server.stop()
        if self.blobs is not None:
            self.blobs.stop()
        if self._mounted:
            subprocess.run(["umount", "-l", str(self.run_folder.parent)], check=False)
