"""The program ``fedtide-keeper``: it tells sums of masks, and never a single one (``fl_core/secure_aggregation``)."""
