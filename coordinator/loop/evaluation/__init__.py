"""Evaluations: what the loop asks of whoever scores versions, and the process that does it beside the merging."""
