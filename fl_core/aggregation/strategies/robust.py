"""Byzantine-robust merging: a buffer with one vote for each worker, and a rule that no minority can lead astray.

The rules and their papers are in ``robust_rules.py``.
"""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from pydantic import Field

from fl_core.aggregation import robust_rules
from fl_core.aggregation.buffered import BufferedStrategy, buffer_settings
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.optimizer.rules import SGD, ServerRule
from fl_core.aggregation.staleness import StalenessWeight, polynomial
from fl_core.aggregation.strategy import Merge, at_least_one
from fl_core.aggregation.vote_buffer import VoteBuffer
from fl_core.errors import SpecError
from fl_core.spec import CampaignSpec, Section, parse_section, read_args
from fl_core.vectors import Delta, FloatArray, Parameters
from fl_core.vectors.arithmetic import scale_into
from fl_core.vectors.layout import Layout

_PATIENCE = 4
"""With this many times K updates a buffer is also full where fewer than K workers have voted, if they are enough."""

Rule: TypeAlias = Literal[
    "median", "trimmed_mean", "geometric_median", "krum", "multi_krum", "bulyan", "norm_clip", "cosine"
]


class RobustArgs(Section):
    """``[aggregation.args]``. Each rule reads what it needs."""

    rule: Rule = "trimmed_mean"
    num_byzantine: int = Field(default=2, ge=0)
    num_selected: int | None = Field(default=None, ge=1)
    clip_factor: float = Field(default=1.0, gt=0)
    min_cosine: float = Field(default=0.0, ge=-1, lt=1)


class Robust(BufferedStrategy):
    """x <- x + η_g · s̄ · rule(Δ_1, ..., Δ_K) after the updates of K different workers.

    The rule sees the deltas as they are, since it judges an update by how it compares with the others, and one that was
    shortened for its staleness would look like an outlier among fresh ones. Staleness shortens the step instead: s̄ is
    the mean over the votes of s(τ). Several updates of one worker are averaged into its one vote (see
    ``vote_buffer.py``), so that nobody gains by being fast.

    Nothing is merged without the votes of 2 f + 1 workers (2 f + 3 for Krum, 4 f + 3 for Bulyan), f =
    ``num_byzantine``: with fewer, f hostile ones may be the majority. With that many, 4 K updates fill the buffer as
    well where fewer than K workers are about, and a flush merges; the step is then shortened by v / K for v votes.

    Memory is that of K + 1 models. Example weights are not used: a device may claim any number.

    Args:
        layout, initial: as of ``Strategy``.
        buffer_size: K.
        staleness: s(τ).
        optimizer: how the parameters follow what the rule says.
        rule: see ``robust_rules.py``.
        num_byzantine: f.
        num_selected: how many votes ``multi_krum`` takes; None for as many as it may.
        clip_factor: of ``norm_clip`` and ``cosine``.
        min_cosine: of ``cosine``.

    Raises:
        SpecError: a setting lies outside of its range, or ``buffer_size`` is too small for the rule.
    """

    name = "robust"
    one_vote_each = True
    _buffer: VoteBuffer

    def __init__(
        self,
        layout: Layout,
        initial: Parameters,
        *,
        buffer_size: int = 10,
        staleness: StalenessWeight = polynomial(0.5),
        optimizer: ServerRule = SGD(1.0),
        rule: Rule = "trimmed_mean",
        num_byzantine: int = 2,
        num_selected: int | None = None,
        clip_factor: float = 1.0,
        min_cosine: float = 0.0,
    ) -> None:
        settings = {
            "rule": rule, "num_byzantine": num_byzantine, "num_selected": num_selected, "clip_factor": clip_factor,
            "min_cosine": min_cosine,
        }  # fmt: skip
        self._args = parse_section(RobustArgs, settings, "Robust")
        self._quorum = votes_needed(self._args)
        at_least_one(buffer_size=buffer_size)
        verify_size(buffer_size, self._args)
        buffer = VoteBuffer(buffer_size, layout.num_elements)
        super().__init__(layout, initial, buffer, buffer_size=buffer_size, optimizer=optimizer)
        self._staleness_weight = staleness
        self.held_vectors = buffer_size + 1

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """With what the spec says of buffer, staleness, optimizer and rule."""
        return cls(
            layout,
            initial,
            **buffer_settings(spec),
            **dict(read_args(spec, RobustArgs)),
        )

    def offer(self, contribution: Contribution) -> Merge | None:
        """Add Δ_i to its worker's vote; the K-th vote merges.

        Raises:
            InvariantError: the contribution is not a delta.
        """
        buffer = self._buffer
        buffer.add(
            contribution.delta,
            worker=contribution.worker,
            weight=self._staleness_weight(contribution.staleness),
            staleness=contribution.staleness,
        )
        if buffer.num_votes >= self._buffer_size or buffer.count >= _PATIENCE * self._buffer_size:
            return self.flush()
        return None

    def flush(self, share: float = 1.0) -> Merge | None:
        """Merge what waits; None, and it goes on waiting, where fewer workers have voted than the rule needs."""
        return super().flush(share) if self._buffer.num_votes >= self._quorum else None

    @property
    def waits_for(self) -> str:
        """What a full buffer still lacks; empty where it lacks nothing."""
        buffer = self._buffer
        if buffer.num_votes >= self._quorum or buffer.count < self._buffer_size:
            return ""
        return (
            f"updates of {self._quorum} different workers, which rule = {self._args.rule!r} needs against "
            f"num_byzantine = {self._args.num_byzantine}; {buffer.num_votes} have sent any"
        )

    def mean(self, share: float) -> Delta:
        buffer = self._buffer
        result = decide(buffer.votes(), self._args)
        staleness_weight = buffer.vote_weight()
        scale_into(result, result, staleness_weight * buffer.num_votes / self._buffer_size)
        return Delta(result)


