"""Metrics of held-out data: what ``evaluation.metrics`` may name, and how each adds up over batches of any size.

``names.py`` knows every built-in name and its direction without loading torch, ``scorers.py`` makes what a spec names,
``counted.py`` finds the targets of a batch that count. Nothing is imported here: the spec needs the names alone.
"""
