"""What deploy/ and docker-compose.yml name exists, and keeps the promises about isolation that they make."""

from __future__ import annotations

import ast
import configparser
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
WORKER_KEYS = {"broker", "data", "data_args", "queue", "name", "threads", "state_dir"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    document: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return document


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / "fedtide-worker.service").read_text())
    return parser


def _dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()


def _programs(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in compose["services"].items() if service["image"].startswith("fedtide:")}


def test_every_service_is_confined_and_watched(compose: dict[str, Any]) -> None:
    """Each container has a health check, a read-only root, no capabilities and no way to gain any."""
    for name, service in compose["services"].items():
        assert service["healthcheck"]["test"], name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_ports_are_published_on_loopback_only(compose: dict[str, Any]) -> None:
    """No container can be reached from another machine."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_programs_wait_for_a_healthy_broker(compose: dict[str, Any]) -> None:
    """Coordinator and workers start when Redis answers, and use the address of that service."""
    for name, service in _programs(compose).items():
        assert service["depends_on"]["redis"]["condition"] == "service_healthy", name
        assert service["environment"]["FEDTIDE_BROKER"].startswith("redis://redis:"), name


def test_second_server_writes_nothing_and_never_evicts(compose: dict[str, Any]) -> None:
    """The server for blobs has a limit and no persistence, no volume and no port; who goes there was given its name."""
    blobs, broker = compose["services"]["blobs"], compose["services"]["redis"]
    options = blobs["command"][1:]
    settings = dict(zip(options[::2], options[1::2], strict=True))
    assert (settings["--save"], settings["--appendonly"]) == ("", "no")
    assert settings["--maxmemory-policy"] == "noeviction"
    assert settings["--maxmemory"]
    assert not {"ports", "volumes"} & set(blobs)
    assert (blobs["image"], blobs["user"]) == (broker["image"], broker["user"])
    coordinator = compose["services"]["coordinator"]
    assert coordinator["environment"]["FEDTIDE_BLOBS"] == "blobs:6379"
    assert coordinator["depends_on"]["blobs"]["condition"] == "service_healthy"
    given = {name: service["environment"].get("FEDTIDE_BLOBS") for name, service in _programs(compose).items()}
    assert given.pop("monitor") is None
    assert set(given.values()) == {"blobs:6379"}


def test_files_that_compose_names_exist(compose: dict[str, Any]) -> None:
    """The Dockerfile, the mounted settings and the spec in the coordinator's command are in the repository."""
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists(), (name, source)
    for service in _programs(compose).values():
        assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    (spec,) = [word for word in compose["services"]["coordinator"]["command"] if word.endswith(".toml")]
    assert (ROOT / spec.lstrip("/")).is_file()


def test_monitor_and_prometheus_share_a_login(compose: dict[str, Any], tmp_path: Path) -> None:
    """The token that was given, or one that is made once; Prometheus reads it where the other's volume is mounted."""
    yaml = pytest.importorskip("yaml")
    monitor, prometheus = compose["services"]["monitor"], compose["services"]["prometheus"]
    kept, read = monitor["volumes"][0].split(":"), prometheus["volumes"][1].split(":")
    assert (kept[0], read[2]) == (read[0], "ro")
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    files = {job["job_name"]: job.get("authorization", {}).get("credentials_file") for job in jobs}
    assert files.pop("fedtide") == f"{read[1]}/login"
    assert set(files.values()) == {None}

    (tmp_path / "fedtide").write_text('#!/bin/sh\necho "$FEDTIDE_MONITOR_LOGIN" "$@"\n')
    (tmp_path / "fedtide").chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin"

    def started(given: str) -> str:
        command = [word.replace("$$", "$").replace(kept[1], str(tmp_path)) for word in monitor["command"]]
        environment = {"PATH": path, "FEDTIDE_MONITOR_LOGIN": given}
        token, _, rest = subprocess.check_output(command, env=environment, text=True).partition(" ")
        assert rest == "monitor --host 0.0.0.0 --port 8080\n"
        assert (tmp_path / "login").read_text() == token
        return token

    made = started("")
    assert len(made) >= 16
    assert (started(""), started("a-token-of-our-own")) == (made, "a-token-of-our-own")


