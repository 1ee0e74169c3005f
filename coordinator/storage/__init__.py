"""What a campaign keeps on disk: whole files only, so that a crash at any instruction leaves one that can be read."""
