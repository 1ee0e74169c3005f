"""A run's history for other programs that show runs: as points, the same for each of them."""
