"""The rooms that know Redis and Celery: everything else asks here."""
