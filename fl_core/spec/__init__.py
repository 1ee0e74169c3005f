"""The campaign's spec: what it may say (``sections``), and how it is read and written (``reading``)."""

from __future__ import annotations

from fl_core.spec.codec import CodecSection
from fl_core.spec.judging import EvaluationSection, GuardSection, MetricSection, StopMetric, StopSection
from fl_core.spec.privacy import PrivacySection
from fl_core.spec.reading import (
    explain,
    load_spec,
    parse_section,
    parse_spec,
    read_args,
    to_toml,
)
from fl_core.spec.section import Arguments, ImportPath, Section, Slug
from fl_core.spec.sections import (
    AggregationSection,
    CampaignSection,
    CampaignSpec,
    CheckpointSection,
    DispatchSection,
    ModelSection,
    ServerOptimizerSection,
)
from fl_core.spec.secure_aggregation import SecureAggregationSection
from fl_core.spec.training import TrainingSection

__all__ = [
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
    "MetricSection",
    "ModelSection",
    "PrivacySection",
    "Section",
    "SecureAggregationSection",
    "ServerOptimizerSection",
    "Slug",
    "StopMetric",
    "StopSection",
    "TrainingSection",
    "explain",
    "load_spec",
    "parse_section",
    "parse_spec",
    "read_args",
    "to_toml",
]
