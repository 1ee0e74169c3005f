"""Data that a campaign may name out of the box: ``data = "fl_core.data:digits"``.

Each factory returns a map-style dataset of pairs (x, y). ``play`` divides a text by its speakers; all others take the
same arguments for which part of the data is meant (see ``fl_core/data/selection.py``), so one file can play many
devices in a simulation.
"""

from fl_core.data.bundled import breast_cancer, digits
from fl_core.data.files import npz
from fl_core.data.numerals import numerals
from fl_core.data.tables import csv, parquet
from fl_core.data.text import play

__all__ = ["breast_cancer", "csv", "digits", "npz", "numerals", "parquet", "play"]
