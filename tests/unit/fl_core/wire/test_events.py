"""Events: each kind's body is one record's map, key for key, and nothing that is not its form gets through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import RejectedUpdate
from fl_core.wire.events import CampaignEvent, Evaluated, EventKind, event_of

RECORDED = Path(__file__).parents[2] / "coordinator" / "campaign" / "formats" / "events.msgpack"
SIGNED = [CampaignEvent.from_bytes(header) for header in msgpack.unpackb(RECORDED.read_bytes())]
READMITTED = {"control": "5-0", "task": 3, "reason": "too_stale", "header": b"h", "payload": b""}
REVOKED = {"number": 3, "serials": ["ab12"]}
REFUSED = {"control": "5-0", "request": "stop", "reason": "replayed", "detail": "again"}
BODIES = [
    *((each.kind, each.body) for each in SIGNED),
    ("readmitted", READMITTED), ("revoked", REVOKED), ("refused", REFUSED),
]  # fmt: skip
JUNK = st.recursive(
    st.none() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def _event(kind: str, body: dict[str, Any]) -> Any:
    return event_of(CampaignEvent(campaign="a", sequence=1, kind=kind, body=body))


def test_every_kind_is_recorded() -> None:
    """But for the one that nobody writes any more."""
    assert {kind for kind, _ in BODIES} == {*EventKind.__args__} - {"expired"}  # type: ignore[attr-defined]
    assert _event("expired", {"task": 1}) is None


@pytest.mark.parametrize(("kind", "body"), BODIES, ids=[f"{index}-{kind}" for index, (kind, _) in enumerate(BODIES)])
def test_recorded_bodies_come_back_byte_for_byte(kind: str, body: dict[str, Any]) -> None:
    """What a coordinator of today writes is what the recorded release wrote; an earlier one's scores are read."""
    event = _event(kind, body)
    if isinstance(event, Evaluated) and event.is_of_old:
        assert event.metrics == {"accuracy": body["accuracy"]}
    else:
        assert msgpack.packb(event.to_map()) == msgpack.packb(body)
    assert event.kind == kind


@given(st.sampled_from([pair for pair in BODIES if pair[1]]), st.data())
def test_a_spoilt_body_is_refused_or_has_its_form(recorded: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    """A key without its value, or with another one: malformed, or an event that can be written again."""
    kind, body = recorded
    name = data.draw(st.sampled_from([*body]))
    spoilt = {key: value for key, value in body.items() if key != name or data.draw(st.booleans())}
    if name in spoilt:
        spoilt[name] = data.draw(JUNK)
    try:
        event = _event(kind, spoilt)
        CampaignEvent(campaign="a", sequence=1, kind=kind, body=event.to_map()).to_bytes()
    except RejectedUpdate as error:
        assert error.reason.value == "malformed"
