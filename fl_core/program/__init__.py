"""Common to all programs of fedtide: command line, logs, streams, children, metrics port."""
