"""A running campaign's reports: status, feed, timing, spans, metrics. They never change its course."""
