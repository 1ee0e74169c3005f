"""Names of runs: what differs in their specs, where that is short and theirs alone."""

from __future__ import annotations

from coordinator.report.differences import names_by_difference

SPEC = '[campaign]\nname = "a"\nseed = {seed}\n[training]\nlearning_rate = {rate}\n[checkpoint]\nurl = "{url}"\n'


def _spec(seed: int = 0, rate: float = 0.1, url: str = "s3://a") -> str:
    return SPEC.format(seed=seed, rate=rate, url=url)


def test_runs_are_called_by_what_differs() -> None:
    """And not by where they keep their files; a key that one of them lacks is a difference."""
    specs = [_spec(), _spec(seed=1, url="s3://b"), _spec(rate=0.5)]
    assert names_by_difference(specs, ["x", "y", "z"]) == [
        "seed = 0, learning_rate = 0.1", "seed = 1, learning_rate = 0.1", "seed = 0, learning_rate = 0.5",
    ]  # fmt: skip
    longer = _spec().replace('"a"', '"a-very-long-name-of-a-campaign"')
    assert names_by_difference([longer, ""], ["x", "y"]) == ["x", "name = –, seed = –, learning_rate = –"]
    two = ["[codec]\nname = 'int8'\n[campaign]\nname = 'a'", "[codec]\nname = 'fp32'\n[campaign]\nname = 'b'"]
    assert names_by_difference(two, ["x", "y"])[1] == "campaign.name = b, codec.name = fp32"


def test_runs_without_differences_keep_their_names() -> None:
    """So do those whose spec cannot be read."""
    assert names_by_difference([_spec(), _spec(url="s3://b")], ["x", "y"]) == ["x", "y"]
    assert names_by_difference(["not TOML", ""], ["x", "y"]) == ["x", "y"]
    assert names_by_difference([_spec()], ["x"]) == ["x"]
