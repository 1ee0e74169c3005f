"""The device's side of the algorithm: local training on private data."""
