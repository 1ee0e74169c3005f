"""Who belongs to a federation: its authority's folder, and the users that follow from it at the servers."""
