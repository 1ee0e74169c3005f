"""Strategy, method and codec of a campaign, built as it will build them: whether they go together."""

from __future__ import annotations

from fl_core.aggregation import Strategy
from fl_core.codecs import codec
from fl_core.codecs.own_codec import verify_codec
from fl_core.errors import SpecError
from fl_core.spec import CampaignSpec
from fl_core.spec.combinations import Choice, refusal
from fl_core.training.method import build_method
from fl_core.vectors.layout import Layout


def verify_parts(spec: CampaignSpec, strategy: Strategy, layout: Layout) -> None:
    """Refuse parts that do not fit each other, and a codec of the user's own that loses a vector's form.

    Raises:
        SpecError: method or codec cannot be built, the table of combinations refuses them, or the model sends running
            statistics, which privacy cannot bound.
    """
    if spec.privacy.mode != "off" and layout.num_state:
        raise SpecError(
            f"privacy.mode = {spec.privacy.mode!r}: devices would send {layout.num_state} running statistics of the "
            "model (BatchNorm), which no clipping bounds; use GroupNorm or LayerNorm, or freeze them in model.buffers "
            "('constant', 'local')."
        )
    if spec.secure_aggregation.is_on and layout.num_state:
        raise SpecError(
            f"secure_aggregation: devices would send {layout.num_state} running statistics of the model (BatchNorm), "
            "which have no masks; use GroupNorm or LayerNorm, or freeze them in model.buffers ('constant', 'local')."
        )
    method, chosen = build_method(spec.training), codec(spec.codec.name, spec.codec.args)
    if (wrong := refusal(Choice.of(spec, strategy.sends, method.sends, chosen.needs_feedback))) is not None:
        raise SpecError(f"{wrong}.")
    if ":" in spec.codec.name:
        verify_codec(spec.codec.name, chosen, layout.num_elements)
