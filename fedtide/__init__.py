"""Asynchronous federated learning over a message queue, for people who write Python.

    >>> import fedtide
    >>> run = fedtide.run("campaign.toml", fleet="fleet.toml")  # doctest: +SKIP
    >>> run.summary["final_accuracy"], run.model()  # doctest: +SKIP

``run`` launches a campaign and returns when it has ended; ``open_run`` reads one that has; ``connect`` lists, watches
and steers the campaigns of a broker. Names that are exported here stay; others may move.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedtide.operate import Broker, Campaign, connect
    from fedtide.running import run
    from fedtide.runs import Run, open_run
    from fl_core.aggregation import Contribution, Merge, Strategy
    from fl_core.aggregation.strategy import read_args
    from fl_core.codecs import Codec
    from fl_core.errors import (
        BrokerError,
        BrokerUnavailable,
        CampaignError,
        DataError,
        FedtideError,
        LayoutError,
        Reason,
        RejectedUpdate,
        SpecError,
        UserCodeError,
    )
    from fl_core.spec import CampaignSpec, Section, TrainingSection, load_spec, parse_spec
    from fl_core.training.method import DeviceTask, Method, Outcome, read_method_args
    from fl_core.vectors import Delta, FloatArray, Parameters
    from fl_core.vectors.layout import Layout

    __version__: str

# Imported when first asked for: `import fedtide` itself loads neither torch nor redis.
_HOMES = {
    "fedtide.operate": ("Broker", "Campaign", "connect"),
    "fedtide.running": ("run",),
    "fedtide.runs": ("Run", "open_run"),
    "fl_core.aggregation": ("Contribution", "Merge", "Strategy"),
    "fl_core.aggregation.strategy": ("read_args",),
    "fl_core.codecs": ("Codec",),
    "fl_core.errors": (
        "BrokerError",
        "BrokerUnavailable",
        "CampaignError",
        "DataError",
        "FedtideError",
        "LayoutError",
        "Reason",
        "RejectedUpdate",
        "SpecError",
        "UserCodeError",
    ),
    "fl_core.spec": ("CampaignSpec", "Section", "TrainingSection", "load_spec", "parse_spec"),
    "fl_core.training.method": ("DeviceTask", "Method", "Outcome", "read_method_args"),
    "fl_core.vectors": ("Delta", "FloatArray", "Parameters"),
    "fl_core.vectors.layout": ("Layout",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Broker",
    "BrokerError",
    "BrokerUnavailable",
    "Campaign",
    "CampaignError",
    "CampaignSpec",
    "Codec",
    "Contribution",
    "DataError",
    "Delta",
    "DeviceTask",
    "FedtideError",
    "FloatArray",
    "Layout",
    "LayoutError",
    "Merge",
    "Method",
    "Outcome",
    "Parameters",
    "Reason",
    "RejectedUpdate",
    "Run",
    "Section",
    "SpecError",
    "Strategy",
    "TrainingSection",
    "UserCodeError",
    "connect",
    "load_spec",
    "open_run",
    "parse_spec",
    "read_args",
    "read_method_args",
    "run",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("fedtide")
    if (home := _HOME_OF.get(name)) is None:
        raise AttributeError(f"module 'fedtide' has no attribute {name!r}")
    _verify_no_namesake()
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def _verify_no_namesake() -> None:
    """A script's own folder is searched before what is installed, and what it imports is the script's business.

    Raises:
        ImportError: it has a module with the name of a package that this one stands on.
    """
    for name in ("coordinator", "fl_core"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).parents[1] != Path(__file__).parents[1]:
            raise ImportError(
                f"fedtide needs its own package {name!r}, but that name is taken here by "
                f"{spec and (spec.origin or spec.name)}; rename yours.",
                name=name,
            )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
