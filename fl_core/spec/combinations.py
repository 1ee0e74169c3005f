"""Settings that do not go together: strategy, method, codec and their options, each combination with its sentence.

``ROWS`` is the whole table. A spec is held against it when it is read, by what is known of the built-in parts; and once
more at launch, when what the user's own strategy, method and codec send is known too. ``docs/methods.md`` shows the
same rows, and a test takes every combination of built-in parts that no row refuses through training, codec and merge.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from fl_core.built_in import CODECS, METHODS, STRATEGIES
from fl_core.spec.private_combinations import PRIVATE
from fl_core.spec.secure_aggregation import MASKED, only_masked

if TYPE_CHECKING:
    from fl_core.spec.sections import CampaignSpec

Refuse: TypeAlias = Callable[["Choice"], str | None]

STRATEGY_SENDS = dict.fromkeys(STRATEGIES, "delta") | {"fedasync": "parameters", "distillation": "soft_labels"}
"""The kind of update that each built-in strategy merges; a test holds that its class says the same."""

METHOD_SENDS: dict[str, tuple[str, ...]] = dict.fromkeys(METHODS, ("delta",)) | {
    "local": ("delta", "parameters"),
    "distillation": ("soft_labels",),
}
"""The kinds of update that each built-in method can send."""

WITH_FEEDBACK = ("topk",)
"""The built-in codecs that leave elements out, which the device adds to its next update."""

WITHOUT_BUFFER = ("fedavg", "fedasync", "asyncfeded")
"""Nothing waits in these for others."""

BY_COORDINATE = ("median", "trimmed_mean", "bulyan", "cosine")
"""Rules of ``robust`` that look at each element by itself, or at the coordinate-wise median."""

OPTIMIZER_KEYS = {
    "momentum": ("sgd",),
    "beta1": ("adam", "fedadam", "fedadagrad", "yogi"),
    "beta2": ("adam", "fedadam", "yogi"),
    "epsilon": ("adam", "adagrad", "fedadam", "fedadagrad", "yogi"),
    "amsgrad": ("adam",),
}
"""Which server optimizers read a key of ``[server_optimizer]``; all of them read the learning rate."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A spec, and what is known of its parts.

    Attributes:
        spec: as it was read.
        merges: what its strategy merges; None where that is not known yet.
        sends: what its method can send; None where that is not known yet.
        has_feedback: whether its codec leaves elements out; None where that is not known yet.
    """

    spec: CampaignSpec
    merges: str | None
    sends: tuple[str, ...] | None
    has_feedback: bool | None

    @classmethod
    def of(
        cls,
        spec: CampaignSpec,
        merges: str | None = None,
        sends: Collection[str] | None = None,
        has_feedback: bool | None = None,
    ) -> Choice:
        """With what the tables above know in the place of what is not given."""
        strategy, method, codec = spec.aggregation.strategy, spec.training.method, spec.codec.name
        known = METHOD_SENDS.get(method)
        return cls(
            spec,
            STRATEGY_SENDS.get(strategy) if merges is None else merges,
            known if sends is None else tuple(sends),
            (codec in WITH_FEEDBACK if codec in CODECS else None) if has_feedback is None else has_feedback,
        )

    @property
    def strategy(self) -> str:
        """``aggregation.strategy``."""
        return self.spec.aggregation.strategy

    @property
    def method(self) -> str:
        """``training.method``."""
        return self.spec.training.method

    @property
    def codec(self) -> str:
        """``codec.name``."""
        return self.spec.codec.name

    def changed(self, key: str) -> Any:
        """The value of a key such as ``"server_optimizer.momentum"``; None where it is at its default."""
        section_name, _, name = key.partition(".")
        section = getattr(self.spec, section_name)
        value = getattr(section, name)
        default = type(section).model_fields[name].get_default(call_default_factory=True)
        return None if value == default else value


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of combination that is refused.

    Attributes:
        what: the combination, as the page of the methods says it.
        why: in a few words, there too.
        refuse: the sentence for a choice that is of this kind, without the full stop; None for any other.
    """

    what: str
    why: str
    refuse: Refuse


def refusal(choice: Choice) -> str | None:
    """Why a choice cannot work, by the first row that says so; None where none does."""
    return next((sentence for row in ROWS if (sentence := row.refuse(choice)) is not None), None)


