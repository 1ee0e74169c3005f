"""What can be known before a campaign depends on it: data, model, loss, method and codec, each tried once."""
