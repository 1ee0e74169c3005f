"""The coordinator at work: it reads the log, has the campaign apply it, and writes what follows from that."""
