"""Card payments at banks, for a model that tells fraud: made, not collected."""
