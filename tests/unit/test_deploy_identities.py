"""The examples of deploy/ with identities: they are whole, confined, and give each program no more than its own."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fl_core.identity.folder import ACCESS, AUTHORITY, IDENTITY
from tests.docs.test_command_lines import _verify as verify_command_line

DEPLOY = Path(__file__).parents[2] / "deploy"
DROP_IN, COMPOSE = DEPLOY / "fedtide-worker-identity.conf", DEPLOY / "compose-identities.yml"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
USER = 10001


def _documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def _steps(path: Path) -> Iterator[list[str]]:
    """The commands of the comment at a file's head, as words."""
    head = re.split(r"^[^#\n]", path.read_text(), maxsplit=1, flags=re.MULTILINE)[0]
    lines = "\n".join(line.removeprefix("#   ") for line in head.splitlines() if line.startswith("#   "))
    for line in lines.replace("\\\n", " ").splitlines():
        yield shlex.split(re.sub(r"\$\([^)]*\)|\s{3,}where .*", "", line), comments=False)


@pytest.mark.parametrize("path", [DROP_IN, COMPOSE, *MANIFESTS], ids=lambda path: path.name)
def test_the_steps_at_the_head_are_commands(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fedtide's own, wherever they run, are taken by its parsers."""
    monkeypatch.setenv("FEDTIDE_BROKER", "rediss://broker.example.org:6380/0")
    monkeypatch.chdir(tmp_path)
    found = 0
    for words in _steps(path):
        for program in ("fedtide", "fedtide-worker", "/opt/fedtide/bin/fedtide-worker"):
            if program in words and words[0] != "systemctl":
                verify_command_line([program.rpartition("/")[2], *words[words.index(program) + 1 :]])
                found += 1
    assert found or path.name == "worker.yaml"  # which enrol.yaml applies


# -- systemd -----------------------------------------------------------------------------------------------------------


def test_the_service_is_given_the_whole_identity_and_looks_where_it_lies() -> None:
    """Each file by its own name, in the folder in which systemd puts a unit's credentials."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(DROP_IN.read_text())
    given = re.findall(r"^LoadCredential=(\S+):(\S+)$", DROP_IN.read_text(), re.MULTILINE)
    assert {name for name, _ in given} == {IDENTITY, AUTHORITY, ACCESS}
    assert all(source == f"/etc/fedtide/identity/{name}" for name, source in given)
    assert parser["Service"]["Environment"] == "FEDTIDE_IDENTITY=/run/credentials/%n"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit_with_its_drop_in(tmp_path: Path) -> None:
    """But for the program's place, which is not there on this machine."""
    unit = (DEPLOY / "fedtide-worker.service").read_text()
    (tmp_path / "fedtide-worker.service").write_text(unit.replace("/opt/fedtide/bin/fedtide-worker", "/bin/true"))
    (tmp_path / "fedtide-worker.service.d").mkdir()
    shutil.copy(DROP_IN, tmp_path / "fedtide-worker.service.d/identity.conf")
    command = ["systemd-analyze", "verify", str(tmp_path / "fedtide-worker.service")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.splitlines() if "fedtide" in line]
    assert (done.returncode, ours) == (0, [])


# -- compose -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_each_container_is_confined_and_has_its_own_identity_alone(services: dict[str, dict[str, Any]]) -> None:
    """The authority's key is in one container, which is not started with the others; no port is open."""
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "ports" not in service, name
        sources = {volume.split(":")[0].removeprefix("../closed") for volume in service["volumes"]}
        sources = {source for source in sources if not source.startswith("./")}
        if name == "authority":
            assert (sources, service["profiles"]) == ({""}, ["authority"])
            continue
        assert not sources & {"", "/authority", "/authority/identities", "/tokens"}, name
        others = {other for other in services if other.startswith("worker")} - {name}
        assert not sources & {f"/{other}" for other in others}, name


def test_servers_speak_tls_alone_and_keep_their_users(services: dict[str, dict[str, Any]]) -> None:
    """With the certificate of a server, which makes no client: its health is asked for at a socket inside."""
    for name in ("redis", "blobs"):
        words = services[name]["command"]
        options = {word: words[place + 1] for place, word in enumerate(words[:-1]) if word.startswith("--")}
        assert (options["--port"], options["--tls-port"]) == ("0", "6379")
        assert options["--tls-cert-file"] == options["--tls-key-file"] == f"/identity/{IDENTITY}"
        assert options["--tls-ca-cert-file"] == f"/identity/{AUTHORITY}"
        assert options["--aclfile"] == "/data/users.acl"
        assert options["--unixsocket"] in services[name]["healthcheck"]["test"][1]
        assert "../closed/authority/identities/server:/identity:ro" in services[name]["volumes"]
    assert {"--save", "--appendonly"} <= set(services["blobs"]["command"])


def test_programs_go_by_their_identity(services: dict[str, dict[str, Any]]) -> None:
    """Workers have neither address nor name from anywhere else; the folder that they name is mounted."""
    for name in ("worker-1", "worker-2", "coordinator"):
        environment = services[name]["environment"]
        assert not {"FEDTIDE_BROKER", "FEDTIDE_NAME", "FEDTIDE_QUEUE"} & set(environment)
        targets = [volume.split(":")[1] for volume in services[name]["volumes"]]
        assert any(environment["FEDTIDE_IDENTITY"].startswith(target) for target in targets)


# -- Kubernetes --------------------------------------------------------------------------------------------------------


def _pods(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "template" in document["spec"]:
        yield document["spec"]["template"]["spec"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_whole(path: Path) -> None:
    """Selectors meet labels, mounts have volumes, and the secrets are those that the head makes."""
    made = {words[4] for words in _steps(path) if words[:4] == ["kubectl", "create", "secret", "generic"]}
    named = set()
    for document in _documents(path):
        assert {"apiVersion", "kind", "metadata", "spec"} <= set(document)
        if "template" in document["spec"] and "selector" in document["spec"]:
            labels = document["spec"]["template"]["metadata"]["labels"]
            assert document["spec"]["selector"]["matchLabels"] == labels
        claimed = {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
        for pod in _pods(document):
            volumes = {volume["name"] for volume in pod["volumes"]} | claimed
            named |= {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert named == made


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_pods_are_confined_and_their_keys_stay_closed(path: Path) -> None:
    """Not root, no way up, no account of the cluster's; and a volume is not opened to the group at each mount."""
    for document in _documents(path):
        for pod in _pods(document):
            security = pod["securityContext"]
            assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, USER, USER)
            assert security["fsGroupChangePolicy"] == "OnRootMismatch"
            assert pod["automountServiceAccountToken"] is False
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                own = container["securityContext"]
                assert own["readOnlyRootFilesystem"] and own["allowPrivilegeEscalation"] is False
                assert own["capabilities"]["drop"] == ["ALL"]


def test_a_device_has_one_worker_and_one_volume() -> None:
    """The job's claim is the worker's; two workers of one identity would be in each other's way."""
    enrol, worker = _documents(DEPLOY / "kubernetes/enrol.yaml"), _documents(DEPLOY / "kubernetes/worker.yaml")
    (claim,) = [document["metadata"]["name"] for document in enrol if document["kind"] == "PersistentVolumeClaim"]
    for pod in [pod for document in [*enrol, *worker] for pod in _pods(document)]:
        claims = [found["claimName"] for one in pod["volumes"] if (found := one.get("persistentVolumeClaim"))]
        assert claims == [claim]
    (deployment,) = worker
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]["type"]) == (1, "Recreate")


def test_a_pod_of_the_fleet_enrols_once(tmp_path: Path) -> None:
    """Its script asks where there is no certificate, with the token of its own name, and never again."""
    stateful = next(one for one in _documents(DEPLOY / "kubernetes/fleet.yaml") if one["kind"] == "StatefulSet")
    (init,) = stateful["spec"]["template"]["spec"]["initContainers"]
    shell, options, script = init["command"]
    script = script.replace("/device", str(tmp_path / "device"))
    (tmp_path / "fedtide-worker").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "fedtide-worker").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOSTNAME": "fedtide-fleet-2"}

    def run() -> str:
        return subprocess.check_output([shell, options, script], env=environment, text=True)

    assert run().startswith("enroll /tokens/fedtide-fleet-2.token --identity ")
    (tmp_path / "device/identity").mkdir(parents=True)
    (tmp_path / "device/identity/identity.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    assert run().startswith("enroll ")  # it has a key, and was switched off before the answer came
    (tmp_path / "device/identity/identity.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    assert run() == ""
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    shell, options, script = container["command"]
    said = subprocess.check_output([shell, options, script], env=environment, text=True)
    assert said == '--data-args {"shard": 2, "num_shards": 3}\n'
    assert stateful["spec"]["replicas"] == 3
