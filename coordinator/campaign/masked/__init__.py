"""Secure aggregation in a campaign: sums of masked updates that fill, wait for their keepers, and move the model."""
