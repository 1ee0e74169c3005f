"""The watchtower: queues, workers and campaigns for people (terminal, web page) and for Prometheus; read-only."""
