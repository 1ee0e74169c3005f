"""Models that a campaign may name out of the box: ``factory = "fl_core.models:mlp"``.

Each factory returns a plain ``torch.nn.Module`` on the CPU, and refuses arguments that make no model.
"""

from fl_core.models.cnn import cnn
from fl_core.models.mlp import mlp

__all__ = ["cnn", "mlp"]
