"""TOML that the documents show: each block is taken as a spec, a part of one, or a file of workers."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from coordinator.launch.fleet import parse_fleet
from fl_core.aggregation import build_strategy
from fl_core.models import mlp
from fl_core.spec import CampaignSpec, parse_spec
from fl_core.training.method import build_method
from fl_core.vectors.layout import Layout
from tests.docs.pages import PAGES, ROOT, Block, blocks

SETTINGS = [block for page in PAGES for block in blocks(page, "toml")]
(COMPLETE,) = [tomllib.loads(block.text) for block in SETTINGS if block.page == ROOT / "README.md"]


def _over(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The README's spec, with the block's sections in the place of its own; of ``[model]`` the factory stays."""
    merged = {**whole, **part}
    if "factory" not in merged["model"]:
        merged["model"] = {**whole["model"], **merged["model"]}
    return merged


def _verify(spec: CampaignSpec) -> None:
    """What a launch does with these settings, on a model that is quickly made."""
    layout = Layout.of(mlp(inputs=4, hidden=[3], classes=2))
    if ":" not in spec.aggregation.strategy:
        build_strategy(spec, layout, layout.flatten(mlp(inputs=4, hidden=[3], classes=2)))
    if ":" not in spec.training.method:
        build_method(spec.training)


@pytest.mark.parametrize("block", SETTINGS, ids=str)
def test_each_block_is_taken(block: Block) -> None:
    """Keys and values are accepted, alone or over the README's spec; strategy and method take their arguments."""
    document = tomllib.loads(block.text)
    if "worker" in document:
        assert parse_fleet(document, str(block))
    else:
        _verify(parse_spec(_over(COMPLETE, document), str(block)))


def test_the_readme_s_spec_is_complete() -> None:
    """The README says that its spec is complete, and it is."""
    _verify(parse_spec(COMPLETE))
