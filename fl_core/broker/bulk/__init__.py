"""Bulk bytes: models and updates, in chunks, on the broker or on a second server."""
