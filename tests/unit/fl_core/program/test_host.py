"""What a machine is called."""

from __future__ import annotations

import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.program.host import default_name, host_name
from fl_core.wire.messages import Beat

PODS = ["fedtide-worker-deployment-for-the-northern-hospitals-7f9c6b5d8f-x2x2x"[:63] + end for end in "ab"]
NAMES = [
    "pi-7",
    "",
    ".",
    "_edge-01",
    "-gw",
    "höhle.local",
    "Anna’s-MacBook",
    ".local",
    "a" * 253,
    "\udcff\udcfe",
    "a\nb",
]


def _named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(platform, "node", lambda: name)


@given(st.one_of(st.sampled_from([*NAMES, *PODS]), st.text(max_size=300)), st.integers(1, 2**22))
def test_every_host_gives_a_legal_worker_name(host: str, pid: int) -> None:
    """Whatever the host is called, the worker's default name and its beat can be sent."""
    with pytest.MonkeyPatch.context() as patch:
        _named(patch, host)
        name = default_name(pid)
        beat = Beat(
            worker=name, state="idle", queues=("default",), holding="", host=host_name(), pid=pid, started_ms=0,
            threads=0, device="", num_done=0, num_failed=0, bytes_up=0, bytes_down=0,
        )  # fmt: skip
        assert Beat.from_bytes(beat.to_bytes()) == beat
    assert len(name) <= 64
    assert name.endswith(f"-{pid}")


def test_hosts_that_differ_give_names_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods' names differ at the end, which is cut, others in letters that a name cannot have; all have process 1."""
    names = set()
    hosts = [*NAMES, *PODS, "hühle.local", "h-hle.local", "edge-01"]
    for host in hosts:
        _named(monkeypatch, host)
        names.add(default_name(1))
    assert len(names) == len(hosts)
    _named(monkeypatch, "pi-7")
    assert default_name(12) == "pi-7-12"
