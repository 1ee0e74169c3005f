"""``fedtide-worker``: the daemon on a device. It knows nothing of the coordinator but what travels."""
