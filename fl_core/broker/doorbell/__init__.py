"""Celery, and all that fedtide uses of it: messages that wake a worker, on its connections. Imported only here."""
