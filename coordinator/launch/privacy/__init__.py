"""A launch with ``[privacy]``: what it needs from its surroundings, and what it says before it begins."""
