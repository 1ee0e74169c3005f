"""What a device keeps from one task to the next, on disk and in memory."""
