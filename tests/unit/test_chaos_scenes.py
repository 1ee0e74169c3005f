"""What the chaos harness draws can be played, and what it draws covers what there is."""

from __future__ import annotations

from fl_core.aggregation import build_strategy
from fl_core.models.build import build_model
from fl_core.spec import parse_spec
from fl_core.trial.parts import verify_parts
from fl_core.vectors.layout import Layout
from tests.chaos.scene import BATTERY, EXTRAS, draw, parse


def test_every_scene_that_is_drawn_can_be_launched() -> None:
    """A seed that nobody has tried must not end before the first update; together the seeds draw everything."""
    seen: set[str] = set()
    tried: set[str] = set()
    for seed in range(100):
        scene = draw(seed)
        assert draw(seed) == scene
        seen |= {
            scene.strategy,
            f"privacy {scene.privacy}",
            f"codec {scene.codec}",
            f"down {scene.down}",
            *scene.faults,
        }
        seen |= {name for name in ("blobs", "embedded", "end", "keepers") if getattr(scene, name)}
        told = str(scene.spec())
        if told not in tried:
            tried.add(told)
            spec = parse_spec(scene.spec())
            model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
            layout = Layout.of(model)
            strategy = build_strategy(spec, layout, layout.flatten(model))
            verify_parts(spec, strategy, layout)
    wanted = {"fedbuff", "fedasync", "fedavg", "ca2fl", "fadas", "codec int8", "codec topk", "codec fp16", "down int8"}
    assert (
        wanted | {*BATTERY, *EXTRAS, "embedded", "end", "privacy central", "privacy off", "keepers", "keeper"} <= seen
    )


def test_a_scene_can_be_chosen() -> None:
    """The environment names what of the drawn scene shall be another."""
    scene = parse("strategy=fedbuff codec=fp32 down=fp32 privacy=off faults=worker,blobs embedded=no end=1", 1)
    assert (scene.strategy, sorted(scene.faults), scene.blobs, scene.embedded, scene.end) == (
        "fedbuff", ["blobs", "worker"], True, False, True,
    )  # fmt: skip
    assert scene.referee_merges
    assert not parse("strategy=fedbuff codec=fp32 down=fp32 faults=power", 1).referee_merges
    private = parse("strategy=asyncfeded codec=topk privacy=central", 1)
    assert (private.strategy, private.codec, private.referee_merges) == ("fedbuff", "int8", False)