def _parts(it: Choice) -> str | None:
    if it.method == "partial" and it.strategy in STRATEGIES and it.strategy != "partial":
        return (
            f"training.method = 'partial' sends parts of the model, and {it.strategy} merges whole ones; set "
            "aggregation.strategy = 'partial'"
        )
    if it.strategy == "partial" and it.method != "partial":
        return (
            f"aggregation.strategy = 'partial' merges parts, and training.method = {it.method!r} sends whole models; "
            "set training.method = 'partial', or use fedbuff"
        )
    return None


def _soft_labels(it: Choice) -> str | None:
    if it.strategy != "distillation" or it.method == "distillation":
        return None
    return (
        f"aggregation.strategy = 'distillation' merges soft labels, and training.method = {it.method!r} sends none; "
        "set training.method = 'distillation'"
    )


def _not_sent(it: Choice) -> str | None:
    if it.sends is None or it.merges is None or it.merges in it.sends:
        return None
    return (
        f"training.method = {it.method!r} sends {' or '.join(map(_words, it.sends))} and aggregation.strategy = "
        f"{it.strategy!r} merges {_words(it.merges)}; choose a strategy and a method that fit each other"
    )


def _words(sends: str) -> str:
    return sends.replace("_", " ")


def _left_out(it: Choice) -> str | None:
    if not it.has_feedback or it.merges in (None, "delta"):
        return None
    return (
        f"codec.name = {it.codec!r} is for deltas, and strategy {it.strategy!r} merges {_words(str(it.merges))}, most "
        "of which it would leave out; use int8, bf16 or fp16"
    )


def _votes_left_out(it: Choice) -> str | None:
    rule = it.spec.aggregation.args.get("rule", "trimmed_mean")
    if it.strategy != "robust" or not it.has_feedback or rule not in BY_COORDINATE:
        return None
    return (
        f"codec.name = {it.codec!r} leaves most elements out, and rule = {rule!r} would take their zeros for votes; "
        "use int8, or a rule that judges whole updates (krum, multi_krum, geometric_median, norm_clip)"
    )


def _rounded_versions(it: Choice) -> str | None:
    down = it.spec.codec.down
    if it.merges != "parameters" or down not in ("fp16", "bf16"):
        return None
    return (
        f"codec.down = {down!r} is for strategies that merge deltas; {it.strategy} merges parameters, so each rounding "
        "on the way down would come back into the model; use fp32, int8, or fedbuff"
    )


def _ranks(it: Choice) -> str | None:
    importance = it.changed("codec.importance")
    if importance is None:
        return None
    if it.codec != "topk":
        return f"importance = {importance!r} belongs to name = 'topk'; {it.codec!r} does not read it, remove it"
    if it.method in ("partial", "per_fedavg"):
        return (
            f"codec.importance = {importance!r} is not read with training.method = {it.method!r}, whose updates are "
            "ranked by magnitude; remove it"
        )
    return None


def _own_args(it: Choice) -> str | None:
    if it.changed("codec.own_args") is None or it.codec not in CODECS:
        return None
    return f"codec.own_args belongs to a codec of your own; {it.codec!r} does not read it, remove it"


def _waits(it: Choice) -> str | None:
    if it.changed("aggregation.max_wait_seconds") is None or it.strategy not in WITHOUT_BUFFER:
        return None
    return (
        f"aggregation.max_wait_seconds is for strategies with a buffer, and {it.strategy} has none that could wait; "
        "remove it"
    )


def _never_full(it: Choice) -> str | None:
    size, concurrency = it.spec.aggregation.buffer_size, it.spec.dispatch.concurrency
    if it.strategy != "fedbuff" or size <= concurrency * 1000:
        return None
    return (
        f"aggregation.buffer_size = {size} is far above dispatch.concurrency = {concurrency}; a merge would take a "
        "thousand tasks per device"
    )


def _plateaus(it: Choice) -> str | None:
    if it.spec.training.schedule != "plateau" or it.spec.evaluation.data is not None:
        return None
    return (
        "training.schedule = 'plateau' counts evaluations, and there are none; name evaluation.data, or choose another "
        "schedule"
    )


def _memory_of_parts(it: Choice) -> str | None:
    optimizer = it.spec.server_optimizer
    if it.strategy != "partial" or (optimizer.name == "sgd" and not optimizer.momentum):
        return None
    return (
        f"server_optimizer.name = {optimizer.name!r} with momentum = {optimizer.momentum} would move tensors that no "
        "update brought; strategy 'partial' takes name = 'sgd' without momentum"
    )


