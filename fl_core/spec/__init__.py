"""The campaign's spec: what it may say (``sections``), and how it is read and written (``reading``)."""

from __future__ import annotations

from fl_core.spec.reading import (
    explain,
    load_spec,
    parse_section,
    parse_spec,
    to_toml,
)
from fl_core.spec.sections import (
    CODECS,
    METHODS,
    STRATEGIES,
    AggregationSection,
    Arguments,
    CampaignSection,
    CampaignSpec,
    CheckpointSection,
    CodecSection,
    DispatchSection,
    EvaluationSection,
    GuardSection,
    ImportPath,
    ModelSection,
    Section,
    ServerOptimizerSection,
    Slug,
    StopSection,
    TrainingSection,
)

__all__ = [
    "CODECS",
    "METHODS",
    "STRATEGIES",
    "AggregationSection",
    "Arguments",
    "CampaignSection",
    "CampaignSpec",
    "CheckpointSection",
    "CodecSection",
    "DispatchSection",
    "EvaluationSection",
    "GuardSection",
    "ImportPath",
    "ModelSection",
    "Section",
    "ServerOptimizerSection",
    "Slug",
    "StopSection",
    "TrainingSection",
    "explain",
    "load_spec",
    "parse_section",
    "parse_spec",
    "to_toml",
]
