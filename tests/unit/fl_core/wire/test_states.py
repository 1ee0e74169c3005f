"""States: one table that programs, pages and styles agree with."""

from __future__ import annotations

import re
from importlib import resources

from coordinator.campaign.course import Phase
from coordinator.terminal.tables import STATE_STYLES, WORKER_STYLES
from fl_core.wire import states


def test_the_log_s_phases_are_the_watchers_states() -> None:
    """Beside them there is only what a coordinator that cannot go on says; the same ones are over for both."""
    assert {*Phase} | {states.FAILED} == {*states.STATES}
    assert [phase for phase in Phase if phase.is_over] == [*states.OVER]


def test_each_request_is_taken_in_a_state_that_is_not_over() -> None:
    """What may be asked stands once: each state of the table in the module's text takes what the mapping says."""
    assert states.TAKEN_IN.keys() == {"pause", "resume", "stop", "readmit"}
    told = re.findall(r"^(\w+) {2,}\S.*? {2,}(\w[\w, ]*)$", states.__doc__ or "", re.M)[1:]
    for state, requests in told:
        taken = {request for request, allowed in states.TAKEN_IN.items() if state in allowed}
        assert taken == ({*requests.split(", ")} if not requests.startswith("none") else set()), state
    assert [state for state, _ in told] == [*states.STATES]


def test_every_state_has_its_colour() -> None:
    """In the terminal and on the page."""
    folder = resources.files("coordinator.monitor") / "page"
    page = "".join((folder / name).read_text() for name in ("pieces.js", "tables.js"))
    (of_campaigns,) = re.findall(r"STATE_CLASS = \{(.*?)\}", page)
    (of_workers,) = re.findall(r"WORKER_CLASS = \{(.*?)\}", page)
    assert STATE_STYLES.keys() == {*states.STATES} == {*re.findall(r"(\w+):", of_campaigns)}
    assert WORKER_STYLES.keys() <= {*states.WORKER_STATES, states.SILENT, "gone"}
    assert {*re.findall(r"(\w+):", of_workers)} == {*states.WORKER_STATES, states.SILENT, "gone"}