def verify_size(size: int, args: RobustArgs) -> None:
    """Refuse a buffer in which hostile updates could be the majority, or be selected.

    Raises:
        SpecError: it is too small.
    """
    if size < (needed := votes_needed(args)):
        raise SpecError(
            f"buffer_size = {size} is too small for rule = {args.rule!r} with num_byzantine = {args.num_byzantine}, "
            f"which needs {needed}; raise it, or lower num_byzantine."
        )
    if args.rule == "multi_krum" and (args.num_selected or 1) > size - args.num_byzantine - 2:
        raise SpecError(
            f"num_selected = {args.num_selected} is above buffer_size - num_byzantine - 2 = "
            f"{size - args.num_byzantine - 2}, so a hostile update could be among them; lower it."
        )


def votes_needed(args: RobustArgs) -> int:
    """The least number of votes for which the rule holds against ``num_byzantine`` hostile ones."""
    match args.rule:
        case "krum" | "multi_krum":
            return 2 * args.num_byzantine + 3
        case "bulyan":
            return 4 * args.num_byzantine + 3
        case _:
            return 2 * args.num_byzantine + 1


def decide(votes: FloatArray, args: RobustArgs) -> FloatArray:
    """The rule's delta for these votes, at least ``votes_needed`` of them."""
    match args.rule:
        case "median":
            return robust_rules.median(votes)
        case "trimmed_mean":
            return robust_rules.trimmed_mean(votes, args.num_byzantine)
        case "geometric_median":
            return robust_rules.geometric_median(votes)
        case "bulyan":
            return robust_rules.bulyan(votes, args.num_byzantine)
        case "krum":
            return robust_rules.krum(votes, args.num_byzantine)
        case "multi_krum":
            most = len(votes) - args.num_byzantine - 2
            return robust_rules.krum(votes, args.num_byzantine, min(args.num_selected or most, most))
        case "norm_clip":
            return robust_rules.clipped_mean(votes, args.clip_factor)
        case "cosine":
            return robust_rules.cosine_filtered_mean(votes, args.min_cosine, args.clip_factor)
