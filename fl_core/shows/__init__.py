"""Shows of a campaign's result at its end: ``evaluation.show = "fl_core.shows:sample"``.

A show is a callable ``show(model, summary, folder, **show_args) -> str``. It gets the last version in a model on the
CPU, in evaluation mode, the content of ``summary.json``, and the run's folder, where it may leave pictures. Its text is
printed and kept in ``show.txt``.
"""

from fl_core.shows.heatmap import heatmap
from fl_core.shows.sample import sample
from fl_core.shows.translations import translations

__all__ = ["heatmap", "sample", "translations"]
