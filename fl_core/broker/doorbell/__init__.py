"""Celery, and all that fedtide uses of it: messages that wake a worker, and its connections. Nothing else imports it."""
