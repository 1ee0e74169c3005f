"""What every program of fedtide does as a program: command line, logs, streams, children, metrics port."""
