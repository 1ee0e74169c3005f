"""What evaluations decide, as a function of the log: records, plateaus, the guard, and which version is delivered."""
