"""The server itself: one of our own to start, and any other to be judged."""
