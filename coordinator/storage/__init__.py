"""A campaign's files: whole files only, so that a crash at any instruction leaves one that can be read."""
