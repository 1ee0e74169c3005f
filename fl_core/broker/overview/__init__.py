"""What anybody who reaches the broker can see: campaigns, workers, their status and their past."""
