"""Decisions from evaluations, as a function of the log: records, plateaus, the guard, and the version to deliver."""
