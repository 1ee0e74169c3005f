"""A device's memory from one task to the next, on disk and in memory."""
