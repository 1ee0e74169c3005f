"""The campaign's lease: kept by the coordinator that leads, and watched by one that stands by."""
