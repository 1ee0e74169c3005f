"""Differential privacy of devices: what it costs, the bound on an update, the noise, and who has how much left."""
