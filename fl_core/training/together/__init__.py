"""Local SGD on many devices at once, for simulations."""
