"""What a performance is about: strategy, codecs, servers and faults, drawn from its seed or given."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

BATTERY = {"coordinator": 8.0, "worker": 5.0, "broker": 25.0, "cable": 15.0}
"""Mean seconds between strikes of what every performance has."""

EXTRAS = {"evaluator": 12.0, "blobs": 15.0, "power": 20.0, "snapshot": 40.0, "clock": 20.0, "disk": 30.0}
"""The same of what only some have: killed evaluators and second servers; a server that comes back without its last
second, or as it was some seconds ago; its clock set; the disk of the run's folder full."""

OF_KEEPERS = {"keeper": 6.0}
"""And of scenes with keepers."""

KEEPERS = ("keeper-0", "keeper-1", "keeper-2")

PRIVATE = ("fedbuff", "fadas", "fedavg")
"""Strategies that go with central privacy."""

MASKED = ("fedbuff", "fadas")
"""And with keepers."""

LOSING = frozenset({"power", "snapshot"})
"""Faults after which the server has forgotten what it had acknowledged."""


# A budget that no device spends in a performance, and noise that leaves numbers finite.
PRIVACY = {"mode": "central", "clip": 0.01, "noise_multiplier": 30.0, "delta": 1e-6, "max_participations": 100_000}

SECURE_AGGREGATION = {"keepers": list(KEEPERS), "colluders": 1, "min_devices": 3}


@dataclasses.dataclass(frozen=True)
class Scene:
    """One configuration.

    Attributes:
        strategy, codec, down: of the campaign's spec.
        blobs: a second server for versions.
        embedded: the coordinator starts its own servers; killed alone, it has to start them again.
        end: the coordinator is killed again and again while it ends the campaign.
        privacy: ``central``, or ``off``.
        keepers: updates are masked, and three keepers open sums.
        faults: mean seconds between strikes, by name.
    """

    strategy: str = "fedbuff"
    codec: str = "fp32"
    down: str = "fp32"
    blobs: bool = False
    embedded: bool = False
    end: bool = False
    privacy: str = "off"
    keepers: bool = False
    faults: dict[str, float] = dataclasses.field(default_factory=lambda: dict(BATTERY))

    @property
    def losing(self) -> bool:
        """Whether the server forgets acknowledged writes at some time."""
        return bool(LOSING & self.faults.keys())

    @property
    def referee_merges(self) -> bool:
        """Whether the referee's own arithmetic is that of this scene."""
        form = (self.strategy, self.codec, self.down, self.privacy, self.keepers, self.losing)
        return form == ("fedbuff", "fp32", "fp32", "off", False, False)

    @property
    def keeps_log(self) -> bool:
        """Whether the coordinator keeps the log, by which the referee merges again; with privacy it may not."""
        return self.privacy == "off"

    def spec(self) -> dict[str, Any]:
        """The campaign's spec. With patches or a second server the model is too large to come with a claim."""
        # The kept log of a large one fills a small disk for good.
        large = (self.blobs or self.down == "int8") and "disk" not in self.faults
        aggregation: dict[str, Any] = {"strategy": self.strategy}
        if self.strategy not in ("fedasync", "asyncfeded"):
            aggregation["buffer_size"] = 4
        if self.strategy != "fedavg":
            aggregation["max_staleness"] = 1_000_000
        codec: dict[str, Any] = {"name": self.codec, "down": self.down}
        if self.codec == "topk":
            codec["fraction"] = 0.1
        return {
            "campaign": {"name": "chaos", "seed": 3},
            "model": {
                "factory": "fl_core.models:mlp",
                "args": {"inputs": 64, "hidden": [1200 if large else 32], "classes": 10},
            },
            "training": {"local_steps": 3},
            "aggregation": aggregation,
            "server_optimizer": {"learning_rate": 0.01 if self.strategy == "fadas" else 1.0},
            "codec": codec,
            "dispatch": {
                "concurrency": 8 if self.strategy == "fedavg" else 10,
                "max_attempts": 1000,
                "lease_seconds": 5.0,
            },
            "checkpoint": {"keep_log": self.keeps_log, "every_merges": 50, "every_seconds": 3.0},
            # So much noise leaves no model. A guard that went back would cancel what waits; nothing is to be missing.
            **({"privacy": PRIVACY, "guard": {"enabled": False}} if self.privacy == "central" else {}),
            **({"secure_aggregation": SECURE_AGGREGATION} if self.keepers else {}),
            **(
                {"evaluation": {"data": "fl_core.data:digits", "data_args": {"split": "test"}}}
                if "evaluator" in self.faults
                else {}
            ),
        }

    def describe(self) -> dict[str, Any]:
        """For the line at the end."""
        told = dataclasses.asdict(self)
        return {**told, "faults": sorted(self.faults)}