def _other_optimizers(it: Choice) -> str | None:
    for key, names in OPTIMIZER_KEYS.items():
        value, name = it.changed(f"server_optimizer.{key}"), it.spec.server_optimizer.name
        if value is not None and name not in names:
            shown, belongs = "true" if value is True else value, " or ".join(map(repr, names))
            return f"server_optimizer: {key} = {shown} belongs to name = {belongs}; remove it for {name!r}"
    return None


def _unread(keys: Collection[str], by: Collection[str], instead: str = "remove it") -> Refuse:
    """Settings that a strategy or a method would not look at."""

    def refuse(it: Choice) -> str | None:
        of = "method" if keys and all(key.startswith("training.") for key in keys) else "strategy"
        name = it.method if of == "method" else it.strategy
        for key in keys if name in by else ():
            if (value := it.changed(key)) is not None:
                return f"{key} = {value!r} is not read by {of} {name!r}; {instead}"
        return None

    return refuse


_OPTIMIZER = tuple(f"server_optimizer.{key}" for key in ("name", "learning_rate", *OPTIMIZER_KEYS))
_ALL_BUT_RATE = tuple(key for key in _OPTIMIZER if not key.endswith("learning_rate"))

ROWS: tuple[Row, ...] = (
    Row("strategy `partial` without method `partial`, or the other way round",
        "one merges parts of the model, the other sends them", _parts),
    Row("strategy `distillation` with another method", "it merges soft labels, which no other method sends",
        _soft_labels),
    Row("a method that cannot send what the strategy merges", "a delta is no model, and neither is a soft label",
        _not_sent),
    Row("`codec.name = \"topk\"`, or another codec with feedback, where no deltas are merged (`fedasync`, "
        "`distillation`)", "what is left out would read as 0", _left_out),
    Row("strategy `robust` by `median`, `trimmed_mean` or `cosine` with such a codec",
        "what is left out would count as votes for 0", _votes_left_out),
    Row("`codec.down = \"fp16\"` or `\"bf16\"` where parameters are merged (`fedasync`)",
        "each rounding on the way down would come back into the model", _rounded_versions),
    Row("`codec.importance` without `topk`, or with method `partial` or `per_fedavg`",
        "nothing else ranks elements; these two methods rank by magnitude", _ranks),
    Row("`codec.own_args` with a built-in codec", "none reads it", _own_args),
    Row("`aggregation.args` with `fedavg`, `fedasync`, `partial` or `distillation`", "they have none of their own",
        _unread(("aggregation.args",), ("fedavg", "fedasync", "partial", "distillation"))),
    Row("`aggregation.example_weighting` with `fedasync`, `fadas`, `ca2fl`, `asyncfeded`, `attention`, `fedatt`, "
        "`robust` or `partial`", "they do not weigh by examples, or always do in a way of their own",
        _unread(("aggregation.example_weighting",), ("fedasync", "fadas", "ca2fl", "asyncfeded", "attention", "fedatt",
                                                     "robust", "partial"))),
    Row("`[server_optimizer]` with `fedasync` or `asyncfeded`", "they have none",
        _unread(_OPTIMIZER, ("fedasync", "asyncfeded"), "remove it and set aggregation.mixing")),
    Row("`[server_optimizer]` with `distillation`", "the student has a rate of its own",
        _unread(_OPTIMIZER, ("distillation",), "remove it and set student_learning_rate")),
    Row("`[server_optimizer]` but its `learning_rate` with `fadas`", "it has a rule of its own",
        _unread(_ALL_BUT_RATE, ("fadas",))),
    Row("a server optimizer with a memory with `partial`", "it would move tensors that no update brought",
        _memory_of_parts),
    Row("a key of another rule in `[server_optimizer]`", "the rule does not read it", _other_optimizers),
    Row("`training.proximal_weight`, `distillation_weight` or `precision` with method `per_fedavg`",
        "its loop is another one",
        _unread(("training.proximal_weight", "training.distillation_weight", "training.precision"), ("per_fedavg",))),
    Row("`aggregation.max_wait_seconds` with `fedavg`, `fedasync` or `asyncfeded`", "they have no buffer", _waits),
    Row("`aggregation.buffer_size` above a thousand times `dispatch.concurrency` with `fedbuff`",
        "a merge would take a thousand tasks per device", _never_full),
    Row("`training.schedule = \"plateau\"` without `evaluation.data`", "there is nothing to count", _plateaus),
    *(Row(what, why, refuse) for what, why, refuse in PRIVATE),
    *(Row(what, why, only_masked(refuse)) for what, why, refuse in MASKED),
)  # fmt: skip
