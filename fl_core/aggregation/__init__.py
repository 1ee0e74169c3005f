"""Aggregation: how admitted updates become versions. Pure numpy and torch, state in, state out, no input or output.

``build_strategy`` makes the strategy that a spec names; ``offer`` a ``Contribution`` to it and it answers with the
``Merge`` that followed, if one did.
"""

from fl_core.aggregation.build import build_strategy
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.strategy import Merge, Strategy

__all__ = ["Contribution", "Merge", "Strategy", "build_strategy"]
