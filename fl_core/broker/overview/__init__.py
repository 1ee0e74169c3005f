"""The view of all campaigns and workers for those who reach the broker: their status and their past."""
