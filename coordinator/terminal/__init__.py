"""Displays in a terminal: tables, progress and ``top``. Nothing else imports rich."""
