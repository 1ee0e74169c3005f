"""Byzantine-robust merging: a buffer with one vote for each worker, and a rule that no minority can lead astray.

The rules and their papers are in ``robust_rules.py``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fl_core.aggregation import robust_rules
from fl_core.aggregation.buffered import BufferedStrategy
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.staleness import staleness_weight
from fl_core.aggregation.strategy import Merge, read_args, verify_unread
from fl_core.aggregation.vote_buffer import VoteBuffer
from fl_core.errors import SpecError
from fl_core.spec import CampaignSpec, Section
from fl_core.vectors import Delta, FloatArray, Parameters
from fl_core.vectors.arithmetic import scale_into
from fl_core.vectors.layout import Layout

_PATIENCE = 4
"""With this many times K updates a buffer is also full where fewer than K workers have voted, if they are enough."""

# Rules that look at each element by itself, or at the coordinate-wise median.
_BY_COORDINATE = ("median", "trimmed_mean", "cosine")


class RobustArgs(Section):
    """``[aggregation.args]``. Each rule reads what it needs."""

    rule: Literal["median", "trimmed_mean", "krum", "multi_krum", "norm_clip", "cosine"] = "trimmed_mean"
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

    Nothing is merged without the votes of 2 f + 1 workers (2 f + 3 for Krum), f = ``num_byzantine``: with fewer, f
    hostile ones may be the majority. With that many, 4 K updates fill the buffer as well where fewer than K workers are
    about, and a flush merges; the step is then shortened by v / K for v votes.

    Memory is that of K + 1 models. Example weights are not used: a device may claim any number.

    Raises:
        SpecError: ``aggregation.buffer_size`` is too small for the rule, or the codec leaves elements out and the rule
            goes by coordinates.
    """

    name = "robust"
    _buffer: VoteBuffer

    def __init__(self, spec: CampaignSpec, layout: Layout, initial: Parameters) -> None:
        self._args = read_args(spec, RobustArgs)
        verify_unread(spec, "aggregation.example_weighting")
        size, args = spec.aggregation.buffer_size, self._args
        self._quorum = votes_needed(args)
        if spec.codec.name == "topk" and args.rule in _BY_COORDINATE:
            raise SpecError(
                f"codec.name = 'topk' leaves most elements out, and rule = {args.rule!r} would take their zeros for "
                "votes; use int8, or a rule that judges whole updates (krum, multi_krum, norm_clip)."
            )
        if size < (needed := self._quorum):
            raise SpecError(
                f"aggregation.buffer_size = {size} is too small for rule = {args.rule!r} with num_byzantine = "
                f"{args.num_byzantine}, which needs {needed}; raise it, or lower aggregation.args.num_byzantine."
            )
        if args.rule == "multi_krum" and (args.num_selected or 1) > size - args.num_byzantine - 2:
            raise SpecError(
                f"aggregation.args.num_selected = {args.num_selected} is above buffer_size - num_byzantine - 2 = "
                f"{size - args.num_byzantine - 2}, so a hostile update could be among them; lower it."
            )
        super().__init__(spec, layout, initial, VoteBuffer(size, layout.num_elements))
        self._staleness_weight = staleness_weight(spec.aggregation)
        self.held_vectors = size + 1

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

    def _mean(self, share: float) -> Delta:
        buffer = self._buffer
        result = decide(buffer.votes(), self._args)
        staleness_weight = buffer.vote_weight()
        scale_into(result, result, staleness_weight * buffer.num_votes / self._buffer_size)
        return Delta(result)


def votes_needed(args: RobustArgs) -> int:
    """The least number of votes for which the rule holds against ``num_byzantine`` hostile ones."""
    match args.rule:
        case "krum" | "multi_krum":
            return 2 * args.num_byzantine + 3
        case _:
            return 2 * args.num_byzantine + 1


def decide(votes: FloatArray, args: RobustArgs) -> FloatArray:
    """The rule's delta for these votes, at least ``votes_needed`` of them."""
    match args.rule:
        case "median":
            return robust_rules.median(votes)
        case "trimmed_mean":
            return robust_rules.trimmed_mean(votes, args.num_byzantine)
        case "krum":
            return robust_rules.krum(votes, args.num_byzantine)
        case "multi_krum":
            most = len(votes) - args.num_byzantine - 2
            return robust_rules.krum(votes, args.num_byzantine, min(args.num_selected or most, most))
        case "norm_clip":
            return robust_rules.clipped_mean(votes, args.clip_factor)
        case "cosine":
            return robust_rules.cosine_filtered_mean(votes, args.min_cosine, args.clip_factor)