def draw(seed: int) -> Scene:
    """A scene: always the battery, further faults, and whatever the seed says of the rest."""
    choose = random.Random(f"scene {seed}")
    strategy = choose.choice(["fedbuff", "fedasync", "fedavg", "ca2fl", "fadas", "asyncfeded", "attention"])
    codec = choose.choice(["fp32", "fp16", "int8", "topk"])
    if strategy in ("fedasync", "asyncfeded"):
        codec = choose.choice(["fp32", "fp16"])  # whole parameters, or norms, are no matter of a tenth of the elements
    if strategy == "fedavg" and codec == "topk":
        codec = "int8"
    down = choose.choice(["fp32", "int8"])
    # A server that is the coordinator's own cannot be cut back or have its clock set from outside, and its file would
    # soon fill the small disk of the run's folder for good.
    embedded = choose.random() < 0.25
    extras = ["evaluator"] if embedded else choose.sample(sorted(EXTRAS), 2)
    faults = {**BATTERY, **{name: EXTRAS[name] for name in extras}}
    scene = Scene(
        strategy, codec, down, blobs="blobs" in extras, embedded=embedded, end=choose.random() < 0.5, faults=faults
    )
    if strategy in PRIVATE and choose.random() < 0.5:
        scene = _with_privacy(scene)
    # An embedded server is the coordinator's own, who makes identities for its own fleet alone.
    if strategy in MASKED and not embedded and choose.random() < 0.5:
        scene = _with_keepers(scene)
    return scene


def _with_privacy(scene: Scene) -> Scene:
    strategy, codec = _private(scene)
    return dataclasses.replace(scene, strategy=strategy, codec=codec, privacy="central")


def _with_keepers(scene: Scene) -> Scene:
    """The scene with keepers, who are killed too; a masked update is written in one way only."""
    strategy = scene.strategy if scene.strategy in MASKED else "fedbuff"
    faults = {**scene.faults, **OF_KEEPERS}
    return dataclasses.replace(scene, strategy=strategy, codec="fp32", embedded=False, keepers=True, faults=faults)


def _private(scene: Scene) -> tuple[str, str]:
    """Strategy and codec as they are with central privacy, which takes neither any strategy nor any codec."""
    return (
        scene.strategy if scene.strategy in PRIVATE else "fedbuff",
        "int8" if scene.codec == "topk" else scene.codec,
    )


def parse(text: str, seed: int) -> Scene:
    """``plain``, ``drawn``, or what to change of the drawn one: ``strategy=fedavg codec=int8 faults=worker,power``.

    >>> parse("strategy=fedavg faults=worker,power embedded=0", 1).losing
    True
    """
    if text == "plain":
        return Scene()
    scene = draw(seed)
    words = dict(word.split("=", 1) for word in text.replace(";", " ").split() if "=" in word)
    given = dict(words)
    if "faults" in words:
        every = {**BATTERY, **EXTRAS, **OF_KEEPERS}
        faults = {name: every[name] for name in words.pop("faults").split(",") if name}
        scene = dataclasses.replace(scene, faults=faults, blobs=scene.blobs or "blobs" in faults)
    for key in {"blobs", "embedded", "end", "keepers"} & words.keys():
        scene = dataclasses.replace(scene, **{key: words.pop(key) not in ("", "0", "no")})
    scene = dataclasses.replace(scene, **words)
    # What was drawn gives way to what was chosen; what was chosen stays, and the rest is made to go with it.
    if "keepers" not in given and (scene.strategy not in MASKED or scene.codec != "fp32" or scene.embedded):
        scene = dataclasses.replace(scene, keepers=False)
    if "privacy" not in given and (scene.strategy, scene.codec) != _private(scene):
        scene = dataclasses.replace(scene, privacy="off")
    scene = _with_privacy(scene) if scene.privacy == "central" else scene
    if scene.keepers:
        return _with_keepers(scene)
    return dataclasses.replace(scene, faults={name: every for name, every in scene.faults.items() if name != "keeper"})
