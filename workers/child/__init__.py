"""The training child: the process in which people's code runs, and what it does with one task."""
