"""Evaluations: the interface by which the loop has versions scored, and the process that does it beside the merging."""
