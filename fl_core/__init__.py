"""The ground floor: what coordinator and workers both stand on. It imports neither."""
