"""One connection to Redis: its short way, slow lines, the bound on replies, and its failures in words."""
