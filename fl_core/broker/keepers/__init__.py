"""Keepers at the broker: who is there, what they are asked, and what they answer."""
