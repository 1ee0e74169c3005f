"""The fleet that is asked for: from a file, or from its content, with the campaign's data where it names none."""

from __future__ import annotations

from pathlib import Path

from coordinator.simulation.fleet.asked_for import drawn_fleet
from fl_core.spec import parse_spec

SPEC = parse_spec(
    {
        "campaign": {"seed": 3},
        "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [], "classes": 10}},
        "evaluation": {"data": "fl_core.data:digits", "data_args": {"split": "test", "as_images": True}},
    },
    source="test",
)


def test_devices_have_what_is_not_held_out(tmp_path: Path) -> None:
    """In the same form, of the sizes that the profile says; a file says the same as its content."""
    (tmp_path / "fleet.toml").write_text('[data]\nexamples = 7\n[[devices]]\nname = "pi"\n')
    for profile in (tmp_path / "fleet.toml", {"data": {"examples": 7}, "devices": [{"name": "pi"}]}):
        fleet = drawn_fleet(SPEC, 4, profile)
        (inputs, _), *others = fleet[2].load()
        assert (fleet[2].name, inputs.shape, len(others)) == ("pi-2", (1, 8, 8), 6)
    assert drawn_fleet(SPEC, 4, None)[0].seconds_per_example == drawn_fleet(SPEC, 4, {})[0].seconds_per_example
