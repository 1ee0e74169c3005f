"""Data, model, loss, method and codec, each tried once before a campaign depends on it."""
