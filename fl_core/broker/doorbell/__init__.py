"""Celery, and all that fedtide uses of it: messages that wake a worker. Nothing else imports it."""
