"""Fleets that look like fleets: devices drawn from distributions, one by one as they are needed."""
