"""Redis keys: one campaign's never meet another's, and the table in the docstring is complete."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from fl_core.broker import keys
from fl_core.broker.keys import CampaignKeys, train_queue

IDENTIFIERS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,20}", fullmatch=True)
PROPERTIES = [name for name, member in vars(CampaignKeys).items() if isinstance(member, property)]


def _all(campaign: CampaignKeys) -> list[str]:
    by_name = [
        campaign.version(3),
        campaign.patch(3),
        campaign.blob("w:7-a.1"),
        campaign.said("w"),
        campaign.constants("ab"),
    ]
    return [getattr(campaign, name) for name in PROPERTIES] + by_name


@given(IDENTIFIERS, IDENTIFIERS)
def test_two_campaigns_share_no_key(first: str, second: str) -> None:
    """Whatever their names, the keys of two campaigns differ, and each campaign's own keys differ among themselves."""
    mine = _all(CampaignKeys(first))
    assert len(set(mine)) == len(mine)
    if first != second:
        assert not set(mine) & set(_all(CampaignKeys(second)))


@given(IDENTIFIERS)
def test_a_campaign_s_keys_are_in_one_slot(campaign: str) -> None:
    """Its scripts touch several keys at once: the part in the first braces, which a cluster hashes, is the same."""
    assert {re.search(r"\{(.*?)\}", key)[1] for key in _all(CampaignKeys(campaign))} == {campaign}  # type: ignore[index]


def test_the_page_lists_every_key() -> None:
    """The table at the top names each key that a campaign has, and each that all of them share."""
    names = set(re.findall(r"``fedtide:c:\{id\}:([a-z]+)", keys.__doc__ or ""))
    assert names == {key.partition("}:")[2].partition(":")[0] for key in _all(CampaignKeys("c"))}
    plain = {name: value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}
    shared = [value for name, value in plain.items() if "PREFIX" not in name]
    assert shared
    for key in shared:
        assert f"``{key}``" in (keys.__doc__ or "")


def test_each_key_has_its_type() -> None:
    """What a key holds is said once more for programs, and both say the same."""
    table = dict(re.findall(r"``(\S+)`` +(string|hash|zset|set|list|stream)", keys.__doc__ or ""))
    types = CampaignKeys("c").types() | keys.SHARED_TYPES
    plain = {key.replace("{id}", "{c}"): kind for key, kind in table.items() if "<" not in key}
    assert types == plain


def test_all_keys_are_ours() -> None:
    """Everything begins with fedtide: another user of the same Redis is not disturbed."""
    assert all(key.startswith("fedtide:") for key in [*_all(CampaignKeys("c")), keys.DEVICES, keys.CAMPAIGNS])
    assert train_queue("gpu") == "fedtide.train.gpu"
