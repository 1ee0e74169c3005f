"""Whom a running campaign trusts: operators, for each request, and whom its authority has taken back."""