def test_three_classes_of_workers_share_out_the_data(compose: dict[str, Any]) -> None:
    """The workers differ in speed, and their shards cover the dataset once."""
    workers = {name: service for name, service in compose["services"].items() if name.startswith("worker")}
    arguments = [json.loads(service["environment"]["FEDTIDE_DATA_ARGS"]) for service in workers.values()]
    assert len({service["cpus"] for service in workers.values()}) == 3
    assert sorted(each["shard"] for each in arguments) == list(range(arguments[0]["num_shards"]))
    assert len({json.dumps(each | {"shard": 0}) for each in arguments}) == 1


def test_worker_settings_parse() -> None:
    """worker.toml shows every setting of a worker, and nothing that is not one."""
    settings = tomllib.loads((DEPLOY / "worker.toml").read_text())
    assert set(settings) == WORKER_KEYS
    assert isinstance(settings["data_args"], dict)
    assert isinstance(settings["queue"], list)


def test_unit_runs_an_installed_program(unit: configparser.ConfigParser, project: dict[str, Any]) -> None:
    """The service starts a program of this package, and the settings file that the comments say to install."""
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert Path(program).name in project["scripts"]
    assert arguments == ["--config", "/etc/fedtide/worker.toml"]
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_unit_lets_a_task_be_handed_back_and_comes_back_for_ever(unit: configparser.ConfigParser) -> None:
    """SIGTERM reaches the main process alone with time to act, and no number of failures ends the restarts."""
    service = unit["Service"]
    assert (service["KillSignal"], service["KillMode"], service["Restart"]) == ("SIGTERM", "mixed", "always")
    assert int(service["TimeoutStopSec"]) >= 30
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"


def test_unit_and_settings_agree_on_the_state_folder(unit: configparser.ConfigParser) -> None:
    """The folder in worker.toml is the one that systemd makes for the service."""
    settings = tomllib.loads((DEPLOY / "worker.toml").read_text())
    assert settings["state_dir"] == f"/var/lib/{unit['Service']['StateDirectory']}"


def test_image_copies_only_what_exists_and_is_let_in() -> None:
    """Every COPY from the repository has a source, and .dockerignore does not hide it."""
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", _dockerfile(), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in let_in, source


def test_image_runs_as_nobody_in_particular() -> None:
    """The last USER is a number that is not root's, and no syntax line asks for a download."""
    assert re.findall(r"^USER (\d+):(\d+)$", _dockerfile(), re.MULTILINE)[-1] == ("10001", "10001")
    assert "# syntax=" not in _dockerfile()


def test_image_is_built_from_locks_that_exist(compose: dict[str, Any]) -> None:
    """LOCK by default, and in docker-compose.yml, names a file of requirements/; all but PyTorch has hashes."""
    (lock,) = re.findall(r"^ARG LOCK=(.*)$", _dockerfile(), re.MULTILINE)
    for name in {lock, *(service["build"]["args"]["LOCK"] for service in _programs(compose).values())}:
        assert (ROOT / f"requirements/{name}.txt").is_file()
    for line in re.findall(r"pip install (.*--requirement .*?)(?: \\|$)", _dockerfile(), re.MULTILINE):
        assert "--require-hashes" in line or line.endswith("requirements/torch.txt"), line


def test_health_check_is_light() -> None:
    """The health check imports neither torch nor celery, directly or by what it imports from this package."""
    tree = ast.parse((DEPLOY / "healthcheck.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name and name.startswith("fl_core")} == {
        "fl_core.broker.connection",
        "fl_core.broker.keys",
        "fl_core.errors",
        "fl_core.identity.folder",
    }


def test_redis_settings_keep_the_log_and_never_evict() -> None:
    """redis.conf has the two lines without which updates can be lost, and stays closed to strangers."""
    lines = (DEPLOY / "redis.conf").read_text().splitlines()
    assert {"appendonly yes", "maxmemory-policy noeviction", "protected-mode yes"} <= set(lines)
