"""What a campaign says of itself while it runs: status, feed, timing, spans, metrics. It never changes its course."""
