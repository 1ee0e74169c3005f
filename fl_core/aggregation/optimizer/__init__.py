"""Server optimizers: the rules by their settings, and one of them at work on a campaign's parameters."""
